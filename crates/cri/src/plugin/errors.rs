//! What the parts of a node fail with, as CRI tells it.

use crate::contract::{Code, Error};
use crate::plugin::shims;

impl From<kernel::Error> for Error {
    fn from(error: kernel::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<ledger::Error> for Error {
    fn from(error: ledger::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<oci_image::store::Error> for Error {
    fn from(error: oci_image::store::Error) -> Self {
        Self::internal(error.to_string())
    }
}

/// A shim speaks gRPC's codes.
impl From<shims::Error> for Error {
    fn from(error: shims::Error) -> Self {
        let code = match error.code() {
            Some(code) => Code::from_number(code.unsigned_abs()),
            None => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}
