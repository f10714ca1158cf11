//! The reference plugins' files and protocol, and a DHCP server: the tests of `cni` that need them.

use super::Site;
use crate::Result;
use crate::program::cargo;

fn run(test: &str) -> Result<()> {
    cargo(["test", "--locked", "--package", "cni", "--test", test, "--", "--ignored"])
}

pub(super) fn shared_leases(_: &Site) -> Result<()> {
    run("leases")
}

pub(super) fn dhcp(_: &Site) -> Result<()> {
    run("dhcp")
}
