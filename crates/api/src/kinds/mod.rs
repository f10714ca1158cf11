//! The rules of the built-in kinds.
