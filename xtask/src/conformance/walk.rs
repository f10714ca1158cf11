//! What walks of ours through several programs share: the steps' book, and the programs.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::api::soon;
use crate::Result;

/// Walks on a thread of its own, whose network and mounts are its own, too; programs that it starts have them with it.
pub(super) fn apart<W: Future<Output = Result<()>>>(walk: impl FnOnce() -> W + Send + 'static) -> Result<()> {
    let walk = std::thread::spawn(move || {
        testkit::own_namespaces();
        // One thread, as the namespaces are this thread's.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(walk()).map_err(|error| error.to_string())
    });
    Ok(walk.join().map_err(|_| "the walk has panicked")??)
}

/// What came of each step.
pub(super) struct Book {
    pub(super) results: String,
    since: Instant,
}

impl Default for Book {
    fn default() -> Self {
        Self { results: String::new(), since: Instant::now() }
    }
}

impl Book {
    /// Notes what came of a step, which has just ended, and shows it.
    pub(super) fn note(&mut self, name: &str, outcome: Result<()>) {
        let line = match outcome {
            Ok(()) => format!("{name} ok"),
            Err(error) => format!("{name} not ok {}", error.to_string().replace('\n', " ")),
        };
        println!("{:6.2} s  {line}", self.since.elapsed().as_secs_f64());
        self.since = Instant::now();
        let _infallible = writeln!(self.results, "{line}");
    }
}

/// A text that has to be one.
pub(super) fn text(value: &Value) -> Result<&str> {
    value.as_str().ok_or_else(|| format!("{value} is no text").into())
}

/// Fails, and says what is.
pub(super) fn must(is: bool, what: impl FnOnce() -> String) -> Result<()> {
    if is { Ok(()) } else { Err(what().into()) }
}

/// Where programs of a walk run: one folder for all that they keep, another for what they say.
pub(super) struct Programs {
    dir: tempfile::TempDir,
    sextant: PathBuf,
    out: PathBuf,
}

impl Programs {
    /// A new folder in `within`; it goes with this.
    pub(super) fn new(sextant: &Path, within: &str, prefix: &str, out: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(within)?;
        Ok(Self { dir, sextant: std::path::absolute(sextant)?, out: std::path::absolute(out)? })
    }

    /// What is called so in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Our program with directories of its own, and nothing of who runs the walk.
    pub(super) fn sextant(&self) -> Command {
        let mut command = Command::new(&self.sextant);
        command.arg("--data-dir").arg(self.path("data")).arg("--run-dir").arg(self.path("run"));
        for variable in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "CSI_ENDPOINT", "NOTIFY_SOCKET"] {
            command.env_remove(variable);
        }
        command
    }

    /// Starts a program, whose words are added to those of others of that name.
    pub(super) fn start(&self, name: &str, mut command: Command) -> Result<Process> {
        let words = File::options().create(true).append(true).open(self.said(name))?;
        command.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words);
        Ok(Process(command.spawn().map_err(|e| format!("cannot start the {name}: {e}"))?))
    }

    fn said(&self, name: &str) -> PathBuf {
        self.out.join(format!("{name}.words"))
    }

    /// Takes the words of an earlier run away.
    pub(super) fn forget(&self, names: &[&str]) {
        for name in names {
            let _none = std::fs::remove_file(self.said(name));
        }
    }

    /// What programs of a name have said.
    pub(super) fn words(&self, name: &str) -> String {
        std::fs::read_to_string(self.said(name)).unwrap_or_default()
    }

    /// Waits until a program has said something.
    pub(super) async fn hear(&self, name: &str, what: &str) -> Result<()> {
        let heard = soon(async || Ok(self.words(name).contains(what).then_some(()))).await?;
        heard.ok_or_else(|| format!("the {name} does not say {what:?}").into())
    }
}

/// A process; it is told to end when this is dropped.
pub(super) struct Process(Child);

impl Process {
    /// It has no time to say good-bye.
    pub(super) fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Its exit code, after it was told to end.
    pub(super) async fn end(&mut self) -> Result<Option<i32>> {
        let pid = Pid::from_raw(self.0.id().cast_signed()).ok_or("no process")?;
        kill_process(pid, Signal::TERM)?;
        self.ended().await
    }

    /// Its exit code, once it has ended by itself.
    pub(super) async fn ended(&mut self) -> Result<Option<i32>> {
        let ended = soon(async || Ok(self.0.try_wait()?)).await?;
        Ok(ended.ok_or("it does not end")?.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None))
            && let Some(pid) = Pid::from_raw(self.0.id().cast_signed())
        {
            let _ended = kill_process(pid, Signal::TERM);
            for _ in 0..500 {
                if !matches!(self.0.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            let _ended = self.0.kill();
            let _ended = self.0.wait();
        }
    }
}
