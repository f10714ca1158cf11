//! Plugins that are installed: programs called `NN-NAME`, which this process starts with their connection.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kernel::process::{CStrings, Child};

use super::names;

/// The number of the descriptor that is its connection.
const SOCKET: usize = 3;
const SIGKILL: i32 = 9;

/// An installed plugin.
#[derive(Debug)]
pub(super) struct Installed {
    path: PathBuf,
    index: String,
    base: String,
    /// What it is configured with.
    pub(super) config: String,
}

/// A plugin that runs; it is killed when it is not wanted any more.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kernel::process::signal(self.0.pidfd.as_fd(), SIGKILL);
        let _ = self.0.wait();
    }
}

/// The plugins in `dir` in their order, with their configurations in `configs`; and what is wrong there.
pub(super) fn installed(dir: &Path, configs: &Path) -> (Vec<Installed>, Vec<String>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    let mut files: Vec<PathBuf> = match fs::read_dir(dir) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => {
            problems.push(format!("cannot list {}: {e}", dir.display()));
            Vec::new()
        }
    };
    files.sort();
    for path in files {
        let is_program =
            fs::metadata(&path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        let Some(file) = path.file_name().and_then(|name| name.to_str()).filter(|_| is_program) else {
            continue;
        };
        let found = names::of_program(file).and_then(|(index, base)| {
            let config = config(configs, file, base)?;
            Ok(Installed { path: path.clone(), index: index.into(), base: base.into(), config })
        });
        match found {
            Ok(plugin) => all.push(plugin),
            Err(why) => problems.push(format!("plugin {} is not started: {why}", path.display())),
        }
    }
    (all, problems)
}

/// `NN-NAME.conf`, else `NAME.conf`, else nothing.
fn config(dir: &Path, file: &str, base: &str) -> Result<String, String> {
    for name in [file, base] {
        let path = dir.join(format!("{name}.conf"));
        match fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            text => return text.map_err(|e| format!("cannot read {}: {e}", path.display())),
        }
    }
    Ok(String::new())
}

impl Installed {
    /// The name under which it is known.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.index, self.base)
    }

    /// Starts it.
    pub(super) fn start(&self) -> io::Result<(tokio::net::UnixStream, Running)> {
        let (ours, theirs) = UnixStream::pair()?;
        let null: OwnedFd = fs::File::options().read(true).write(true).open("/dev/null")?.into();
        let errors = io::stderr();
        let path =
            kernel::process::cstring(self.path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
        let args = CStrings::new([self.path.as_os_str().as_encoded_bytes()]).map_err(io::Error::other)?;
        let env = CStrings::new([
            format!("NRI_PLUGIN_NAME={}", self.base),
            format!("NRI_PLUGIN_IDX={}", self.index),
            format!("NRI_PLUGIN_SOCKET={SOCKET}"),
        ])
        .map_err(io::Error::other)?;
        let fds = [null.as_fd(), errors.as_fd(), errors.as_fd(), theirs.as_fd()];
        let child = kernel::process::spawn_path(&path, &args, &env, &fds).map_err(io::Error::other)?;
        ours.set_nonblocking(true)?;
        Ok((tokio::net::UnixStream::from_std(ours)?, Running(child)))
    }
}
