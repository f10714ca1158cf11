//! Directories that a project quota of ext4 or xfs bounds.
//!
//! A volume is the directory `data` in its place, as with `dir`; it has a project of its own, which all that is made in it is
//! of, and the file system stops who would have more. The directory itself says which project that is: it is given to one
//! before anything is in it, so what a killed driver leaves goes with its place.

mod projects;
mod size;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use grpc::Failure;
use kernel::quota::Quota;

use self::projects::Projects;
use self::size::{PLACE, Shape};
use super::dir::{self, DATA};
use super::{Abilities, Backend, Copies, Cut, Mounting, Source, Space, Usage, Wish, copy};
use crate::plugin::pool::record::Volume;

const NAME: &str = "quota";

/// Directories with project quotas, of a pool.
pub(crate) struct Quotas {
    shape: Shape,
    projects: Projects,
}

impl Quotas {
    /// Looks whether the pool's file system has project quotas in force, and takes away the limits of projects that a power cut
    /// has left. `ids` are the first and the last project that volumes may have.
    ///
    /// # Errors
    /// It has none: what to do.
    pub(crate) fn open(pool: &Path, ids: [u32; 2]) -> Result<Quotas, Failure> {
        let shape = Shape::of(pool)?;
        let projects = Projects::open(pool, ids)?;
        if !projects.are_enforced()? {
            let how = shape.how_to_enforce();
            let message = format!("project quotas are not in force on the file system of {}", pool.display());
            return Err(Failure::precondition(format!("{message}: {how}")));
        }
        projects.sweep()?;
        Ok(Quotas { shape, projects })
    }

    /// Makes a directory with a project, as `from` is where there is one.
    fn make(&self, place: &Path, capacity: u64, from: Option<PathBuf>) -> Result<(), Failure> {
        let limits = self.shape.limits(capacity);
        let data = dir::make(place)?;
        let project = self.projects.claim(&data)?;
        if let Some(from) = from {
            // The last of a full one wants more room for a moment than it has in the end.
            self.projects.limit(project, limits.while_copied())?;
            copy::fill(&from, &data)?;
        }
        self.projects.limit(project, limits)
    }

    fn project(&self, place: &Path, volume: &Volume) -> Result<u32, Failure> {
        self.projects.of(place)?.ok_or_else(|| {
            let hint = "make a volume of it anew, as a clone";
            Failure::precondition(format!("volume {} {NO_PROJECT}: {hint}", volume.id))
        })
    }

    fn quota(&self, place: &Path) -> Result<Option<Quota>, Failure> {
        self.projects.of(place)?.map(|project| self.projects.quota(project)).transpose()
    }
}

/// Somebody has moved it, or taken its project away.
const NO_PROJECT: &str = "has no project of its own, and holds no bound";

impl Backend for Quotas {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities { mount: true, block: false, copies: Copies::Whole }
    }

    /// Blocks that copies share are counted for each of them: all may come to be written anew.
    fn space(&self, pool: &Path) -> Result<Space, Failure> {
        let told = Space::of(pool)?;
        if !self.shape.shares_blocks() {
            return Ok(told);
        }
        let all = self.projects.all()?;
        let counted = all.iter().map(|quota| self.shape.allocated(quota)).fold(0, u64::saturating_add);
        Ok(Space { free: told.free.min(told.size.saturating_sub(counted)), ..told })
    }

    fn least(&self, _: &Wish) -> u64 {
        self.shape.least()
    }

    fn taken(&self, _: &Wish, capacity: u64) -> u64 {
        self.shape.taken(capacity)
    }

    fn fits(&self, _: &Wish, bytes: u64) -> u64 {
        self.shape.fits(bytes)
    }

    fn accepts(&self, wish: &Wish) -> Result<(), Failure> {
        dir::accepts(NAME, wish)
    }

    fn create(&self, place: &Path, volume: &Volume, source: Option<Source<'_>>) -> Result<(), Failure> {
        self.make(place, volume.capacity, source.map(dir::origin))
    }

    /// Each has a project of its own: what it has is not the volume's. Nobody writes to it; it is bounded as what it was made of.
    fn snapshot(&self, cuts: &[Cut<'_>]) -> Result<(), Failure> {
        dir::one(cuts)?;
        cuts.iter().try_for_each(|cut| self.make(cut.to, cut.volume.capacity, Some(cut.from.join(DATA))))
    }

    fn expand(&self, place: &Path, volume: &Volume, capacity: u64, _: Option<&Path>) -> Result<(), Failure> {
        self.projects.limit(self.project(place, volume)?, self.shape.limits(capacity))
    }

    fn modify(&self, _: &Path, _: &Volume, _: Option<&Path>) -> Result<(), Failure> {
        Ok(())
    }

    /// The limits first: a project with files is nobody else's, one without limits is nobody's as soon as they are gone.
    fn remove(&self, place: &Path) -> Result<(), Failure> {
        if let Some(project) = self.projects.of(place)? {
            self.projects.free(project)?;
        }
        copy::remove(place)
    }

    fn sync(&self, place: &Path) -> Result<(), Failure> {
        copy::sync(place)
    }

    /// Limits are in the journal before the names.
    fn commit(&self, directories: &[&Path]) -> Result<(), Failure> {
        copy::sync_names(directories)
    }

    fn mount(&self, place: &Path, volume: &Volume, how: &Mounting<'_>) -> Result<OwnedFd, Failure> {
        dir::bind(&place.join(DATA), volume, how, "a directory's")
    }

    fn device(&self, _: &Path, volume: &Volume, _: bool) -> Result<PathBuf, Failure> {
        Err(dir::no_block(volume))
    }

    fn release(&self, _: &Path, _: &Volume) -> Result<(), Failure> {
        Ok(())
    }

    fn usage(&self, place: &Path, volume: &Volume, _: Option<&Path>) -> Result<Usage, Failure> {
        let quota = self.projects.quota(self.project(place, volume)?)?;
        let used = quota.bytes.min(volume.capacity);
        let available = (volume.capacity - used).min(Space::of(place)?.free);
        Ok(Usage {
            total: volume.capacity,
            used,
            available,
            inodes: quota.most_inodes,
            inodes_used: quota.inodes,
        })
    }

    fn ailment(&self, place: &Path, _: &Volume, _: Option<&Path>) -> Result<Option<String>, Failure> {
        if let Some(gone) = dir::ailment(place) {
            return Ok(Some(gone));
        }
        if !self.projects.are_enforced()? {
            let how = self.shape.how_to_enforce();
            return Ok(Some(format!("project quotas are not in force any more: {how}")));
        }
        Ok(match self.quota(place)? {
            None => Some(format!("it {NO_PROJECT}")),
            Some(quota) if quota.most_bytes == 0 => {
                Some("its project has lost its limits: start the driver anew".to_owned())
            }
            Some(_) => None,
        })
    }

    fn allocated(&self, place: &Path) -> Result<u64, Failure> {
        Ok(match self.quota(place)? {
            Some(quota) => self.shape.allocated(&quota).saturating_add(PLACE),
            None => copy::allocated(&place.join(DATA)),
        })
    }

    /// A killed driver may have changed the limits, and not the record, or the file system was without quotas meanwhile.
    fn recover(&self, place: &Path, volume: &Volume, _: Option<&Path>) -> Result<(), Failure> {
        self.projects.limit(self.project(place, volume)?, self.shape.limits(volume.capacity))
    }
}
