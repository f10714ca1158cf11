//! The core group.
