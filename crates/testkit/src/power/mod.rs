//! Cuts a guest's power at random moments, and looks at what its disk would then really hold.
//!
//! Killing QEMU loses only what is in the guest's memory: what the guest wrote is in the host's page cache, whether it
//! flushed or not. A real disk has a cache of its own and loses what was not flushed. So every write and flush of the
//! guest is logged (QEMU's `blklogwrites`), and the disk is rebuilt from the log as a cut at any moment may leave it:
//! all writes before the last completed flush, and of those after it each one or not, whole sectors of it or not,
//! at random. One run of the guest gives as many cuts as one likes.
//!
//! What the guest has promised by then is in the same log: [`MARK`] gives a script the command `mark`, which writes its
//! words to a sector behind the filesystem, unflushed. So the order of promises and writes is the disk's own, whoever
//! was slow to read what. `mark ack WHAT` says that WHAT must survive from then on.

mod log;

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::program::{make_dir, run};
use crate::vm::{Disk, Guest};
use crate::{Error, Random, Result};

pub use log::{Entry, Log};

/// A shell function for workloads: `mark ack 7` is known to be said before each write that follows it. It takes GNU's
/// `dd` ([`Initramfs::host_program`]): busybox's has no buffer that the kernel takes for direct writes, and goes on with
/// writes that come later.
///
/// [`Initramfs::host_program`]: crate::vm::Initramfs::host_program
pub const MARK: &str = r#"mark() {
    printf '%-512s' "$*" | /bin/dd of=/dev/vda bs=512 count=1 seek=$(($(cat /sys/block/vda/size) - 2048)) \
        conv=notrunc oflag=direct 2>/dev/null || { echo "cannot mark: $*"; exit 1; }
    echo "$*"
}
"#;
/// How much room there is for marks, behind the filesystem, in MiB: 2048 sectors.
const ROOM: u64 = 1;
/// How many disks a guest looks at: it boots as long as it looks at one.
const DISKS: usize = 6;
/// What the first of two partitions has, in MiB.
const FIRST: u64 = 64;
const LOOK: &str = "sextant-power: look at ";
const STATUS: &str = "sextant-power: status ";

/// What finds out what is wrong, given what was marked before the cut and what the verifying guest said of the disk.
pub type Judge<'a> = dyn Fn(&[String], &str) -> Result<(), String> + 'a;

/// When the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At any moment.
    Anytime,
    /// Right behind acknowledgements, with a disk that lies: from the mark before that one on it has flushed nothing,
    /// though it said so. A judge that finds nothing wrong then is blind.
    Lied,
    /// When the workload is through; nothing is lost.
    Over,
}

/// What a workload's disk has when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// Any size.
    Ext4,
    /// The same, with quotas of projects where it is mounted with `prjquota`.
    Ext4Projects,
    /// An ext4 of 64 MiB in the first partition (`/dev/vda1`), and nothing in the second, which has the rest.
    Ext4AndDevice,
    /// 300 MiB at least.
    Xfs,
    /// 128 MiB at least.
    Btrfs,
}

/// A guest that writes to its first disk (`/dev/vda`) until it is through. Its own `disks` come after that one.
#[derive(Debug)]
pub struct Workload {
    /// The guest; its script has [`MARK`].
    pub guest: Guest,
    /// The size of the disk's file system, or of its partitions, in MiB.
    pub size: u64,
    /// Its file system; the guest has the module.
    pub file_system: FileSystem,
    /// How long it runs, at most: then it is cut off.
    pub limit: Duration,
}

/// How a disk is looked at after a cut.
pub struct Look<'a> {
    /// The guest that looks at disks and says what it finds, with a script by [`look_at_each`]; it powers off by
    /// itself.
    pub guest: Guest,
    /// How long it may take for each disk.
    pub limit: Duration,
    /// Judges what the guest said, given what had been marked: an error tells what is wrong.
    pub judge: &'a Judge<'a>,
}

/// All that a workload did to its disk.
#[derive(Debug)]
pub struct Recording {
    place: PathBuf,
    /// The disk as it was before.
    base: PathBuf,
    log: Log,
    /// What was marked, and by which entry.
    marks: Vec<(usize, String)>,
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

/// A cut to be made.
struct Plan {
    entry: usize,
    /// From which entry on the disk lies.
    lies: usize,
    marks: Vec<String>,
}

impl Workload {
    /// Runs it, with its files in the directory `place`. One that fails is an error.
    pub fn record(&self, place: &Path) -> Result<Recording> {
        make_dir(place)?;
        let [base, image, path] = ["base.img", "disk.img", "disk.log"].map(|name| place.join(name));
        format(&base, self.size, self.file_system)?;
        copy(&base, &image)?;
        std::fs::write(&path, "").map_err(|e| Error::access("create", &path, e))?;
        let mut guest = self.guest.clone();
        guest.disks.insert(0, Disk::Logged { image, log: path.clone() });
        let mut running = guest.start()?;
        let end = std::time::Instant::now() + self.limit;
        while std::time::Instant::now() < end && !running.is_over() {
            std::thread::sleep(Duration::from_millis(20));
        }
        running.quit();
        let said = running.said();
        let log = Log::read(&path)?;
        let failed = crate::vm::status(&said).is_some_and(|status| status != 0);
        if failed || log.entries().is_empty() {
            return Err(Error::Fail {
                command: "the workload".into(),
                status: if failed { "failed".into() } else { "wrote nothing to its disk".into() },
                output: crate::program::tail(&said, 20),
            });
        }
        let marks = log.texts(self.size << 20)?;
        Ok(Recording { place: place.to_owned(), base, log, marks })
    }
}

impl Recording {
    /// Makes `count` cuts, fewer if there are not so many moments, and looks at what they left.
    pub fn cuts(&self, look: &Look<'_>, when: When, count: u64, random: &mut Random) -> Result<Vec<Cut>> {
        let mut cuts = Vec::new();
        for plans in self.plans(when, count, random).chunks(DISKS) {
            let mut images = Vec::new();
            for (number, plan) in plans.iter().enumerate() {
                let image = self.place.join(format!("cut-{number}.img"));
                copy(&self.base, &image)?;
                self.log.rebuild(&image, plan.entry, plan.lies, random)?;
                images.push(image);
            }
            let found = look.look(&images, plans)?;
            cuts.extend(plans.iter().zip(found).map(|(plan, wrong)| Cut {
                entry: plan.entry,
                acknowledged: plan.marks.iter().filter(|mark| mark.starts_with("ack ")).count(),
                wrong,
            }));
        }
        Ok(cuts)
    }

    fn plans(&self, when: When, count: u64, random: &mut Random) -> Vec<Plan> {
        let end = self.log.entries().len();
        let plan = |entry: usize| {
            let before: Vec<&(usize, String)> = self.marks.iter().filter(|(at, _)| *at < entry).collect();
            let second = before.iter().rev().nth(1).map_or(0, |(at, _)| *at);
            Plan {
                entry,
                lies: if when == When::Lied { second } else { usize::MAX },
                marks: before.into_iter().map(|(_, text)| text.clone()).collect(),
            }
        };
        match when {
            When::Anytime => {
                random.sample(count, end as u64 + 1).iter().map(|&at| plan(at as usize)).collect()
            }
            When::Over => (0..count).map(|_| plan(end)).collect(),
            When::Lied => {
                let acks: Vec<_> = self.marks.iter().filter(|(_, text)| text.starts_with("ack ")).collect();
                let chosen = random.sample(count, acks.len() as u64);
                chosen.iter().filter_map(|&n| acks.get(n as usize)).map(|(at, _)| plan(at + 1)).collect()
            }
        }
    }
}

impl Look<'_> {
    /// What is wrong with each of the images.
    fn look(&self, images: &[PathBuf], plans: &[Plan]) -> Result<Vec<Option<String>>> {
        let mut guest = self.guest.clone();
        guest.disks = images.iter().map(|image| Disk::Raw(image.clone())).chain(guest.disks).collect();
        let (said, _) = guest.run(self.limit * images.len() as u32)?;
        let mut sections = said.split(LOOK).skip(1);
        let judged = plans.iter().map(|plan| {
            let section = sections.next().unwrap_or_default();
            let (said, status) = section.split_once(STATUS).unwrap_or((section, "none"));
            match status.lines().next() {
                Some("0") => (self.judge)(&plan.marks, said).err(),
                _ => Some(format!("not looked at to the end: {}", crate::program::tail(section, 20))),
            }
        });
        Ok(judged.collect())
    }
}

/// A script that looks at each disk: `script` is run with the disk as `$1`, in a shell of its own.
pub fn look_at_each(script: &str) -> String {
    format!(
        "look() {{\n{script}\n}}\nfor disk in /dev/vd?; do\n    echo \"{LOOK}$disk\"\n    (look $disk)\n    \
         echo \"{STATUS}$?\"\ndone\n"
    )
}

/// An empty file system of `size` MiB.
fn format(image: &PathBuf, size: u64, file_system: FileSystem) -> Result<()> {
    let file = std::fs::File::create(image).map_err(|e| Error::access("create", image, e))?;
    file.set_len((size + ROOM) << 20).map_err(|e| Error::access("size", image, e))?;
    let mib = format!("{size}M");
    // What the guest does not do at once it would do in the background, at moments of its own.
    let ext4 = |extended: &str, mib: &str| {
        let mut mkfs = Command::new("/sbin/mkfs.ext4");
        let now = format!("lazy_itable_init=0,lazy_journal_init=0{extended}");
        mkfs.args(["-q", "-F", "-E", &now]).arg(image).arg(mib);
        mkfs
    };
    let mut mkfs = match file_system {
        FileSystem::Ext4 => ext4("", &mib),
        FileSystem::Ext4Projects => {
            let mut mkfs = ext4("", &mib);
            mkfs.args(["-O", "project,quota"]);
            mkfs
        }
        FileSystem::Ext4AndDevice => {
            let parts = [(1, FIRST), (1 + FIRST, size.saturating_sub(1 + FIRST))];
            file.write_all_at(&partitions(parts), 0).map_err(|e| Error::access("write", image, e))?;
            ext4(&format!(",offset={}", 1 << 20), &format!("{FIRST}M"))
        }
        FileSystem::Xfs => {
            let mut mkfs = Command::new("/sbin/mkfs.xfs");
            mkfs.args(["-q", "-f", "-m", "reflink=1", "-d", &format!("size={}m", size)]).arg(image);
            mkfs
        }
        FileSystem::Btrfs => {
            let mut mkfs = Command::new("/sbin/mkfs.btrfs");
            mkfs.args(["-q", "-f", "-b", &mib]).arg(image);
            mkfs
        }
    };
    run(&mut mkfs)?;
    Ok(())
}

/// The first sector of a disk with two partitions, from so many MiB on, so many MiB each.
fn partitions(parts: [(u64, u64); 2]) -> [u8; 512] {
    let mut sector = [0; 512];
    let entries = sector[446..478].chunks_exact_mut(16);
    for (entry, (from, mib)) in entries.zip(parts) {
        // Linux; where it is by cylinders nobody asks.
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&((from << 11) as u32).to_le_bytes());
        entry[12..16].copy_from_slice(&((mib << 11) as u32).to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("--sparse=always").arg(from).arg(to)).map(|_| ())
}

/// Judges guests that say `whole WHAT` or `damaged WHAT` of everything they find: all that was acknowledged is whole,
/// and nothing is damaged.
pub fn whole(marks: &[String], said: &str) -> Result<(), String> {
    let damaged = said.lines().filter(|line| line.starts_with("damaged ")).map(str::to_owned);
    let lost = marks
        .iter()
        .filter_map(|mark| mark.strip_prefix("ack "))
        .filter(|what| !said.lines().any(|line| line.strip_prefix("whole ") == Some(*what)));
    summary(damaged.chain(lost.map(|what| format!("acknowledged and not whole: {what}"))).collect())
}

/// The first of what is wrong, and how much more; nothing is fine.
pub fn summary(wrong: Vec<String>) -> Result<(), String> {
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
