//! `sextant csi`, as a person uses it: against `sextant csi-driver`, and against a driver that fails as it is told to.
#![allow(clippy::unwrap_used, reason = "a test")]

mod fake;
mod manners;
mod own;
mod register;
mod small;
#[path = "../stands/mod.rs"]
mod stands;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything takes that will happen at all.
const LIMIT: Duration = Duration::from_secs(180);

/// An instance in a directory of its own, and the real program.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A path as an argument.
    fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().into()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
        command.arg("--data-dir").arg(self.path("data")).arg("--run-dir").arg(self.path("run")).args(args);
        command.env_remove("CSI_ENDPOINT").stdin(Stdio::null());
        command
    }

    /// `sextant csi`: its code, and what it said on standard output and standard error. One that hangs ends, and the test with it.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let (out, err) = (self.path("out"), self.path("err"));
        let file = |path: &Path| std::fs::File::create(path).unwrap();
        let mut child = self.command(&[&["csi"], args].concat());
        let mut child = child.stdout(file(&out)).stderr(file(&err)).spawn().unwrap();
        let until = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{args:?} does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        (status.code().unwrap_or(-1), text(&out), text(&err))
    }

    /// Runs what must succeed; its standard output, without the end of the line.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let (code, out, err) = self.run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
        out.trim_end().into()
    }

    /// Runs what must fail, and say these words.
    #[track_caller]
    fn refused(&self, args: &[&str], words: &[&str]) {
        let (code, out, err) = self.run(args);
        assert_eq!(code, 1, "{args:?}: {out} {err}");
        words.iter().for_each(|word| assert!(err.contains(word), "{args:?}, {word}: {err}"));
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// What is on record of published volumes.
    fn records(&self) -> usize {
        std::fs::read_dir(self.path("run/csi-published")).map_or(0, Iterator::count)
    }
}
