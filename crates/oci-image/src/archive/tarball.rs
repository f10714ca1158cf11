//! The table of contents of a tar on disk, so that its files can be read in any order.

use std::{collections::BTreeMap, fs::File, io::BufReader, sync::Arc};

use super::{Result, place::Place};
use crate::layer::tar::{Kind, Reader};

/// How many links may lead from one to the next.
const HOPS: usize = 8;

/// A tar's files by name.
pub(super) struct Tarball {
    files: BTreeMap<String, Place>,
    links: BTreeMap<String, String>,
}

impl Tarball {
    /// Reads the headers of a plain tar.
    pub(super) fn read(file: &Arc<File>) -> Result<Self> {
        let (mut files, mut links) = (BTreeMap::new(), BTreeMap::new());
        let mut reader =
            Reader::new(BufReader::with_capacity(64 << 10, Whole { file: Arc::clone(file), offset: 0 }));
        while reader.next()? {
            let offset = reader.offset();
            let entry = reader.entry();
            let Some(name) = normal("", &String::from_utf8_lossy(&entry.path)) else { continue };
            let link = String::from_utf8_lossy(&entry.link);
            match entry.kind {
                Kind::File => {
                    files.insert(name, Place::Slice { file: Arc::clone(file), offset, size: entry.size });
                }
                // Docker's older archives share a layer between images by a link to `../<id>/layer.tar`.
                Kind::Symlink => {
                    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                    links.extend(normal(folder, &link).map(|target| (name.clone(), target)));
                }
                Kind::HardLink => links.extend(normal("", &link).map(|target| (name, target))),
                _ => {}
            }
        }
        Ok(Self { files, links })
    }

    /// The file of this name, links followed.
    pub(super) fn get(&self, name: &str) -> Option<&Place> {
        let mut name = normal("", name)?;
        for _ in 0..HOPS {
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        self.files.get(&name)
    }

    /// Every file.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.files.iter().map(|(name, place)| (name.as_str(), place))
    }
}

/// A name inside the archive, `.` and `..` resolved; `None` if it leads out.
fn normal(folder: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|p| !p.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

struct Whole {
    file: Arc<File>,
    offset: u64,
}

impl std::io::Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = std::os::unix::fs::FileExt::read_at(&*self.file, buffer, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}
