//! Types of `runtime.v1`, and what a request must satisfy.

pub mod cdi;
mod secret;
#[allow(missing_docs, reason = "the words of the .proto file are what there is")]
pub mod v1;
mod validate;

pub use grpc::{Code, Failure as Error};
pub use validate::Validate;
pub(crate) use validate::{profile, security};
