//! One execution of a program of others: it gets a time, and leaves a log.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kernel::process::{CStrings, Child, Exit, Waited, await_end, cstring, spawn_path};

use super::super::connection::Refusal;
use super::super::process::kill_and_reap;
use crate::protocol::Code;
use crate::told;

/// What is read of a log, bytes from its end.
const READ: u64 = 64 << 10;

/// What an execution finds in its environment beside the usual.
#[derive(Debug, Default)]
pub(super) struct Env(pub(super) Vec<String>);

/// A command that runs. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Call {
    child: Option<Child>,
    /// The handler, the program and the command, for messages.
    what: String,
    log: PathBuf,
    limit: Duration,
    deadline: Instant,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.child.iter().for_each(kill_and_reap);
        drop(fs::remove_file(&self.log));
    }
}

impl Call {
    /// Executes `words`, the program first, with these streams; what it complains of goes to `log`.
    pub(super) fn begin(
        what: String,
        words: &[String],
        env: &Env,
        log: PathBuf,
        limit: Duration,
        stdio: &[BorrowedFd<'_>],
    ) -> Result<Self, Refusal> {
        let failed = |e: kernel::Error| match e.errno() {
            Some(errno) => {
                Refusal::new(code(&errno.into()), format!("{what}: {}", std::io::Error::from(errno)))
            }
            None => Refusal::internal(format!("{what}: {e}")),
        };
        let usual = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            // A program in Go takes a thread for each CPU, which one that lives some milliseconds has no use for.
            "GOMAXPROCS=2".to_owned(),
        ];
        let env = CStrings::new(usual.iter().chain(&env.0));
        let args = CStrings::new(words);
        let path = cstring(words.first().map_or(&b""[..], |word| word.as_bytes()));
        let child = args
            .and_then(|args| spawn_path(&path?, &args, &env?, stdio))
            .inspect_err(|_| drop(fs::remove_file(&log)))
            .map_err(failed)?;
        Ok(Self { child: Some(child), what, log, limit, deadline: Instant::now() + limit })
    }

    /// When it is killed.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.pid)
    }

    /// Readable when it has ended.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(|child| child.pidfd.as_fd())
    }

    /// Waits for its end, as long as it may take.
    pub(super) fn wait(mut self) -> Result<(), Refusal> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if let Some(pidfd) = self.descriptor()
            && let Waited::TimedOut = await_end(pidfd, Some(left), None).map_err(Refusal::internal)?
        {
            return Err(self.late());
        }
        self.try_end().unwrap_or_else(|| Err(self.late()))
    }

    /// What came of it, if it has ended or its time is over.
    pub(super) fn try_end(&mut self) -> Option<Result<(), Refusal>> {
        let exit = match self.child.as_ref()?.try_wait() {
            Ok(None) if Instant::now() >= self.deadline => return Some(Err(self.late())),
            Ok(None) => return None,
            Ok(Some(exit)) => exit,
            Err(e) => return Some(Err(Refusal::internal(format!("{}: {e}", self.what)))),
        };
        self.child = None;
        Some(match exit {
            Exit::Code(0) => Ok(()),
            exit => Err(self.failed(exit)),
        })
    }

    fn late(&self) -> Refusal {
        Refusal::internal(format!(
            "{}: killed, for it has not ended within {} s",
            self.what,
            self.limit.as_secs()
        ))
    }

    fn failed(&self, exit: Exit) -> Refusal {
        let said = read_end(&self.log).ok().and_then(|bytes| told::failure(&bytes));
        let said = said.unwrap_or_else(|| match exit {
            Exit::Code(code) => format!("it ended with {code} and did not say why"),
            Exit::Signal { signal, .. } => format!("signal {signal} ended it"),
        });
        Refusal::new(cause(&said), format!("{}: {said}", self.what))
    }
}

fn read_end(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Seek, SeekFrom};
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ)))?;
    let mut bytes = Vec::new();
    file.take(READ).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What the words of a runtime mean for whoever shows an exit code: runc's and crun's are much alike.
pub(super) fn cause(said: &str) -> Code {
    let lower = said.to_lowercase();
    let program = lower.contains("executable file") || lower.contains("exec:") || lower.contains("exec ");
    match () {
        () if lower.contains("not found in $path") => Code::NotFound,
        () if program && lower.contains("no such file or directory") => Code::NotFound,
        () if program && lower.contains("permission denied") => Code::FailedPrecondition,
        () => Code::Internal,
    }
}

fn code(error: &std::io::Error) -> Code {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_of_the_container_is_told_from_other_failures() {
        for (said, code) in [
            (
                r#"unable to start container process: exec: "x": executable file not found in $PATH: unknown"#,
                Code::NotFound,
            ),
            ("executable file `x` not found in $PATH: No such file or directory", Code::NotFound),
            (r#"exec: "/x": stat /x: no such file or directory"#, Code::NotFound),
            (r#"exec: "/x": permission denied"#, Code::FailedPrecondition),
            ("open `/etc/passwd`: Permission denied", Code::Internal),
            ("mount /a: no such file or directory", Code::Internal),
        ] {
            assert_eq!(cause(said), code, "{said}");
        }
    }

    /// What comes of `words`, with `limit` of time.
    fn run(words: &[&str], limit: Duration) -> Result<(), Refusal> {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let null = fs::File::open("/dev/null").unwrap();
        let complaints = fs::File::create(&log).unwrap();
        let fds = [null.as_fd(), null.as_fd(), complaints.as_fd()];
        let done = Call::begin("a call".into(), &words, &Env::default(), log.clone(), limit, &fds)
            .and_then(Call::wait);
        assert!(!log.exists(), "nothing is left");
        done
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let began = Instant::now();
        let error = run(&["/bin/sleep", "1000"], Duration::from_millis(100)).unwrap_err().message;
        assert!(error.contains("a call: killed") && began.elapsed() < Duration::from_secs(500), "{error}");
    }

    #[test]
    fn a_command_that_fails_is_quoted() {
        let limit = Duration::from_secs(300);
        run(&["/bin/true"], limit).unwrap();
        let error = run(&["/bin/ls", "/nonexistent-file"], limit).unwrap_err().message;
        assert!(error.starts_with("a call: ") && error.contains("/nonexistent-file"), "{error}");
        let error = run(&["/bin/false"], limit).unwrap_err().message;
        assert!(error.contains("ended with 1"), "{error}");
        let error = run(&["/nonexistent/program"], limit).unwrap_err().message;
        assert!(error.contains("a call: No such file"), "{error}");
    }
}
