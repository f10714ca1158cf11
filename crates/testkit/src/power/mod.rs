//! Cuts a guest's power at random moments, and looks at what its disk would then really hold.
//!
//! Killing QEMU loses only what is in the guest's memory: what the guest wrote is in the host's page cache, whether it
//! flushed or not. A real disk has a cache of its own and loses what was not flushed. So every write and flush of the
//! guest is logged (QEMU's `blklogwrites`), and the disk is rebuilt from the log as a cut at any moment may leave it:
//! all writes before the last completed flush, and of those after it each one or not, whole sectors of it or not,
//! at random. One run of the guest gives as many cuts as one likes.
//!
//! The guest says `ack WHAT` on its serial line when WHAT must survive. A line counts for a cut only if the log was
//! shorter when it was read here.

mod log;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::program::{make_dir, run};
use crate::vm::{Disk, Guest};
use crate::{Error, Random, Result};

pub use log::{Entry, Log};

/// What finds out what is wrong, given what was acknowledged and what the verifying guest said.
pub type Judge = dyn Fn(&[String], &str) -> Result<(), String>;

/// A workload on a disk of its own, and a guest that looks at the disk afterwards.
pub struct PowerCut<'a> {
    /// The guest that writes to its first disk (`/dev/vda`, ext4, `size`) until it is cut or done. Its own `disks` are
    /// added after that one.
    pub workload: Guest,
    /// The guest that mounts the disk again and says what it finds; it powers off by itself.
    pub verify: Guest,
    /// The disk's size in MiB.
    pub size: u64,
    /// How long the workload runs before its power is cut, at most.
    pub limit: Duration,
    /// Judges what the verifying guest said, given what had been acknowledged: an error tells what is wrong.
    pub judge: &'a Judge,
}

/// What came of one cut.
#[derive(Debug)]
pub struct Cut {
    /// The log's entry before which the power went.
    pub entry: usize,
    /// How many acknowledgements there were by then.
    pub acknowledged: usize,
    /// What `judge` found wrong.
    pub wrong: Option<String>,
}

impl PowerCut<'_> {
    /// Runs the workload once and cuts it `count` times, in the directory `place`.
    pub fn cuts(&self, place: &Path, count: u64, random: &mut Random) -> Result<Vec<Cut>> {
        make_dir(place)?;
        let base = place.join("base.img");
        format(&base, self.size)?;
        let (log, acknowledged) = self.record(&base, place)?;
        let mut cuts = Vec::new();
        for at in random.sample(count, log.entries().len() as u64 + 1) {
            let entry = at as usize;
            let image = place.join("cut.img");
            copy(&base, &image)?;
            log.rebuild(&image, entry, random)?;
            let end = log.offset(entry);
            let lines: Vec<String> = acknowledged
                .iter()
                .filter(|(_, length)| *length <= end)
                .map(|(line, _)| line.clone())
                .collect();
            let wrong = self.look(&image, &lines)?;
            cuts.push(Cut { entry, acknowledged: lines.len(), wrong });
        }
        Ok(cuts)
    }

    /// Runs the workload; its log, and each acknowledgement with the log's length when it was read.
    fn record(&self, base: &Path, place: &Path) -> Result<(Log, Vec<(String, u64)>)> {
        let (image, path) = (place.join("disk.img"), place.join("disk.log"));
        copy(base, &image)?;
        std::fs::write(&path, "").map_err(|e| Error::access("create", &path, e))?;
        let mut guest = self.workload.clone();
        guest.disks.insert(0, Disk::Logged { image, log: path.clone() });
        let mut running = guest.start()?;
        let mut acknowledged: Vec<(String, u64)> = Vec::new();
        let end = std::time::Instant::now() + self.limit;
        while std::time::Instant::now() < end && !running.is_over() {
            let said = running.said();
            let length = std::fs::metadata(&path).map_err(|e| Error::access("stat", &path, e))?.len();
            // A line is read after its flush was logged, so the length now is on the safe side.
            let new = said.lines().filter_map(|line| line.strip_prefix("ack ")).skip(acknowledged.len());
            acknowledged.extend(new.map(|line| (line.to_owned(), length)));
            std::thread::sleep(Duration::from_millis(5));
        }
        running.quit();
        let log = Log::read(&path)?;
        if log.entries().is_empty() {
            let output = crate::program::tail(&running.said(), 20);
            return Err(Error::Wait {
                what: "a write to the guest's disk".into(),
                limit: self.limit,
                output,
            });
        }
        Ok((log, acknowledged))
    }

    fn look(&self, image: &Path, acknowledged: &[String]) -> Result<Option<String>> {
        let mut guest = self.verify.clone();
        guest.disks.insert(0, Disk::Raw(image.to_owned()));
        let (said, status) = guest.run(self.limit.max(Duration::from_secs(120)))?;
        Ok(match status {
            0 => (self.judge)(acknowledged, &said).err(),
            _ => Some(format!("status {status}: {}", crate::program::tail(&said, 20))),
        })
    }
}

/// An empty ext4 of `size` MiB.
fn format(image: &PathBuf, size: u64) -> Result<()> {
    let file = std::fs::File::create(image).map_err(|e| Error::access("create", image, e))?;
    file.set_len(size << 20).map_err(|e| Error::access("size", image, e))?;
    // What the guest does not do at once it would do in the background, at moments of its own.
    let now = "lazy_itable_init=0,lazy_journal_init=0";
    run(Command::new("/sbin/mkfs.ext4").args(["-q", "-F", "-E", now]).arg(image))?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("--sparse=always").arg(from).arg(to)).map(|_| ())
}

/// Judges guests that say `whole WHAT` or `damaged WHAT` of everything they find: all that was acknowledged is whole,
/// and nothing is damaged.
pub fn whole(acknowledged: &[String], said: &str) -> Result<(), String> {
    let damaged = said.lines().filter(|line| line.starts_with("damaged ")).map(str::to_owned);
    let lost = acknowledged
        .iter()
        .filter(|what| !said.lines().any(|line| line.strip_prefix("whole ") == Some(what)));
    let wrong: Vec<String> =
        damaged.chain(lost.map(|what| format!("acknowledged and not whole: {what}"))).collect();
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        [first, rest @ ..] => Err(format!("{first}; and {} more", rest.len())),
    }
}

/// Prints what came of some cuts to `out`: one line, and one for each that is wrong.
pub fn print(cuts: &[Cut], out: &mut impl std::io::Write) -> std::io::Result<()> {
    let wrong = cuts.iter().filter(|cut| cut.wrong.is_some()).count();
    let most = cuts.iter().map(|cut| cut.acknowledged).max().unwrap_or(0);
    writeln!(out, "{} cuts, up to {most} acknowledgements before them, {wrong} wrong", cuts.len())?;
    for cut in cuts {
        if let Some(wrong) = &cut.wrong {
            writeln!(out, "  cut before entry {}: {wrong}", cut.entry)?;
        }
    }
    out.flush()
}
