//! What containerd runs: `containerd-shim-sextant-v1`, for `start`, `delete` and `-info`, and the server that `start` leaves.
//!
//! `start` is run in a container's bundle and prints where its shim listens: a new one, or that of the container's group
//! (the pod it is in by its annotations). A socket's name comes from the group alone, and whoever looks for somebody at one,
//! takes a dead one away or binds a new one holds a lock on their directory: of a group's starts one makes a shim.

mod arguments;
mod start;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use kernel::cgroup;
use prost::Message;

use crate::protocol::task::{Any, RuntimeInfo, RuntimeVersion, TaskDeleted, Timestamp};
use arguments::Arguments;

/// The program's name; the runtime's is `io.containerd.sextant.v1`.
pub const NAME: &str = "containerd-shim-sextant-v1";

/// What is read of standard input at most, bytes.
const LONGEST_INPUT: u64 = 10 << 20;

/// The program, with its name first. Returns the exit code.
pub fn run(args: impl IntoIterator<Item = std::ffi::OsString>) -> u8 {
    let done = Arguments::parse(args).and_then(|arguments| match arguments.action.as_str() {
        _ if arguments.version => print(format!("{NAME} {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
        _ if arguments.info => print(&info()?),
        "start" => print(&start::start(&arguments, &input()?)?),
        "delete" => print(&delete(&arguments)?),
        "" => start::serve(&arguments),
        other => Err(io::Error::other(format!("no action {other:?} (give start or delete)"))),
    });
    match done {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{NAME}: {error}");
            1
        }
    }
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(bytes).and_then(|()| out.flush())
}

fn input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().take(LONGEST_INPUT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What this runtime can do; the options that come in are given back.
fn info() -> io::Result<Vec<u8>> {
    let options = Any::decode(&*input()?).ok().filter(|any| !any.type_url.is_empty());
    let features = serde_json::to_vec(&oci_runtime::features())?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(RuntimeInfo {
        name: "io.containerd.sextant.v1".to_owned(),
        version: Some(RuntimeVersion { version, revision: String::new() }),
        options,
        features: Some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".to_owned(),
            value: features,
        }),
    }
    .encode_to_vec())
}

/// Takes away what a shim that was killed has left of a container.
fn delete(arguments: &Arguments) -> io::Result<Vec<u8>> {
    let bundle =
        if arguments.bundle.is_empty() { std::env::current_dir()? } else { PathBuf::from(&arguments.bundle) };
    let pid = left_pid(&bundle).unwrap_or(0);
    if let Ok(bytes) = std::fs::read(bundle.join("config.json"))
        && let Ok(spec) = oci_runtime::contract::parse(&bytes)
        && let Some(path) = spec.linux.map(|linux| linux.cgroups_path).filter(|path| !path.is_empty())
    {
        remove(&path, &arguments.id)?;
    }
    remove_dead_socket(&bundle);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let exited_at = Some(Timestamp::of(now.as_nanos() as i64));
    Ok(TaskDeleted { pid, exit_status: 137, exited_at }.encode_to_vec())
}

/// Takes away a socket that nobody listens at any more. That of a pod's other containers stays.
fn remove_dead_socket(bundle: &Path) {
    let Ok(address) = std::fs::read_to_string(bundle.join("address")) else { return };
    let Some(path) = address.trim().strip_prefix("unix://").map(Path::new) else { return };
    let (Ok(reach), Some(directory)) = (crate::short_path(path), path.parent()) else { return };
    let Ok(_lock) = start::lock(directory) else { return };
    if let Ok(false) = start::is_heard(reach.path()) {
        let _ = std::fs::remove_file(path);
    }
}

fn remove(path: &str, id: &str) -> io::Result<()> {
    let slice = !path.starts_with('/') && path.matches(':').count() == 2;
    if !slice {
        return cgroup::destroy(Path::new(path)).map_err(io::Error::other);
    }
    let unit = oci_runtime::systemd::Unit::parse(path, id, false).map_err(io::Error::other)?;
    oci_runtime::systemd::remove(&unit.name, false, Some(&unit.cgroup())).map_err(io::Error::other)
}

fn left_pid(bundle: &Path) -> Option<u32> {
    let numbers: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle.join("process.json")).ok()?).ok()?;
    numbers["pid"].as_u64()?.try_into().ok()
}
