//! Where shims are on a machine of systemd: in a scope of their own, not in the node's service.
//!
//! Limits, an end for want of memory and `systemctl kill` of the service concern what is in its cgroup, and systemd warns
//! of everybody it finds there when it starts the service again. Shims outlive the node, so none of that is to concern
//! them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernel::cgroup::{Cgroup, Layout};
use oci_runtime::systemd::{Error, Property, Systemd, Unit, dbus::Value, of_unit};

/// The first version whose scopes have `OOMPolicy`. Its default would end all shims with one that the kernel kills.
const WITH_OOM_POLICY: u32 = 253;

/// The scope of an instance's shims.
#[derive(Debug)]
pub(crate) struct Scope {
    unit: Unit,
    /// The service that this process is.
    service: PathBuf,
    /// Never do two look at a time.
    looking: Mutex<Looking>,
    complained: AtomicBool,
}

#[derive(Debug, Default)]
struct Looking {
    /// Somebody looks.
    begun: bool,
    /// Somebody is to look, once more after that.
    asked: bool,
}

impl Scope {
    /// The scope for the shims of `instance`; `None` where this process is no service of systemd, or cgroups are v1's, where
    /// shims stay where the node is.
    pub(crate) fn of(instance: &str) -> Option<Arc<Self>> {
        if kernel::cgroup::layout().ok()? != Layout::Unified {
            return None;
        }
        let service = service(&fs::read_to_string("/proc/self/cgroup").ok()?)?;
        let unit = Unit::parse(&format!("system.slice:{instance}:shims"), "shims", false).ok()?;
        Some(Arc::new(Self { unit, service, looking: Mutex::default(), complained: AtomicBool::new(false) }))
    }

    /// Moves the shims that are in the service, and what they have made for their pods, in the background: nothing waits
    /// for that, and what a node is killed over the next one does.
    pub(crate) fn take_all(self: &Arc<Self>) {
        let mut looking = self.looking();
        looking.asked = true;
        if std::mem::replace(&mut looking.begun, true) {
            return;
        }
        drop(looking);
        let scope = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            while scope.goes_on() {
                scope.look();
            }
        });
    }

    fn looking(&self) -> MutexGuard<'_, Looking> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has asked since the last look.
    fn goes_on(&self) -> bool {
        let mut looking = self.looking();
        looking.begun = std::mem::take(&mut looking.asked);
        looking.begun
    }

    fn look(&self) {
        let pids = Cgroup::at(&self.service).and_then(|cgroup| cgroup.pids()).unwrap_or_default();
        for pid in pids.into_iter().filter(|&pid| is_shim(pid) || parent(pid).is_some_and(is_shim)) {
            let ended = || kernel::process::start_time(pid).is_err();
            if let Err(error) = self.place(pid)
                && !ended()
            {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    eprintln!(
                        "sextant node: warning: shims stay in {}: {error}; its limits concern them as well",
                        self.service.display()
                    );
                }
                // The others would have to wait for the same.
                return;
            }
        }
    }

    fn place(&self, pid: i32) -> oci_runtime::Result<()> {
        // Delegated to us, so systemd need not be asked, once it is there. It goes with the last shim.
        let cgroup = Cgroup::at(&self.unit.cgroup())?;
        if cgroup.add(pid).is_ok() {
            return Ok(());
        }
        let mut systemd = Systemd::connect(&self.unit.name, false)?;
        let mut properties = of_unit(&self.unit, "shims of Sextant's pods", pid, Layout::Unified);
        if systemd.version()? >= WITH_OOM_POLICY {
            properties.push(Property { name: "OOMPolicy".into(), value: Value::text("continue") });
        }
        match systemd.start(&properties) {
            Err(error) if Error::is_taken(&error) => Ok(cgroup.add(pid)?),
            other => Ok(other?),
        }
    }
}

/// The cgroup of the service that a process is in, from its `/proc/PID/cgroup` on v2.
fn service(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = Path::new(path);
    path.extension().is_some_and(|kind| kind == "service").then(|| path.to_owned())
}

fn parent(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

fn is_shim(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.starts_with(b"sextant-shim\0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_and_a_parent_are_found() {
        let path = |text| service(text).map(|path| path.display().to_string());
        assert_eq!(parent(std::process::id() as i32), Some(std::os::unix::process::parent_id() as i32));
        assert_eq!(
            path("0::/system.slice/sextant-node.service\n").as_deref(),
            Some("system.slice/sextant-node.service")
        );
        for other in ["0::/\n", "0::/user.slice/user-0.slice/session-1.scope\n", "4:memory:/a.service\n", ""]
        {
            assert_eq!(path(other), None, "{other}");
        }
    }
}
