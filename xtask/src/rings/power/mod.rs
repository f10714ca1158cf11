//! Power cuts: a guest that writes is cut at random moments; afterwards everything acknowledged must be there.

mod files;
mod pulls;
mod server;
mod store;
mod up;
mod volumes;

use std::cell::OnceCell;
use std::time::Duration;

use testkit::Random;
use testkit::power::{Cut, FileSystem, Judge, Look, MARK, Recording, When, Workload, look_at_each, print};
use testkit::vm::{Acceleration, Guest, Initramfs, Kernel};

use super::{Count, Extent};
use crate::Result;
use crate::program::target;

/// How many cuts one run of a workload is good for: then it runs again, and goes another way in the details.
const CUTS: usize = 60;
/// So many at a time, so that one sees how far it is.
const STEP: u64 = 12;
/// How many are enough to see that something is lost, where it must be.
const BLIND: u64 = 6;
/// How long a guest may look at one disk: an emulated one is slow, on a busy machine more so.
const LIMIT: Duration = Duration::from_secs(600);

pub(super) fn run(extent: &mut Extent) -> Result<Count> {
    let kernel = Kernel::fetch(&target().join("vm"))?;
    let mut count = Count::default();
    files::run(&kernel, extent, &mut count)?;
    pulls::run(&kernel, extent, &mut count)?;
    store::run(&kernel, extent, &mut count)?;
    server::run(&kernel, extent, &mut count)?;
    volumes::run(&kernel, extent, &mut count)?;
    up::run(&kernel, extent, &mut count)?;
    Ok(count)
}

/// Where guests are made and their disks are kept.
struct Stand<'a> {
    kernel: &'a Kernel,
    /// A guest's, in MiB.
    memory: u32,
    /// What its kernel has to load beside what any has.
    modules: &'a [&'a str],
    /// Programs of this machine that it runs.
    programs: &'a [&'a str],
    /// What its disk has.
    file_system: FileSystem,
    /// Puts into a guest what it needs.
    furnish: &'a dyn Fn(&mut Initramfs),
    place: tempfile::TempDir,
    acceleration: OnceCell<Acceleration>,
}

impl<'a> Stand<'a> {
    fn new(kernel: &'a Kernel, memory: u32, furnish: &'a dyn Fn(&mut Initramfs)) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("sextant-power-").tempdir()?;
        Ok(Self {
            kernel,
            memory,
            modules: &[],
            programs: &[],
            file_system: FileSystem::Ext4,
            furnish,
            place,
            acceleration: OnceCell::new(),
        })
    }

    fn guest(&self, name: &str, script: &str) -> Result<Guest> {
        let path = self.place.path().join(name);
        let mut contents = Initramfs::new(self.kernel, &[&["virtio_blk"], self.modules].concat(), script)?;
        for program in ["dd"].iter().chain(self.programs) {
            contents.host_program(program)?;
        }
        (self.furnish)(&mut contents);
        contents.write(&path)?;
        let mut guest = Guest::new(self.kernel, &path);
        guest.memory = self.memory;
        guest.acceleration = *self.acceleration.get_or_init(|| guest.probe());
        Ok(guest)
    }

    /// A workload of the script `write`, on a disk of `size` MiB.
    fn workload(&self, write: &str, size: u64, limit: Duration) -> Result<Workload> {
        let guest = self.guest("write", &format!("{MARK}{write}"))?;
        Ok(Workload { guest, size, file_system: self.file_system, limit })
    }

    /// A look by the script `look`, run for each disk, which is `$1`.
    fn look<'j>(&self, name: &str, look: &str, judge: &'j Judge<'j>) -> Result<Look<'j>> {
        Ok(Look { guest: self.guest(name, &look_at_each(look))?, limit: LIMIT, judge })
    }

    fn record(&self, workload: &Workload) -> Result<Recording> {
        Ok(workload.record(self.place.path())?)
    }

    /// Nothing may be lost, whenever the power goes. The workload is recorded anew from time to time.
    fn survives(
        &self,
        workload: &Workload,
        recording: &mut Recording,
        look: &Look<'_>,
        count: u64,
        random: &mut Random,
    ) -> Result<()> {
        let mut all = Vec::new();
        while (all.len() as u64) < count {
            if !all.is_empty() && all.len().is_multiple_of(CUTS) {
                *recording = self.record(workload)?;
            }
            let cuts = recording.cuts(look, When::Anytime, (count - all.len() as u64).min(STEP), random)?;
            if cuts.is_empty() {
                break;
            }
            let wrong = cuts.iter().find_map(|cut| cut.wrong.clone());
            all.extend(cuts);
            if count > STEP {
                println!(
                    "        {} of {count} cuts, {} wrong {}",
                    all.len(),
                    faults(&all),
                    wrong.unwrap_or_default()
                );
            }
        }
        intact(&all)
    }
}

/// Prints what came of cuts; nothing may be wrong.
fn intact(cuts: &[Cut]) -> Result<()> {
    match (wrong(cuts)?, cuts.len()) {
        (0, 0) => Err("there was nothing to cut".into()),
        (0, _) => Ok(()),
        (wrong, count) => Err(format!("{wrong} of {count} cuts are wrong").into()),
    }
}

/// Something must be wrong, or what says that nothing is is worth nothing.
fn seen(cuts: &[Cut]) -> Result<()> {
    match wrong(cuts)? {
        0 => Err("nothing was lost though nothing was flushed: the harness is blind".into()),
        _ => Ok(()),
    }
}

fn wrong(cuts: &[Cut]) -> Result<usize> {
    print(cuts, &mut std::io::stdout())?;
    Ok(faults(cuts))
}

fn faults(cuts: &[Cut]) -> usize {
    cuts.iter().filter(|cut| cut.wrong.is_some()).count()
}
