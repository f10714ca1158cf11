//! The same command again, in a network namespace and with a /run, a /dev/shm and a CNI cache of its own: what programs
//! of others leave there (bridges, iptables chains, locks, pinned namespaces) goes with it, and what else runs here is not in the way.

use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::packages;

const MARK: &str = "SEXTANT_BENCH_ALONE";
const CNI: &str = "/var/lib/cni";
/// crun refuses v1 hierarchies with a v2 one beside them: there everybody gets v1 alone.
const SETUP: &str = r#"
    set -e
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /dev/shm
    mount -t tmpfs tmpfs /var/lib/cni
    ip link set lo up
    if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
    exec "$@"
"#;

/// Whether this is the second of the two.
pub(super) fn is() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Runs it; what it prints is what this would print.
pub(super) fn again() -> Result<()> {
    packages::install(packages::NEEDED)?;
    let made = !Path::new(CNI).exists();
    std::fs::create_dir_all(CNI)?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--propagation", "private", "sh", "-c", SETUP, "sh"]);
    unshare.arg(std::env::current_exe()?).args(std::env::args_os().skip(1)).env(MARK, "1");
    // What it becomes ends with this, and what that has begun is taken away by its guard.
    kernel::command::dies_with_thread(&mut unshare);
    let status = unshare.status().map_err(|e| format!("cannot run unshare: {e}"));
    if made {
        let _ = std::fs::remove_dir(CNI);
    }
    // It has said what was wrong.
    if status?.success() { Ok(()) } else { Err("the contest was not finished".into()) }
}
