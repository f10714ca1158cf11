//! What a shim fails with, as CRI tells it.

use crate::contract::{Code, Error};
use crate::plugin::shims;

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
