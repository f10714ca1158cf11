//! Shims for tests, and what their containers are made of: this machine's own root under an overlay.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use kernel::process::{CStrings, Child, Program};
use serde_json::{Value, json};
use shim::client::{Client, Event};

fn open(path: &str) -> OwnedFd {
    fs::File::options().read(true).write(path == "/dev/null").open(path).expect(path).into()
}

/// A number for each thing of this process that needs a name.
pub(crate) fn number() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A shim and its creator's connection. It complains into `dir`, and runs `touch` at its container's end.
pub(crate) fn spawn(dir: &Path) -> (Child, Client) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let theirs: OwnedFd = theirs.into();
    let program = std::env::var("SEXTANT_TEST_SHIM").ok();
    let program = program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_sextant-shim"));
    let (null, binary, touch) = (open("/dev/null"), open(program), open("/usr/bin/touch"));
    let stderr: OwnedFd = fs::File::create(dir.join("shim.err")).expect("a file").into();
    let shim = kernel::process::spawn(&Program {
        file: binary.as_fd(),
        args: CStrings::new(["sextant-shim"]).expect("arguments"),
        env: CStrings::new([""; 0]).expect("environment"),
        fds: vec![null.as_fd(), null.as_fd(), stderr.as_fd(), theirs.as_fd(), touch.as_fd()],
    })
    .expect("a shim");
    // A shim that hangs is to fail a test, not to hang it: whoever ends that from outside leaves the shim.
    ours.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
    (shim, Client::over(ours.into()))
}

/// Ends a shim, and what is in its containers' cgroup: for the drop of whoever has them.
pub(crate) fn end(shim: &Child, cgroup: &Path) {
    let _ = kernel::process::signal(shim.pidfd.as_fd(), 9);
    // The test may have seen its end already.
    let _ = shim.wait();
    match kernel::cgroup::destroy(cgroup) {
        // A second panic would end this process, and leave what its other tests have.
        Err(error) if std::thread::panicking() => eprintln!("left behind: {error}"),
        destroyed => destroyed.expect("the cgroup goes"),
    }
}

/// A container that runs `script` in a shell.
pub(crate) fn config(script: &str, cgroup: &Path) -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": {"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/usr/bin:/bin"], "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666", "mode=0620"]},
        ],
        "linux": {"cgroupsPath": cgroup, "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]},
    })
}

/// All that comes on a stream, as standard output, standard error and exit code.
pub(crate) fn drain(client: &mut Client, stream: u32) -> (String, String, i32) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match client.event(stream).expect("an event") {
            Event::Output(output) => {
                out.extend(output.stdout);
                err.extend(output.stderr);
            }
            Event::Exited(exited) => {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                return (text(&out), text(&err), exited.code);
            }
        }
    }
}
