use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{At, Error, Result, lock};

/// How often a waiting process looks whether the other is through, or its own caller has given up.
const POLL: Duration = Duration::from_millis(20);

/// The right to be the one who makes something: an exclusive flock on a file that bears its name.
///
/// Its holder may rename or remove the file; whoever waited then finds that the name is another file's or nobody's,
/// and looks again.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) file: File,
    path: PathBuf,
}

impl Claim {
    /// Waits for the claim on `path`, unless `done` says that nobody needs to make it any more (`None`).
    ///
    /// `waiting` is called again and again while another holds it; it ends the wait by returning `false`.
    pub(crate) fn wait(
        path: &Path,
        done: impl Fn() -> bool,
        mut waiting: impl FnMut() -> bool,
    ) -> Result<Option<Self>> {
        'anew: loop {
            if done() {
                return Ok(None);
            }
            let file = lock::open(path)?;
            while !lock::try_exclusive(&file).at("lock", path)? {
                // The file may have been renamed or removed while its old descriptors, and so its lock, live on.
                if done() || !names(path, &file)? {
                    continue 'anew;
                }
                if !waiting() {
                    return Err(Error::Cancelled(path.display().to_string()));
                }
                thread::sleep(POLL);
            }
            if names(path, &file)? {
                // Made just before the lock was had.
                if done() {
                    let claim = Self { file, path: path.to_owned() };
                    claim.remove()?;
                    return Ok(None);
                }
                return Ok(Some(Self { file, path: path.to_owned() }));
            }
        }
    }

    /// Takes the claim on an existing file if nobody holds it.
    pub(crate) fn take(path: &Path) -> Result<Option<Self>> {
        let file = match File::options().read(true).write(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.at("open", path)?,
        };
        let free = lock::try_exclusive(&file).at("lock", path)? && names(path, &file)?;
        Ok(free.then(|| Self { file, path: path.to_owned() }))
    }

    /// The file's path, while it has not been renamed.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file and with it the claim.
    pub(crate) fn remove(self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).at("remove", &self.path),
            _ => Ok(()),
        }
    }
}

/// Whether `path` still names the open file.
pub(super) fn names(path: &Path, file: &File) -> Result<bool> {
    let open = file.metadata().at("look at", path)?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).at("look at", path),
    }
}
