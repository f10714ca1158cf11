//! oci-runtime
pub mod contract;
