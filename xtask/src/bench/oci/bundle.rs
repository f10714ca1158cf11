//! The bundle all sides run, and the measuring of a sequence of commands.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::side::Cost;
use crate::Result;
use crate::program::{built, cargo, quiet, shown};

const PROGRAM: &str = include_str!("../sequence.py");

/// Two bundles over one root: one whose program is the deed, one that stays.
pub(super) struct Bundle {
    dir: tempfile::TempDir,
    /// The bound's program, which also writes the configuration.
    pub(super) bare: PathBuf,
    /// Ours, under the name that makes it the runtime.
    pub(super) ours: PathBuf,
}

impl Bundle {
    pub(super) fn new() -> Result<Self> {
        cargo(["build", "--release", "--locked", "--package", "oci-runtime", "--example", "bare"])?;
        cargo(["build", "--profile", "shim", "--locked", "--package", "shim"])?;
        let dir = tempfile::Builder::new().prefix("sextant-bench-").tempdir_in("/run")?;
        let ours = dir.path().join("sextant-oci");
        std::fs::copy(built("shim")?.join("sextant-shim"), &ours)?;
        let bare = dir.path().join("bare");
        std::fs::copy(built("release")?.join("examples/bare"), &bare)?;
        let bundle = Self { dir, bare, ours };
        let root = bundle.path("rootfs/bin");
        std::fs::create_dir_all(&root)?;
        std::fs::copy("/bin/busybox", root.join("busybox"))?;
        for name in ["sh", "sleep", "touch", "true"] {
            symlink("busybox", root.join(name))?;
        }
        bundle.prepare("true", &["/bin/true"])?;
        // Real work that must be over before the deletion, and leaves a process to be killed.
        bundle.prepare("work", &["/bin/sh", "-c", "echo done > /tmp/work; exec sleep 1000"])?;
        bundle.prepare("stay", &["/bin/sleep", "1000"])?;
        std::fs::create_dir_all(bundle.path("rootfs/tmp"))?;
        Ok(bundle)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn prepare(&self, name: &str, program: &[&str]) -> Result<()> {
        let dir = self.path(name);
        std::fs::create_dir_all(&dir)?;
        symlink("../rootfs", dir.join("rootfs"))?;
        quiet(Command::new(&self.bare).arg("prepare").arg(&dir).args(program))?;
        // Runtimes resolve the root before anything else; a link would be refused by some.
        std::fs::remove_file(dir.join("rootfs"))?;
        let config = dir.join("config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
        // Debian's crun takes no newer one.
        spec["ociVersion"] = "1.0.2".into();
        spec["root"]["path"] = self.path("rootfs").display().to_string().into();
        std::fs::write(&config, spec.to_string())?;
        symlink(self.path("rootfs"), dir.join("rootfs"))?;
        Ok(())
    }

    /// Runs the commands one after the other.
    pub(super) fn measure(&self, commands: &[Vec<String>]) -> Result<Cost> {
        #[derive(Deserialize)]
        struct Counted {
            walls: Vec<f64>,
            cpu: f64,
        }
        let result = self.path("result.json");
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-S", "-E", "-s", "-c", PROGRAM]).arg(&result).arg(serde_json::to_string(commands)?);
        quiet(python.stdin(Stdio::null()))?;
        let counted: Counted = serde_json::from_slice(&std::fs::read(&result)?)?;
        Ok(Cost {
            cpu: counted.cpu * 1e3,
            wall: counted.walls.iter().sum::<f64>() * 1e3,
            walls: counted.walls.iter().map(|wall| wall * 1e3).collect(),
        })
    }

    /// The most that one of a command's processes had resident, in KiB, by GNU time: a small parent, whose own memory
    /// does not count as its child's.
    pub(super) fn resident(&self, command: &[String]) -> Result<u64> {
        let result = self.path("resident");
        let mut time = Command::new("/usr/bin/time");
        time.args(["-f", "%M", "-o"]).arg(&result).args(command);
        quiet(time.stdin(Stdio::null()))?;
        let text = std::fs::read_to_string(&result)?;
        Ok(text.trim().parse().map_err(|_| format!("{} says {text:?}", shown(&time)))?)
    }

    pub(super) fn state(&self, side: &str) -> PathBuf {
        self.path(&format!("state-{side}"))
    }
}

/// As a command's argument.
pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}
