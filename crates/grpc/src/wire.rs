//! What gRPC adds to HTTP/2, piece by piece: for a peer that is driven by hand, and for the fuzzers.

pub use crate::authority::heard as any_authority;
pub use crate::frame::{Received, encode as frame};
pub use crate::status::{decode as message, encode as percent_encode};
pub use crate::timeout::{format as format_timeout, parse as timeout};
