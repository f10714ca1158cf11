//! Which projects volumes have.

use std::fs::File;
use std::path::Path;

use grpc::{Code, Failure};
use kernel::quota::{self, Quota};
use rustix::io::Errno;

use super::size::Limits;
use crate::plugin::backend::dir::DATA;

/// How often somebody else may take the same project at the same moment before that is told.
const ATTEMPTS: usize = 64;

/// The projects of a pool's file system.
pub(super) struct Projects {
    /// The pool, through which its file system is asked.
    pool: File,
    first: u32,
    last: u32,
}

impl Projects {
    /// Those from the first to the last one of `ids`.
    ///
    /// # Errors
    /// The pool cannot be opened.
    pub(super) fn open(pool: &Path, [first, last]: [u32; 2]) -> Result<Projects, Failure> {
        Ok(Projects { pool: open(pool)?, first, last })
    }

    /// Whether who would have more than a limit is stopped.
    pub(super) fn are_enforced(&self) -> Result<bool, Failure> {
        let state = quota::state(&self.pool)?;
        Ok(state.is_accounted && state.is_enforced)
    }

    pub(super) fn quota(&self, project: u32) -> Result<Quota, Failure> {
        Ok(quota::of(&self.pool, project)?)
    }

    pub(super) fn limit(&self, project: u32, limits: Limits) -> Result<(), Failure> {
        Ok(quota::limit(&self.pool, project, limits.bytes, limits.inodes)?)
    }

    /// Gives an empty directory a project that nobody else has.
    ///
    /// Two drivers, with pools of one file system, may find the same one free at once. Each is given to it first, and looks then
    /// how many have it: at least one of them sees both, and goes on to another.
    ///
    /// # Errors
    /// `ResourceExhausted` where all are taken.
    pub(super) fn claim(&self, data: &Path) -> Result<u32, Failure> {
        let directory = open(data)?;
        for _ in 0..ATTEMPTS {
            let project = self.unused()?;
            quota::set_project(&directory, project, true)?;
            if self.quota(project)?.inodes == 1 {
                return Ok(project);
            }
        }
        let message = format!("others take the same projects as {} again and again", data.display());
        Err(Failure::new(Code::Aborted, message))
    }

    /// A project that nothing is of, and that has no limits: from anywhere on, so that two seldom take the same.
    fn unused(&self) -> Result<u32, Failure> {
        let count = u64::from(self.last - self.first) + 1;
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Failure::internal(format!("cannot get random bytes: {e}")))?;
        let start = u64::from_ne_bytes(bytes) % count;
        for step in 0..count {
            // Below the count, which fits.
            let project = self.first + ((start + step) % count) as u32;
            if self.quota(project)?.is_unused() {
                return Ok(project);
            }
        }
        let hint = "delete volumes or snapshots, or widen the pool's `project-ids`";
        let message = format!("all projects from {} to {} are taken: {hint}", self.first, self.last);
        Err(Failure::new(Code::ResourceExhausted, message))
    }

    /// The project of the directory of a place; none where it is not there, or has that of the directory around it.
    pub(super) fn of(&self, place: &Path) -> Result<Option<u32>, Failure> {
        let data = match File::open(place.join(DATA)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|e| failed(&place.join(DATA), &e))?,
        };
        let around = quota::project(open(place)?)?;
        let own = quota::project(&data)?;
        Ok(Some(own).filter(|&own| own != 0 && own != around))
    }

    /// Takes the limits of a project away.
    pub(super) fn free(&self, project: u32) -> Result<(), Failure> {
        match quota::limit(&self.pool, project, 0, 0) {
            // Quotas are not in force any more: the next start with them sweeps.
            Err(e) if e.errno() == Some(Errno::SRCH) => Ok(()),
            done => Ok(done?),
        }
    }

    /// What each project of the file system has, those of others and what is of none (0) with them.
    pub(super) fn all(&self) -> Result<Vec<Quota>, Failure> {
        let (mut all, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from
            && let Some((project, quota)) = quota::next(&self.pool, at)?
        {
            all.push(quota);
            from = project.checked_add(1);
        }
        Ok(all)
    }

    /// Frees those that have limits, and that nothing is of: what has limits was given something first, and loses it last.
    pub(super) fn sweep(&self) -> Result<(), Failure> {
        let mut from = self.first;
        while let Some((project, quota)) = quota::next(&self.pool, from)? {
            if project > self.last {
                break;
            }
            if quota.inodes == 0 && !quota.is_unused() {
                self.free(project)?;
            }
            let Some(next) = project.checked_add(1) else { break };
            from = next;
        }
        Ok(())
    }
}

fn open(directory: &Path) -> Result<File, Failure> {
    File::open(directory).map_err(|e| failed(directory, &e))
}

fn failed(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::internal(format!("cannot open {}: {cause}", path.display()))
}
