//! What is on disk.
//!
//! ```text
//! blobs/sha256/<hex>                                   content
//! repositories/<name>/_blobs/sha256/<hex>              the repository has this blob
//! repositories/<name>/_manifests/sha256/<hex>          ... this manifest; holds its media type
//! repositories/<name>/_tags/<tag>                      holds a digest
//! repositories/<name>/_referrers/sha256/<subject>/sha256-<hex>   holds a descriptor
//! uploads/                                             not verified yet
//! ```
//! No component of a repository's name begins with `_`, so names and these folders cannot meet.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::contract::Digest;

/// What a repository links to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Link {
    Blob,
    Manifest,
}

impl Link {
    const ALL: [Self; 2] = [Self::Blob, Self::Manifest];

    fn folder(self) -> &'static str {
        match self {
            Self::Blob => "_blobs",
            Self::Manifest => "_manifests",
        }
    }
}

#[derive(Debug)]
pub(super) struct Storage {
    root: PathBuf,
    /// Held while links change, so that deleting the last link and adding one cannot meet.
    links: Mutex<()>,
    temporary: AtomicU64,
}

impl Storage {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for folder in ["blobs", "repositories", "uploads"] {
            builder.create(root.join(folder))?;
        }
        Ok(Self { root: root.to_owned(), links: Mutex::new(()), temporary: AtomicU64::new(0) })
    }

    pub(super) fn uploads_dir(&self) -> PathBuf {
        self.root.join("uploads")
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(digest.blob_path())
    }

    pub(super) fn repository(&self, name: &str) -> PathBuf {
        self.root.join("repositories").join(name)
    }

    fn link_path(&self, name: &str, link: Link, digest: &Digest) -> PathBuf {
        self.repository(name).join(link.folder()).join(digest.algorithm().name()).join(digest.hex())
    }

    fn referrers_dir(&self, name: &str, subject: &Digest) -> PathBuf {
        self.repository(name).join("_referrers").join(subject.algorithm().name()).join(subject.hex())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A repository exists once something was pushed into it.
    pub(super) fn has_repository(&self, name: &str) -> bool {
        Link::ALL.iter().any(|link| self.repository(name).join(link.folder()).is_dir())
    }

    pub(super) fn has(&self, name: &str, link: Link, digest: &Digest) -> bool {
        self.link_path(name, link, digest).exists()
    }

    /// A blob's file and size, if the repository has it.
    pub(super) fn open_blob(
        &self,
        name: &str,
        link: Link,
        digest: &Digest,
    ) -> io::Result<Option<(File, u64)>> {
        if !self.has(name, link, digest) {
            return Ok(None);
        }
        let file = File::open(self.blob_path(digest))?;
        let size = file.metadata()?.len();
        Ok(Some((file, size)))
    }

    /// Moves a verified upload to its place; the content is durable before its name is.
    pub(super) fn commit(&self, name: &str, upload: &Path, digest: &Digest) -> io::Result<()> {
        File::open(upload)?.sync_all()?;
        let _held = self.lock();
        let target = self.blob_path(digest);
        let folder = parent(&target)?;
        fs::create_dir_all(folder)?;
        fs::rename(upload, &target)?;
        File::open(folder)?.sync_all()?;
        self.write(&self.link_path(name, Link::Blob, digest), b"")
    }

    /// Links a blob that another repository has; false if that one does not have it.
    pub(super) fn mount(&self, name: &str, from: &str, digest: &Digest) -> io::Result<bool> {
        let _held = self.lock();
        if !self.has(from, Link::Blob, digest) || !self.blob_path(digest).exists() {
            return Ok(false);
        }
        self.write(&self.link_path(name, Link::Blob, digest), b"")?;
        Ok(true)
    }

    /// Keeps a manifest; the caller holds the lock.
    pub(super) fn put_manifest(
        &self,
        name: &str,
        digest: &Digest,
        media_type: &str,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.write(&self.blob_path(digest), bytes)?;
        self.write(&self.link_path(name, Link::Manifest, digest), media_type.as_bytes())
    }

    pub(super) fn media_type(&self, name: &str, digest: &Digest) -> io::Result<Option<String>> {
        read_if_there(&self.link_path(name, Link::Manifest, digest))
    }

    pub(super) fn read_blob(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        fs::read(self.blob_path(digest))
    }

    pub(super) fn set_tag(&self, name: &str, tag: &str, digest: &Digest) -> io::Result<()> {
        self.write(&self.repository(name).join("_tags").join(tag), digest.to_string().as_bytes())
    }

    pub(super) fn tag(&self, name: &str, tag: &str) -> io::Result<Option<Digest>> {
        let text = read_if_there(&self.repository(name).join("_tags").join(tag))?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    pub(super) fn remove_tag(&self, name: &str, tag: &str) -> io::Result<bool> {
        remove_if_there(&self.repository(name).join("_tags").join(tag))
    }

    /// All tags, sorted.
    pub(super) fn tags(&self, name: &str) -> io::Result<Vec<String>> {
        names_in(&self.repository(name).join("_tags"))
    }

    pub(super) fn add_referrer(
        &self,
        name: &str,
        subject: &Digest,
        of: &Digest,
        descriptor: &[u8],
    ) -> io::Result<()> {
        self.write(&self.referrers_dir(name, subject).join(referrer_name(of)), descriptor)
    }

    pub(super) fn remove_referrer(&self, name: &str, subject: &Digest, of: &Digest) -> io::Result<bool> {
        remove_if_there(&self.referrers_dir(name, subject).join(referrer_name(of)))
    }

    /// The descriptors of what refers to `subject`.
    pub(super) fn referrers(&self, name: &str, subject: &Digest) -> io::Result<Vec<Vec<u8>>> {
        let folder = self.referrers_dir(name, subject);
        names_in(&folder)?.iter().map(|name| fs::read(folder.join(name))).collect()
    }

    /// Removes a link, and the content with its last one. The caller holds the lock.
    pub(super) fn unlink(&self, name: &str, link: Link, digest: &Digest) -> io::Result<bool> {
        let known = remove_if_there(&self.link_path(name, link, digest))?;
        if known && !self.is_linked(&self.root.join("repositories"), digest)? {
            remove_if_there(&self.blob_path(digest))?;
        }
        Ok(known)
    }

    fn is_linked(&self, folder: &Path, digest: &Digest) -> io::Result<bool> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let found = match entry.file_name().to_str() {
                Some("_blobs" | "_manifests") => {
                    path.join(digest.algorithm().name()).join(digest.hex()).exists()
                }
                Some(name) if name.starts_with('_') => false,
                _ => path.is_dir() && self.is_linked(&path, digest)?,
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Replaces a small file in one durable step.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let folder = parent(path)?;
        fs::create_dir_all(folder)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.uploads_dir().join(format!("_{number}"));
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    }
}

fn referrer_name(of: &Digest) -> String {
    format!("{}-{}", of.algorithm().name(), of.hex())
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}
