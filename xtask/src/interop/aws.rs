//! The AWS provider, alone and in `sextant control`, against moto's server, which is EC2 and Elastic Load Balancing in memory.

use super::{Site, ignored, python_library};
use crate::Result;
use crate::program::target;

/// One version, so that a run says the same tomorrow.
const MOTO: &str = "moto[server]==5.2.5";

/// A cluster's life: nodes, load balancers and routes, with calls that fail on the way; and `sextant control`, killed while services
/// come and go.
pub(super) fn moto(_: &Site) -> Result<()> {
    let libraries = python_library(MOTO)?;
    let words = target().join("interop").join("moto.words");
    let (_moto, address) = testkit::moto::start(&libraries, &words)?;
    let address = address.to_string();
    ignored("moto", &["--test-threads", "1"], &[("SEXTANT_TEST_MOTO", address.as_ref())])?;
    // Each test of these starts moto in a network of its own.
    ignored("cloud", &["aws::"], &[("SEXTANT_TEST_MOTO_LIBRARY", libraries.as_ref())])
}
