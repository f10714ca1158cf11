//! The reference plugins' files and protocol, and a DHCP server: the tests of `cni` that need them.

use super::{Site, ignored};
use crate::Result;

pub(super) fn shared_leases(_: &Site) -> Result<()> {
    ignored("leases", &[], &[])
}

pub(super) fn dhcp(_: &Site) -> Result<()> {
    ignored("dhcp", &[], &[])
}
