//! Power cuts: a guest that writes is cut at random moments; afterwards everything acknowledged must be there.

mod files;
mod pulls;

use std::path::Path;
use std::time::Duration;

use testkit::power::{Judge, MARK, PowerCut, When, look_at_each, print};
use testkit::vm::{Guest, Initramfs, Kernel};

use super::{Count, Extent};
use crate::Result;
use crate::program::target;

/// How many cuts one run of a workload is good for: then it runs again, and goes another way in the details.
const CUTS: u64 = 60;
/// How many are enough to see that something is lost, where it must be.
const BLIND: u64 = 6;

pub(super) fn run(extent: &mut Extent) -> Result<Count> {
    let kernel = Kernel::fetch(&target().join("vm"))?;
    let mut count = Count::default();
    files::run(&kernel, extent, &mut count);
    pulls::run(&kernel, extent, &mut count)?;
    Ok(count)
}

/// What is cut, and how it is judged.
struct Scenario<'a> {
    kernel: &'a Kernel,
    /// Run with [`MARK`], and the disk at /dev/vda.
    write: String,
    /// Run for each disk, which is `$1`.
    look: String,
    /// Puts into both guests what they need.
    furnish: &'a dyn Fn(&mut Initramfs),
    /// In MiB: the disk, and the guest's memory.
    size: u64,
    memory: u32,
    limit: Duration,
    when: When,
    judge: &'a Judge<'a>,
}

impl Scenario<'_> {
    fn guest(&self, path: &Path, script: &str) -> Result<Guest> {
        let mut contents = Initramfs::new(self.kernel, &["virtio_blk"], script)?;
        contents.host_program("dd")?;
        (self.furnish)(&mut contents);
        contents.write(path)?;
        let mut guest = Guest::new(self.kernel, path);
        guest.memory = self.memory;
        Ok(guest)
    }

    /// Makes so many cuts; how many of them lost something.
    fn cuts(&self, count: u64, random: &mut testkit::Random) -> Result<usize> {
        let place = tempfile::Builder::new().prefix("sextant-power-").tempdir()?;
        let mut workload = self.guest(&place.path().join("write"), &format!("{MARK}{}", self.write))?;
        let mut verify = self.guest(&place.path().join("look"), &look_at_each(&self.look))?;
        workload.acceleration = workload.probe();
        verify.acceleration = workload.acceleration;
        let (size, limit, when) = (self.size, self.limit, self.when);
        let power = PowerCut { workload, verify, size, limit, when, judge: self.judge };
        let mut all = Vec::new();
        while (all.len() as u64) < count {
            let cuts = power.cuts(place.path(), (count - all.len() as u64).min(CUTS), random)?;
            if cuts.is_empty() {
                return Err("the workload has nothing to cut".into());
            }
            all.extend(cuts);
        }
        print(&all, &mut std::io::stdout())?;
        Ok(all.iter().filter(|cut| cut.wrong.is_some()).count())
    }

    /// Nothing may be lost.
    fn safe(&self, count: u64, random: &mut testkit::Random) -> Result<()> {
        match self.cuts(count, random)? {
            0 => Ok(()),
            lost => Err(format!("{lost} of {count} cuts lost something acknowledged").into()),
        }
    }

    /// Something must be lost, or what says that nothing was is worth nothing.
    fn blind(&self, random: &mut testkit::Random) -> Result<()> {
        match self.cuts(BLIND, random)? {
            0 => Err("nothing was lost though nothing was flushed: the harness is blind".into()),
            _ => Ok(()),
        }
    }
}
