//! How the small build begins, seen from outside while it waits for somebody to read its log.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sextant-shim");

/// The command with `words`, which has opened nothing but its log, a pipe that nobody reads.
struct Held {
    child: Child,
    _dir: tempfile::TempDir,
    pipe: PathBuf,
}

impl Held {
    fn new(words: &[&str], mut command: Command) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("log");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
        command.arg("--root").arg(dir.path()).arg("--log").arg(&pipe).args(words);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command runs");
        let held = Self { child, _dir: dir, pipe };
        let deadline = Instant::now() + Duration::from_secs(90);
        while !held.waits() {
            assert!(Instant::now() < deadline, "it does not wait for its log");
            std::thread::sleep(Duration::from_millis(1));
        }
        held
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(name)
    }

    fn waits(&self) -> bool {
        fs::read_to_string(self.file("wchan"))
            .is_ok_and(|text| text.contains("fifo") || text.contains("wait_for_partner"))
            || fs::read_to_string(self.file("stack")).is_ok_and(|text| text.contains("fifo_open"))
    }

    fn end(mut self) -> Option<i32> {
        // Held until then: a command seen on its way into the wait, and not yet in it, would wait for the next reader.
        let reader = fs::File::options().read(true).write(true).open(&self.pipe).expect("the pipe");
        let code = self.child.wait().expect("it ends").code();
        drop(reader);
        code
    }
}

fn called(name: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg0(name);
    command
}

/// Needs root: whoever may not mount has nothing that it would protect.
#[test]
#[cfg(target_arch = "x86_64")]
fn what_clones_runs_from_a_copy_before_it_does_anything() {
    for word in ["create", "run", "exec"] {
        let held = Held::new(&[word, "nobody", "true"], called("sextant-oci"));
        let exe = fs::read_link(held.file("exe")).unwrap();
        // A detached mount has no path.
        assert_eq!(exe, Path::new("/"), "{word}");
        let flags = rustix::fs::statvfs(held.file("exe")).unwrap().f_flag;
        assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{word}");
        assert_ne!(held.end(), Some(0), "there is no such container");
    }
}

#[test]
fn what_does_not_clone_runs_from_the_file() {
    for word in ["state", "running", "executed", "creat"] {
        let held = Held::new(&[word, "nobody"], called("sextant-oci"));
        let exe = fs::read_link(held.file("exe")).unwrap();
        assert_eq!(exe, fs::canonicalize(PROGRAM).unwrap(), "{word}");
        assert_ne!(held.end(), Some(0), "there is no such container");
    }
}

#[test]
fn nothing_gets_the_number_of_a_standard_stream() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("sextant-oci");
    std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$@\" <&- >&- 2>&-", "sh"]).arg(link);
    let held = Held::new(&["state", "nobody"], command);
    for number in 0..3 {
        let link = fs::read_link(held.file(&format!("fd/{number}"))).unwrap();
        assert_eq!(link, Path::new("/dev/null"), "{number}");
    }
    assert_ne!(held.end(), Some(0), "there is no such container");
}

#[test]
fn what_is_printed_is_seen_and_a_closed_pipe_kills_nobody() {
    let output = called("sextant-oci").arg("--version").output().unwrap();
    assert!(output.status.success() && output.stdout.ends_with(b"\n"), "{output:?}");
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    let status = called("sextant-oci").arg("--help").stdout(write).stderr(Stdio::null()).status().unwrap();
    assert!(status.code().is_some(), "{status}");
}
