//! Ownership of fields by example.
