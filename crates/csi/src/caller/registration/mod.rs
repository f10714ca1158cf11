//! Registration of drivers with a kubelet, both sides: [`Offer`] is what a kubelet finds in its `plugins_registry`, [`watch`] is what
//! a kubelet does there.

mod offer;
mod watch;

pub use offer::Offer;
pub use watch::{Event, Registered, watch};

/// Where kubelets look for plugins.
pub const REGISTRY: &str = "/var/lib/kubelet/plugins_registry";

#[cfg(test)]
mod tests;
