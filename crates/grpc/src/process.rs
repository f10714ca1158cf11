//! What processes that serve have in common: when they are up, what they hold while they rest, and when they are to end.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// After so long with hardly any work things are quiet.
const QUIET: Duration = Duration::from_secs(5);
/// CPU time that is hardly any work: leases are renewed and timers run for ever.
const HARDLY: Duration = Duration::from_millis(15);
/// How often what comes back though things are quiet is given back.
const AGAIN: Duration = Duration::from_secs(60);

/// Tells systemd, where `command` is a unit of `Type=notify`, that it is up (sd_notify(3)).
pub fn tell_ready(command: &str) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = notify(&socket)
    {
        eprintln!("sextant {command}: warning: cannot tell systemd on {}: {error}", socket.display());
    }
}

fn notify(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

/// Resolves at SIGTERM or SIGINT.
pub async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Gives back what the start and bursts of requests have left, memory and text that ran for them, once things are quiet, and
/// every [`AGAIN`] as long as they are: little work has text come back, too, on kernels before 6.7 in pieces much larger than what runs.
pub async fn rest() -> ! {
    let mut is_full = true;
    let mut has_rested = false;
    let mut since = Duration::ZERO;
    loop {
        let before = cpu_time();
        tokio::time::sleep(QUIET).await;
        since += QUIET;
        if cpu_time().saturating_sub(before) > HARDLY {
            is_full = true;
        } else if is_full || since >= AGAIN {
            is_full = false;
            since = Duration::ZERO;
            // Where either fails (an older kernel) more is held, and nothing else. Not before: a start touches what it maps.
            if !has_rested {
                has_rested = true;
                let _ = kernel::memory::map_single_pages();
            }
            let _ = kernel::memory::give_back();
        }
    }
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_of_it_on_either_kind_of_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("@sextant-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name[1..]).unwrap();
        for (listener, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str()),
            (UnixDatagram::bind_addr(&address).unwrap(), OsStr::new(&abstract_name)),
        ] {
            notify(socket).unwrap();
            let mut heard = [0; 64];
            let length = listener.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
        assert!(notify(OsStr::new("/nowhere/notify")).is_err());
    }
}
