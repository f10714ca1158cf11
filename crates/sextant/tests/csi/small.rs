//! `sextant csi-driver` becomes the small program that is installed beside it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::LIMIT;

/// It stands where the small program is looked for, and tells what it got.
const SMALL: &str = "#!/bin/sh
echo \"small $$ $# $NOTIFY_SOCKET\"
echo \"$1\"
";

/// `sextant` and a small program, as installed.
struct Installed(tempfile::TempDir);

impl Installed {
    fn new() -> Installed {
        let real = Path::new(env!("CARGO_BIN_EXE_sextant"));
        // A second name of a file is on the same file system.
        let dir = tempfile::tempdir_in(real.parent().unwrap()).unwrap();
        let installed = Installed(dir);
        fs::hard_link(real, installed.path("sextant")).unwrap();
        // By another process: children of other tests would hold what is written here (ETXTBSY).
        fs::write(installed.path("text"), SMALL).unwrap();
        let mut copy = Command::new("cp");
        copy.arg(installed.path("text")).arg(installed.path("sextant-csi"));
        assert!(copy.status().unwrap().success());
        fs::set_permissions(installed.path("sextant-csi"), fs::Permissions::from_mode(0o755)).unwrap();
        installed
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn driver(&self, run: &OsStr) -> Driver {
        let (out, said) = (self.path("out"), self.path("said"));
        let mut command = Command::new(self.path("sextant"));
        command.arg("--data-dir").arg(self.path("data")).arg("--run-dir").arg(self.path(run));
        command.args(["csi-driver", "--node-id", "node-1"]).stdin(Stdio::null());
        command.env("NOTIFY_SOCKET", "/nowhere/notify").env_remove("CSI_ENDPOINT");
        let child = command.stdout(File::create(&out).unwrap()).stderr(File::create(&said).unwrap()).spawn();
        Driver { child: child.unwrap(), out, said }
    }
}

/// Killed when it is dropped.
struct Driver {
    child: Child,
    out: PathBuf,
    said: PathBuf,
}

impl Driver {
    fn out(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    fn until(&mut self, what: &str, is: impl Fn(&mut Driver) -> bool) {
        let until = Instant::now() + LIMIT;
        while !is(self) {
            assert!(Instant::now() < until, "not {what}: {} {}", self.out(), self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it serves, by itself.
    fn serves(&mut self) {
        self.until("serving", |driver| {
            assert!(driver.child.try_wait().unwrap().is_none(), "{} {}", driver.out(), driver.said());
            driver.said().contains("csi-driver: serves")
        });
        assert_eq!(self.out(), "");
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_driver_becomes_the_small_program_in_the_same_process() {
    let installed = Installed::new();
    let mut driver = installed.driver(OsStr::new("run"));
    driver.until("ended", |driver| driver.child.try_wait().unwrap().is_some());
    let out = driver.out();
    let [first, told] = &out.lines().collect::<Vec<_>>()[..] else { panic!("{out} {}", driver.said()) };
    assert_eq!(*first, format!("small {} 1 /nowhere/notify", driver.child.id()));
    let told: Value = serde_json::from_str(told).unwrap();
    let setup = &told["serving"]["setup"];
    assert_eq!(setup["node"], "node-1");
    assert_eq!(setup["socket"], installed.path("run/csi.sock").to_str().unwrap());
    assert_eq!(setup["config"]["pool"][0]["path"], installed.path("data/csi").to_str().unwrap());
}

#[test]
fn what_cannot_be_the_small_program_is_passed_over() {
    let installed = Installed::new();
    // A path that JSON has no words for.
    installed.driver(OsStr::from_bytes(b"run-\xff")).serves();
    // Nothing to execute.
    fs::set_permissions(installed.path("sextant-csi"), fs::Permissions::from_mode(0o644)).unwrap();
    installed.driver(OsStr::new("a")).serves();
    // One of another version.
    fs::set_permissions(installed.path("sextant-csi"), fs::Permissions::from_mode(0o755)).unwrap();
    let small = File::options().write(true).open(installed.path("sextant-csi")).unwrap();
    small.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    drop(small);
    installed.driver(OsStr::new("b")).serves();
}
