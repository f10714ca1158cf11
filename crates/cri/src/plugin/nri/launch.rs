//! Plugins that are installed: programs called `NN-NAME`, which this process starts with their connection.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use kernel::process::{CStrings, Child};
use ledger::{Effect, Ledger, Owner, OwnerId, Record as _, RecordId};

use super::names;

/// The number of the descriptor that is its connection.
const SOCKET: usize = 3;
/// Who has the plugins' processes in the ledger.
const OWNER: &str = "nri-plugins";

/// An installed plugin.
#[derive(Debug)]
pub(super) struct Installed {
    path: PathBuf,
    index: String,
    base: String,
    /// What it is configured with.
    pub(super) config: String,
}

/// The processes of plugins that this process has started.
///
/// Nobody else stands for them: the ledger has them while this process holds its lock, and whoever comes after one that was
/// killed ends them.
#[derive(Debug, Clone)]
pub(super) struct Processes {
    ledger: Ledger,
    owner: Arc<Mutex<Option<Owner>>>,
}

impl Processes {
    /// None yet.
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger, owner: Arc::default() }
    }

    /// Starts a plugin: its connection, which does not block, and its record. Waits for the disk and the kernel.
    pub(super) fn start(&self, plugin: &Installed) -> Result<(UnixStream, RecordId), String> {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = match &mut *owner {
            Some(owner) => owner,
            none => none.insert(
                OwnerId::new(OWNER).and_then(|id| self.ledger.owner(&id)).map_err(|e| e.to_string())?,
            ),
        };
        let (socket, child) = plugin.spawn().map_err(|e| e.to_string())?;
        // Until it is on record, only the end of its connection would end it.
        let recorded =
            kernel::process::start_time(child.pid).map_err(|e| e.to_string()).and_then(|start_time| {
                owner.record(Effect::Process { pid: child.pid, start_time }).map_err(|e| e.to_string())
            });
        match recorded {
            Ok(record) => Ok((socket, record)),
            Err(error) => {
                let _ = kernel::process::signal(child.pidfd.as_fd(), 9).and_then(|()| child.wait());
                Err(error)
            }
        }
    }

    /// Ends one, if it has not ended, and waits for it.
    pub(super) fn end(&self, record: RecordId) -> Result<(), ledger::Error> {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        owner.as_mut().map_or(Ok(()), |owner| owner.undo(record))
    }

    /// Ends all.
    pub(super) fn end_all(&self) -> Vec<ledger::Error> {
        let owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        owner.map(Owner::undo_all).unwrap_or_default()
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

    fn spawn(&self) -> io::Result<(UnixStream, Child)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
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
        Ok((ours, child))
    }
}
