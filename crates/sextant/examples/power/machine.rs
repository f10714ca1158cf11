//! A machine that `sextant up` runs, as who works with it sees it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::marks::Result;

/// Where whatever dies with the kernel is told of.
const RUN: &str = "/run/sextant";
/// Longer than an emulated machine takes for anything that will happen at all.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(250);
/// The end of a program's log that is told of where something is wrong.
const TOLD: usize = 30;

pub(crate) struct Machine {
    pub(crate) folder: PathBuf,
}

impl Machine {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Runs `sextant`, which has to succeed.
    pub(crate) fn sextant(&self, words: &[&str]) -> Result<()> {
        let begun = Instant::now();
        let mut command = Command::new("sextant");
        command.arg("--data-dir").arg(&self.folder).args(["--run-dir", RUN]).args(words);
        let output = command.stdin(Stdio::null()).output()?;
        println!("sextant {} took {:.1} s", words.join(" "), begun.elapsed().as_secs_f64());
        if output.status.success() {
            return Ok(());
        }
        Err(format!("sextant {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Brings everything up.
    pub(crate) async fn up(&self) -> Result<Client> {
        self.sextant(&["up", "-d", "--node-name", "here", "--eviction-hard", "memory.available<1Mi"])?;
        let kubeconfig = Kubeconfig::read_from(self.folder.join("kubeconfig"))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// Waits until `look` finds nothing that is wanted any more; what it found last is the error.
    pub(crate) async fn until(&self, look: impl AsyncFn() -> Result<Option<String>>) -> Result<()> {
        let begun = Instant::now();
        while let Some(wanted) = look().await? {
            if begun.elapsed() > PATIENCE {
                return Err(format!("after {} s {wanted}", PATIENCE.as_secs()).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Says what the programs have said last.
    pub(crate) fn tell(&self) {
        for entry in fs::read_dir(self.folder.join("log")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(TOLD)) {
                println!("{}: {line}", entry.file_name().to_string_lossy());
            }
        }
    }
}
