//! The reference plugins' files and protocol, and a DHCP server: the tests of `cni` that need them.

use super::Site;
use crate::Result;
use crate::program::cargo_command;
use crate::rings::chosen_tests;

fn run(test: &str) -> Result<()> {
    // Named without its package, as in the crash ring: nothing is built once more with other features.
    let mut command = cargo_command();
    command.args(["test", "--locked", "--workspace", "--test", test, "--", "--ignored"]);
    let count = chosen_tests(command)?;
    if count.failed == 0 { Ok(()) } else { Err(count.failures.join("; ").into()) }
}

pub(super) fn shared_leases(_: &Site) -> Result<()> {
    run("leases")
}

pub(super) fn dhcp(_: &Site) -> Result<()> {
    run("dhcp")
}
