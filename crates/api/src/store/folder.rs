//! The store's folder and file, and who has them.

use super::engine::{Engine, Opener};
use super::tables::{self, Counters, FORMAT};
use super::{Error, FILE, Options, Result};
use redb::backends::FileBackend;
use redb::{
    BackendError, Builder, Database, DatabaseError, ReadableDatabase as _, StorageBackend, StorageError,
};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The store's folder, locked as long as this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    handle: File,
}

impl Folder {
    /// Makes the folder where there is none, for its owner alone, and locks it.
    pub(super) fn lock(path: &Path) -> Result<Folder> {
        let access = |verb, about: &Path, e| access(path, verb, about, e);
        if !path.is_dir() {
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                fs::create_dir_all(parent).map_err(|e| access("make", parent, e))?;
            }
            DirBuilder::new().mode(0o700).create(path).map_err(|e| access("make", path, e))?;
            let parent =
                path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            sync(parent).map_err(|e| access("sync", parent, e))?;
        }
        let handle = File::open(path).map_err(|e| access("open", path, e))?;
        let mode = handle.metadata().map_err(|e| access("stat", path, e))?.permissions().mode();
        if mode & 0o077 != 0 {
            let private = fs::Permissions::from_mode(0o700);
            handle.set_permissions(private).map_err(|e| access("make private", path, e))?;
        }
        match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Folder { path: path.to_owned(), handle }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { store: path.to_owned() }),
            Err(e) => Err(access("lock", path, e.into())),
        }
    }

    /// Opens the database in the folder, or makes it: complete or not at all.
    pub(super) fn open(&self, options: &Options) -> Result<Engine> {
        let unsynced = Arc::new(AtomicBool::new(false));
        let file = self.path.join(FILE);
        let opener = |path: PathBuf, create: bool| -> Opener {
            let (cache, unsynced) = (options.cache, unsynced.clone());
            Box::new(move || {
                let file = private(create).open(&path)?;
                let check = file.metadata()?.len() <= CHECKED;
                database(Disk { file: FileBackend::new(file)?, unsynced: unsynced.clone() }, cache, check)
            })
        };
        let known = fs::metadata(&file).map(|found| found.len());
        let database = match known {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.create(&file, &opener)?,
            Err(e) => return Err(access(&self.path, "stat", &file, e)),
            Ok(0) => return Err(self.foreign("the file is empty")),
            Ok(_) => opener(file.clone(), false)().map_err(|e| self.refused(&file, e))?,
        };
        self.check(&database)?;
        Ok(Engine::new(database, opener(file, false), unsynced))
    }

    fn create(&self, file: &Path, opener: &dyn Fn(PathBuf, bool) -> Opener) -> Result<Database> {
        let new = file.with_extension("new");
        match fs::remove_file(&new) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(access(&self.path, "remove", &new, e));
            }
            _ => {}
        }
        let database = opener(new.clone(), true)().map_err(|e| self.refused(&new, e))?;
        initialize(&database).map_err(|e| access(&self.path, "write", &new, io::Error::other(e)))?;
        fs::rename(&new, file).map_err(|e| access(&self.path, "rename", &new, e))?;
        self.handle.sync_all().map_err(|e| access(&self.path, "sync", &self.path, e))?;
        Ok(database)
    }

    /// Whether the database is one of ours, of a format that is known.
    fn check(&self, database: &Database) -> Result<()> {
        let found = (|| {
            let from = database.begin_read().map_err(redb::Error::from)?;
            let facts = from.open_table(tables::FACTS)?;
            let format = facts.get("format")?.map(|format| format.value());
            Ok::<_, redb::Error>(format)
        })();
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) | Err(redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => {
                return Err(self.foreign("the file is the database of another program"));
            }
            Err(e) => return Err(self.foreign(&format!("the file is damaged: {e}"))),
        };
        if found > FORMAT {
            return Err(Error::Newer { store: self.path.clone(), found, known: FORMAT });
        }
        Ok(())
    }

    fn foreign(&self, why: &str) -> Error {
        Error::Foreign { store: self.path.clone(), why: why.to_owned() }
    }

    fn refused(&self, file: &Path, error: DatabaseError) -> Error {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                Error::InUse { store: self.path.clone() }
            }
            DatabaseError::UpgradeRequired(version) => {
                self.foreign(&format!("the file is a database of another kind (redb's version {version})"))
            }
            DatabaseError::Storage(StorageError::Io(e)) if e.kind() == io::ErrorKind::InvalidData => {
                self.foreign("the file is no database")
            }
            DatabaseError::Storage(StorageError::Io(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                self.foreign("the file is cut short")
            }
            DatabaseError::Storage(StorageError::Io(e)) => access(&self.path, "open", file, e),
            other => self.foreign(&format!("the file is damaged: {other}")),
        }
    }
}

/// How the file is opened: for its owner alone.
fn private(create: bool) -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).create(create).truncate(false).mode(0o600);
    options
}

/// A file up to this size is read whole when it is opened, and its checksums are looked at, which takes some 50 ms. Of a
/// larger one that is done only where the last process did not close it.
const CHECKED: u64 = 16 << 20;

/// The database on a backend, with its checksums looked at if that is wished.
pub(super) fn database(
    backend: impl StorageBackend,
    cache: usize,
    check: bool,
) -> std::result::Result<Database, DatabaseError> {
    Builder::new().set_cache_size(cache).set_check_integrity_on_open(check).create_with_backend(backend)
}

/// Makes the tables of a new database.
pub(super) fn initialize(database: &Database) -> std::result::Result<(), redb::Error> {
    let write = database.begin_write()?;
    write.open_table(tables::FACTS)?.insert("format", FORMAT)?;
    write.open_table(tables::COUNTERS)?.insert((), Counters::default().row())?;
    write.open_table(tables::OBJECTS)?;
    write.open_table(tables::NAMES)?;
    write.open_table(tables::LOG)?;
    write.open_table(tables::HISTORY)?;
    write.commit()?;
    Ok(())
}

fn access(store: &Path, verb: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Access { store: store.to_owned(), verb, path: path.to_owned(), source: Arc::new(source) }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The file, and whether a sync of it ever failed.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    unsynced: Arc<AtomicBool>,
}

type Locked = std::result::Result<bool, BackendError>;
type Range = Bound<u64>;

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data().inspect_err(|_| self.unsynced.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Range, end: Range) -> Locked {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Range, end: Range) -> Locked {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Range, end: Range) -> std::result::Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Range, end: Range) -> std::result::Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Range, end: Range) -> std::result::Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Range, end: Range) -> Locked {
        self.file.query_lock_range(start, end)
    }
}
