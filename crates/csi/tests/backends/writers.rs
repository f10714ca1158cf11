//! Those who fill a volume, each in a way of its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::rig::be_a_container;

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One file, synced at the end.
    Plain,
    /// One file, each 64 KiB made durable before the next.
    Synced,
    /// Files of 16 KiB, a hundred in a directory.
    Small,
}

pub(crate) const WAYS: [Way; 3] = [Way::Plain, Way::Synced, Way::Small];
const PART: usize = 64 << 10;
const SMALL: usize = 16 << 10;

/// Writes until it is stopped, or has written `most`: how many bytes of it are durable, and what stopped it. To a directory, or to a
/// device.
pub(crate) async fn fill(at: &Path, way: Way, most: u64) -> (u64, Option<Errno>) {
    let (at, (done, filled)) = (at.to_owned(), tokio::sync::oneshot::channel());
    // A thread of its own, as it loses a right.
    std::thread::spawn(move || {
        be_a_container();
        let mut written = 0;
        let stopped = match way {
            Way::Small => durable(&at, small(&at, most, &mut written)),
            _ => one(&file_at(&at, "filled"), way == Way::Synced, most, &mut written),
        };
        done.send((written, stopped.err().map(|e| Errno::from_io_error(&e).unwrap()))).unwrap();
    });
    filled.await.unwrap()
}

/// A file of a directory, or the device that is there instead.
fn file_at(at: &Path, name: &str) -> PathBuf {
    if at.is_dir() { at.join(name) } else { at.to_owned() }
}

/// Leaves some words in a volume.
pub(crate) fn note(at: &Path, words: &str) {
    let file = File::options().write(true).create(at.is_dir()).open(file_at(at, "note")).unwrap();
    file.write_all_at(words.as_bytes(), 0).unwrap();
    file.sync_all().unwrap();
}

/// They are still there.
pub(crate) fn has_note(at: &Path, words: &str) {
    let mut read = vec![0; words.len()];
    File::open(file_at(at, "note")).unwrap().read_exact_at(&mut read, 0).unwrap();
    assert_eq!(String::from_utf8_lossy(&read), words);
}

/// What was taken is kept, whatever stopped the writer: it is no promise of memory alone.
fn durable(root: &Path, stopped: io::Result<()>) -> io::Result<()> {
    rustix::fs::syncfs(File::open(root)?)?;
    stopped
}

fn one(path: &Path, synced: bool, most: u64, written: &mut u64) -> io::Result<()> {
    let (file, part) = (File::create(path)?, vec![0x5a; PART]);
    let stopped = loop {
        if *written >= most {
            break Ok(());
        }
        match file.write_at(&part, *written) {
            Ok(length) => *written += length as u64,
            Err(e) => break Err(e),
        }
        if synced {
            file.sync_data()?;
        }
    };
    // As above.
    file.sync_all()?;
    stopped
}

fn small(root: &Path, most: u64, written: &mut u64) -> io::Result<()> {
    let part = vec![0xa5; SMALL];
    for number in 0_u64.. {
        if *written >= most {
            break;
        }
        let directory = root.join(format!("d{}", number / 100));
        if number % 100 == 0 {
            fs::create_dir(&directory)?;
        }
        let file = File::create(directory.join(format!("f{number}")))?;
        file.write_all_at(&part, 0)?;
        *written += SMALL as u64;
        if number % 100 == 99 {
            file.sync_all()?;
        }
    }
    Ok(())
}
