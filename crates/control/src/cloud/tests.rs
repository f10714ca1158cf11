//! What tests of several controllers share.

pub(super) mod stand;
