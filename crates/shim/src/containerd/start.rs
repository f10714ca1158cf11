//! `start`: a shim for a container, or the one of its group.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use kernel::process::{CStrings, Program, cstring};
use prost::Message;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde_json::Value;

use super::arguments::Arguments;
use super::{LONGEST_INPUT, NAME};
use crate::protocol::task::BootstrapParams;
use crate::server::Server;

/// Where sockets go if containerd does not say: theirs.
const SOCKETS: &str = "/run/containerd/s";
/// The annotations that name a container's group.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// Sees to it that the container's shim listens; what to print about it.
pub(super) fn start(arguments: &Arguments, input: &[u8]) -> io::Result<Vec<u8>> {
    for (flag, value) in [("-namespace", &arguments.namespace), ("-id", &arguments.id)] {
        if value.is_empty() {
            return Err(io::Error::other(format!("{flag} is missing (give the container's)")));
        }
    }
    let params = BootstrapParams::decode(input).ok().filter(|params| params.instance_id == arguments.id);
    let group = group().unwrap_or_else(|| arguments.id.clone());
    let sockets = params.as_ref().and_then(|p| p.socket_dir.clone()).filter(|dir| !dir.is_empty());
    let directory = PathBuf::from(sockets.unwrap_or_else(|| SOCKETS.into()));
    let path = directory.join(socket_name(&arguments.address, &arguments.namespace, &group));
    let address = format!("unix://{}", path.display());
    if let Some(listener) = listen(&directory, &path)? {
        let events = params.as_ref().map(|p| p.ttrpc_address.clone()).filter(|a| !a.is_empty());
        let events = events.or_else(|| std::env::var("TTRPC_ADDRESS").ok()).unwrap_or_default();
        spawn(arguments, &path, &listener, &events).inspect_err(|_| drop(fs::remove_file(&path)))?;
    }
    // How containerd 1.6 finds it again.
    fs::write("address", &address)?;
    // Since 1.7 it says that it takes more than a line.
    if params.is_some() || std::env::var_os("MAX_SHIM_VERSION").is_some() {
        let answer = serde_json::json!({"version": 3, "address": address, "protocol": "ttrpc"});
        return Ok(answer.to_string().into_bytes());
    }
    Ok(address.into_bytes())
}

/// The group that the bundle's annotations name.
fn group() -> Option<String> {
    let file = fs::File::open("config.json").ok()?;
    let spec: Value = serde_json::from_reader(io::Read::take(file, LONGEST_INPUT)).ok()?;
    GROUPS
        .iter()
        .find_map(|key| spec["annotations"][*key].as_str().filter(|id| !id.is_empty()))
        .map(str::to_owned)
}

/// The same for all containers of a group, and short: FNV-1a of 128 bits.
fn socket_name(address: &str, namespace: &str, group: &str) -> String {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for part in [address, namespace, group] {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    format!("sextant-{hash:032x}")
}

/// The sockets of `directory` are this process's to make and to take away, while this lives: of two that find the same
/// dead one the later would take away what the earlier has made.
pub(super) fn lock(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lock = rustix::fs::open(directory, flags, Mode::empty())?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))?;
    Ok(lock)
}

/// Whether somebody listens at `path`. One who is too busy to answer does: nobody waits for that with the lock.
pub(super) fn is_heard(path: &Path) -> io::Result<bool> {
    match crate::connect_now(path) {
        Ok(_) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// A new socket, or nothing if somebody listens there.
fn listen(directory: &Path, path: &Path) -> io::Result<Option<OwnedFd>> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(directory)?;
    let say = |e: io::Error| io::Error::new(e.kind(), format!("cannot lock {}: {e}", directory.display()));
    let _lock = lock(directory).map_err(say)?;
    let reach = crate::short_path(path)?;
    for _ in 0..3 {
        match UnixListener::bind(reach.path()) {
            Ok(listener) => {
                fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
                return Ok(Some(listener.into()));
            }
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                if is_heard(reach.path())? {
                    return Ok(None);
                }
                // Its shim was killed.
                drop(fs::remove_file(path));
            }
            Err(e) => {
                return Err(io::Error::new(e.kind(), format!("cannot listen at {}: {e}", path.display())));
            }
        }
    }
    Err(io::Error::other(format!("cannot listen at {}: it is taken again and again", path.display())))
}

/// Starts the server from a copy of this program that nothing in a container can reach.
fn spawn(arguments: &Arguments, socket: &Path, listener: &OwnedFd, events: &str) -> io::Result<()> {
    let own = kernel::mount::own_program().map_err(io::Error::other)?;
    let null: OwnedFd = fs::File::options().read(true).write(true).open("/dev/null")?.into();
    let log = log();
    let socket = socket.display().to_string();
    let args = [
        NAME,
        "-namespace",
        &arguments.namespace,
        "-id",
        &arguments.id,
        "-address",
        &arguments.address,
        "-socket",
        &socket,
    ];
    let env = [format!("TTRPC_ADDRESS={events}"), "RUST_BACKTRACE=0".to_owned()];
    let program = Program {
        file: own.as_fd(),
        args: CStrings::new(args).map_err(io::Error::other)?,
        env: CStrings::new(env).map_err(io::Error::other)?,
        fds: vec![null.as_fd(), null.as_fd(), log.as_ref().unwrap_or(&null).as_fd(), listener.as_fd()],
    };
    let child = kernel::process::spawn(&program).map_err(io::Error::other)?;
    // One more than containerd's own, as far as this process may say so.
    let own = fs::read_to_string(format!("/proc/{}/oom_score_adj", parent())).unwrap_or_default();
    if let Ok(score) = own.trim().parse::<i32>() {
        let _ = fs::write(format!("/proc/{}/oom_score_adj", child.pid), (score + 1).min(1000).to_string());
    }
    Ok(())
}

fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// The FIFO that containerd reads complaints from.
fn log() -> Option<OwnedFd> {
    let path = cstring(b"log").ok()?;
    rustix::fs::open(&path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// The server: descriptor 3 is its socket.
pub(super) fn serve(arguments: &Arguments) -> io::Result<()> {
    let listener = kernel::process::take_inherited(3).filter(|_| !arguments.socket.is_empty());
    let listener = listener.ok_or_else(|| {
        io::Error::other("nothing to do (containerd runs this with start or delete; -info tells of it)")
    })?;
    crate::prepare()?;
    let events = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
    let socket = PathBuf::from(&arguments.socket);
    Server::of_containerd(listener, socket, &events, &arguments.namespace)?.run()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::{listen, lock, socket_name};

    /// Whether somebody waits for a lock on `file`.
    fn is_waited_for(file: &Path) -> bool {
        let inode = format!(":{} ", fs::metadata(file).unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.contains(&inode))
    }

    #[test]
    fn who_finds_a_dead_socket_takes_away_no_other() {
        // On a tmpfs a file has one number, here and among the locks.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let first = lock(dir.path()).unwrap();
        let (directory, socket) = (dir.path().to_owned(), path.clone());
        let second = std::thread::spawn(move || listen(&directory, &socket));
        while !is_waited_for(dir.path()) {
            assert!(!second.is_finished(), "the second does not wait for the first");
            std::thread::yield_now();
        }
        fs::remove_file(&path).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(second.join().unwrap().unwrap().is_none(), "the second has taken away what the first made");
        drop(listener);
    }

    #[test]
    fn a_group_has_one_socket_and_no_other_group_has_it() {
        let name = |parts: [&str; 3]| socket_name(parts[0], parts[1], parts[2]);
        assert_eq!(name(["/a", "ns", "id"]), name(["/a", "ns", "id"]));
        for other in [["/a", "nsi", "d"], ["/an", "s", "id"], ["/a", "ns", "id2"]] {
            assert_ne!(name(["/a", "ns", "id"]), name(other));
        }
        assert_eq!(name(["", "", ""]).len(), 40);
    }
}
