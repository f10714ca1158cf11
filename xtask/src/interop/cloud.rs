//! A cloud provider in another language, over another gRPC.

use super::{Site, ignored, python_library};
use crate::Result;

/// One version, so that a run says the same tomorrow. It brings grpcio and protobuf.
const GRPC: &str = "grpcio-tools==1.85.1";

/// The provider of `examples/cloud/rack.py`: examined, and below `sextant control`, killed and started again.
pub(super) fn python(_: &Site) -> Result<()> {
    let libraries = python_library(GRPC)?;
    ignored("cloud", &["python::"], &[("SEXTANT_TEST_GRPC_LIBRARY", libraries.as_ref())])
}
