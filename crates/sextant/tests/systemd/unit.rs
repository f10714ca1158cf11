//! Units, their cgroups, and what is waited for.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use testkit::bare::{Outcome, check};

/// Longer than anything takes that will happen at all, on an emulated machine.
const LIMIT: Duration = Duration::from_secs(240);
/// Names the test program that the guest runs once more after it has booted anew.
pub(crate) const AGAIN: &str = "/var/lib/sextant-tests-again";

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The program where the units look for it.
pub(crate) fn program() -> Result<&'static Path> {
    let sextant = Path::new("/usr/local/bin/sextant");
    if !sextant.exists() {
        symlink(env!("CARGO_BIN_EXE_sextant"), sextant)?;
    }
    Ok(sextant)
}

pub(crate) fn systemctl(words: &[&str]) -> Result<String> {
    call("systemctl", words)
}

/// A property of a unit, as systemd shows it.
pub(crate) fn show(unit: &str, property: &str) -> Result<String> {
    systemctl(&["show", "--value", "--property", property, unit])
}

pub(crate) fn call(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    check(output.status.success(), || {
        format!("{program} {words:?}: {}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(said)
}

pub(crate) fn cgroup_of(pid: i32) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    Ok(text.trim().strip_prefix("0::/").ok_or("no cgroup v2")?.to_owned())
}

pub(crate) fn read(cgroup: &str, file: &str) -> Result<String> {
    Ok(fs::read_to_string(Path::new("/sys/fs/cgroup").join(cgroup).join(file))?.trim().to_owned())
}

pub(crate) fn procs(cgroup: &str) -> Result<Vec<String>> {
    Ok(read(cgroup, "cgroup.procs")?.lines().map(str::to_owned).collect())
}

pub(crate) fn is(what: &str, found: &str, expected: &str) -> Outcome {
    check(found == expected, || format!("{what} is {found:?}, not {expected:?}"))
}

pub(crate) fn until(what: &str, holds: impl Fn() -> Result<bool>) -> Outcome {
    let end = Instant::now() + LIMIT;
    while !holds()? {
        check(Instant::now() < end, || {
            let log = call("journalctl", &["--no-pager", "--lines=40"]).unwrap_or_default();
            format!("not within {} s: {what}\n{log}", LIMIT.as_secs())
        })?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
