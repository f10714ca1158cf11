//! Types of `csi.v1`, and what a request must satisfy; and those of the registration of drivers with a kubelet.

mod capabilities;
pub mod registration;
mod secret;
mod text;
#[allow(missing_docs, reason = "the words of the .proto file are what there is")]
pub mod v1;
mod validate;

pub use grpc::{Code, Failure};
pub(crate) use text::shown;
pub use validate::Validate;
