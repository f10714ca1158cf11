//! The reference plugins' files and protocol, and a DHCP server: the tests of `cni` that need them.

use super::Site;
use crate::Result;
use crate::program::cargo;

fn run(test: &str) -> Result<()> {
    // Named without its package, as in the crash ring: nothing is built once more with other features.
    cargo(["test", "--locked", "--workspace", "--test", test, "--", "--ignored"])
}

pub(super) fn shared_leases(_: &Site) -> Result<()> {
    run("leases")
}

pub(super) fn dhcp(_: &Site) -> Result<()> {
    run("dhcp")
}
