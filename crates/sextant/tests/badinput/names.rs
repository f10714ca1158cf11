//! A registry with a name, where nothing but our own `resolv.conf` and `hosts` could tell its address: the program in
//! an otherwise empty root, in a network namespace with a nameserver on port 53. Both namespaces are the thread's own and
//! end with it.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::image::{Image, files};
use crate::place::names;
use crate::registry::Registry;
use crate::site::{Ended, ended};

/// A root with one program in it, and a network with nobody in it but this thread, which has left the host's.
struct Alone {
    root: tempfile::TempDir,
    registry: Registry,
}

impl Alone {
    fn new(resolv_conf: &str, hosts: &str) -> Self {
        testkit::own_namespaces();
        let root = tempfile::tempdir().unwrap();
        // By another process: children of other tests would hold what is written here (ETXTBSY).
        let mut copy = Command::new("cp");
        copy.arg(env!("CARGO_BIN_EXE_sextant")).arg(root.path().join("sextant"));
        assert!(copy.status().unwrap().success());
        fs::create_dir(root.path().join("etc")).unwrap();
        // The kernel's own files: whether a record is of this boot is read there.
        fs::create_dir(root.path().join("proc")).unwrap();
        rustix::mount::mount("proc", root.path().join("proc"), "proc", MountFlags::empty(), None).unwrap();
        fs::write(root.path().join("etc/resolv.conf"), resolv_conf).unwrap();
        fs::write(root.path().join("etc/hosts"), hosts).unwrap();
        let image = Image::new(&[files(&[("etc/greeting", b"hello")])]);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { root, registry: Registry::on(listener, image, |_| false) }
    }

    /// The program with its root here.
    fn pull(&self, host: &str) -> Ended {
        let name = format!("{host}:{}/bad:1", self.registry.addr().port());
        let mut command = Command::new("chroot");
        command.arg(self.root.path()).args(["/sextant", "--data-dir", "/data", "--run-dir", "/run"]);
        command.args(["pull", "-q", "--plain-http", &name]).env_clear().stdin(Stdio::null());
        ended(command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap())
    }

    #[track_caller]
    fn pulls(&self, host: &str) {
        let ended = self.pull(host);
        assert!(ended.code == 0 && ended.err.is_empty(), "{host}: {ended:?}");
        let index = fs::read_to_string(self.root.path().join("data/images/index.json")).unwrap();
        assert!(index.contains(&format!("{host}:{}/bad:1", self.registry.addr().port())), "{index}");
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(self.root.path().join("proc"), UnmountFlags::empty());
        assert!(std::thread::panicking() || unmounted.is_ok(), "{unmounted:?}");
    }
}

/// Answers questions about `registry.test` on port 53, and says of every other name that there is none; what was
/// asked, as `name type`.
fn nameserver(address: &str) -> Arc<Mutex<Vec<String>>> {
    let socket = UdpSocket::bind((address, 53)).unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 600];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..length];
            let (mut labels, mut at) = (Vec::new(), 12);
            while query[at] > 0 {
                let end = at + 1 + usize::from(query[at]);
                labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
                at = end;
            }
            let (name, kind) = (labels.join("."), query[at + 2]);
            log.lock().unwrap().push(format!("{name} {kind}"));
            let (known, is_a) = (name == "registry.test", kind == 1);
            // An answer, recursion available; the question again; one address, if it is asked for.
            let mut answer = query[..2].to_vec();
            answer.extend([
                0x81,
                if known { 0x80 } else { 0x83 },
                0,
                1,
                0,
                u8::from(known && is_a),
                0,
                0,
                0,
                0,
            ]);
            answer.extend(&query[12..at + 5]);
            if known && is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, peer);
        }
    });
    asked
}

#[test]
fn a_name_is_found_by_the_nameserver_and_in_hosts() {
    let alone =
        Alone::new("# ours\nnameserver 127.0.0.53\nsearch nowhere.test\n", "127.0.0.1 inhosts.test\n");
    let asked = nameserver("127.0.0.53");
    alone.pulls("registry.test");
    assert!(asked.lock().unwrap().contains(&"registry.test 1".to_owned()), "{:?}", asked.lock().unwrap());
    asked.lock().unwrap().clear();
    alone.pulls("inhosts.test");
    assert!(asked.lock().unwrap().is_empty(), "what is in hosts is not asked for");

    let ended = alone.pull("unknown.test");
    assert!(ended.code == 1 && ended.err.lines().count() == 1, "{ended:?}");
    assert!(ended.err.starts_with("sextant: cannot ") && ended.err.contains("unknown.test"), "{ended:?}");
    let asked = asked.lock().unwrap();
    assert!(asked.contains(&"unknown.test.nowhere.test 1".to_owned()), "{asked:?}");
    let ingest = names(&alone.root.path().join("data/images/ingest"));
    assert_eq!(ingest, ["blobs", "layers"].map(str::to_owned).into());
}

#[test]
fn without_a_nameserver_the_file_to_look_at_is_named() {
    let alone = Alone::new("nameserver 127.0.0.99\n", "");
    let ended = alone.pull("registry.test");
    assert!(ended.code == 1 && ended.err.lines().count() == 1, "{ended:?}");
    for word in ["cannot", "registry.test", "127.0.0.99:53", "resolv.conf"] {
        assert!(ended.err.contains(word), "{word}: {ended:?}");
    }
    // No file at all means a nameserver on this machine, as it does for the C library.
    fs::remove_file(alone.root.path().join("etc/resolv.conf")).unwrap();
    fs::remove_file(alone.root.path().join("etc/hosts")).unwrap();
    let asked = nameserver("127.0.0.1");
    alone.pulls("registry.test");
    assert!(!asked.lock().unwrap().is_empty());
    alone.pulls("localhost");
}
