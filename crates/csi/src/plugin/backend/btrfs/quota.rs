//! What subvolumes may have, and what they have.
//!
//! A subvolume that a workload makes in its volume has no limit of its own: whoever may write to a directory may make one, and
//! the kernel does not ask the volume's group. So they are looked for whenever the volume is dealt with, its statistics
//! included, and what the volume has left is shared out among them. One group above them all would be no way: the numbers of
//! such a group are wrong once a snapshot joins it, until everything is counted again.

use std::os::fd::AsFd;
use std::sync::{MutexGuard, PoisonError};

use grpc::Failure;
use kernel::btrfs::{self, Group, Quotas};
use rustix::io::Errno;

use super::{Subvolumes, size};
use crate::plugin::pool::record::Volume;

impl Subvolumes {
    /// Refuses quotas that do not count what a clone shares; whether what is counted is true.
    pub(super) fn full_quotas(&self) -> Result<Quotas, Failure> {
        match btrfs::quotas(&self.uuid)? {
            Quotas::Simple => Err(Failure::precondition(
                "the pool's btrfs has simple quotas, which do not count what a clone shares: disable them (`btrfs quota \
                 disable`), the driver enables full ones",
            )),
            other => Ok(other),
        }
    }

    /// Has the file system count what subvolumes have, and waits until that is known.
    pub(super) fn count(&self) -> Result<(), Failure> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if *counts {
            return Ok(());
        }
        if self.full_quotas()? == Quotas::Off {
            btrfs::enable(&self.pool)?;
        }
        // Before it is asked whether what is counted is true, so that it stays so.
        btrfs::keep_counting(&self.uuid)?;
        if self.full_quotas()? == (Quotas::Full { inconsistent: true }) {
            btrfs::rescan(&self.pool)?;
        }
        btrfs::wait_for_rescan(&self.pool)?;
        let all = btrfs::groups(&self.pool)?;
        *counts = true;
        drop(counts);
        // Of subvolumes that were gone when an earlier driver ended, too. Those that are there are none of them.
        let gone =
            all.into_iter().filter(|&id| btrfs::exists(&self.pool, id).is_ok_and(|is_there| !is_there));
        self.forget(&gone.collect::<Vec<_>>());
        Ok(())
    }

    /// Takes away the quota groups of those of these subvolumes that are gone: newer kernels do it themselves. What is still
    /// being taken away is looked at the next time.
    pub(super) fn forget(&self, ids: &[u64]) {
        // Whoever comes meanwhile has only his own to look at.
        let mut left = std::mem::take(&mut *self.gone());
        left.extend(ids);
        left.retain(|&id| {
            let is_there = btrfs::exists(&self.pool, id).unwrap_or(true);
            is_there || !self.is_counted_out(id) || btrfs::forget(&self.pool, id).is_err()
        });
        self.gone().extend(left);
    }

    /// Whether the group of a subvolume that is gone has nothing any more, which the next commit counts. Newer kernels (6.12) take one
    /// that is removed before for a sign that they have counted wrong, and want all counted anew.
    fn is_counted_out(&self, id: u64) -> bool {
        match btrfs::group(&self.uuid, id) {
            Ok(Some(group)) if group.referenced > 0 || group.exclusive > 0 => {
                // Where they have counted wrong it may never come to that.
                matches!(btrfs::quotas(&self.uuid), Ok(Quotas::Full { inconsistent: true }))
            }
            _ => true,
        }
    }

    fn gone(&self) -> MutexGuard<'_, Vec<u64>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn group(&self, id: u64) -> Result<Option<Group>, Failure> {
        Ok(btrfs::group(&self.uuid, id)?)
    }

    /// The subvolume of a root and those in it that can be counted, with their groups.
    fn groups(&self, root: impl AsFd) -> Result<Vec<(u64, Group)>, Failure> {
        let id = btrfs::id(&root)?;
        let Some(own) = self.group(id)? else {
            let hint = "start the driver anew, which enables them";
            return Err(Failure::precondition(format!(
                "the subvolume {id} has no quota group, as the pool's quotas are off: {hint}"
            )));
        };
        let mut all = vec![(id, own)];
        for id in btrfs::nested(&self.pool, id)? {
            // One that goes meanwhile has none.
            all.extend(self.group(id)?.map(|group| (id, group)));
        }
        Ok(all)
    }

    /// What a subvolume has, those in it included. What several of them share counts in each.
    pub(super) fn referenced(&self, root: impl AsFd) -> Result<u64, Failure> {
        Ok(all(&self.groups(root)?))
    }

    /// What nobody else has of it.
    pub(super) fn exclusive(&self, root: impl AsFd) -> Result<u64, Failure> {
        let own =
            self.groups(root)?.into_iter().map(|(_, group)| group.exclusive.saturating_add(group.reserved));
        Ok(own.fold(0, u64::saturating_add))
    }

    /// Holds a volume to its capacity.
    pub(super) fn hold(&self, root: impl AsFd, capacity: u64) -> Result<(), Failure> {
        self.hold_all(&self.groups(root)?, capacity)
    }

    /// Holds a volume to its capacity where subvolumes have come to be in it, or are gone again; what all have. Whoever has no
    /// turn does no more: a volume that is alone may get a larger limit meanwhile.
    pub(super) fn hold_nested(&self, root: impl AsFd, capacity: u64) -> Result<u64, Failure> {
        let groups = self.groups(root)?;
        let shared = |limit| limit < size::limit(capacity);
        if groups.len() > 1 || groups.iter().any(|(_, own)| own.limit.is_some_and(shared)) {
            self.hold_all(&groups, capacity)?;
        }
        Ok(all(&groups))
    }

    fn hold_all(&self, groups: &[(u64, Group)], capacity: u64) -> Result<(), Failure> {
        for (id, limit) in limits(groups, size::limit(capacity)) {
            match btrfs::limit(&self.pool, id, limit) {
                Err(e) if e.errno() == Some(Errno::NOENT) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Has a subvolume that is about to go let go of those in it: one that is full has no room for that, and one that its
    /// owner has made read-only refuses. What stays so is told by what fails then.
    pub(super) fn let_go(&self, id: u64) {
        let _full = btrfs::limit(&self.pool, id, u64::MAX);
        let _read_only = btrfs::make_writable(&self.pool, id);
    }

    /// Why nobody holds a volume to its capacity.
    pub(super) fn uncounted(&self, root: impl AsFd, volume: &Volume) -> Result<Option<String>, Failure> {
        let said = match btrfs::quotas(&self.uuid)? {
            Quotas::Off => "the quotas of its pool are off: start the driver anew",
            Quotas::Simple => "the quotas of its pool are simple, and count only a part of it",
            Quotas::Full { inconsistent: true } => {
                "what it has must be counted anew: run `btrfs quota rescan` on the pool, or start the driver anew"
            }
            Quotas::Full { .. } => {
                // Those in it may have come to be a moment ago.
                let most = size::limit(volume.capacity);
                let groups = self.groups(root)?;
                if groups.first().is_some_and(|(_, own)| own.limit.is_some_and(|limit| limit <= most)) {
                    return Ok(None);
                }
                "its quota group has lost its limit"
            }
        };
        Ok(Some(said.to_owned()))
    }
}

/// What a group has once all is counted.
fn has(group: &Group) -> u64 {
    group.referenced.saturating_add(group.reserved)
}

/// What all of these have. A count that has gone wrong may be anything.
fn all(groups: &[(u64, Group)]) -> u64 {
    groups.iter().map(|(_, group)| has(group)).fold(0, u64::saturating_add)
}

/// The limits that are to change, so that all of these groups together have at most `most`. One group has it all; of several
/// each has what it has, and the same part of what is left. Parts that are about right stay as they are.
fn limits(groups: &[(u64, Group)], most: u64) -> Vec<(u64, u64)> {
    let part = most.saturating_sub(all(groups)) / (groups.len() as u64).max(1);
    let share =
        |group: &Group| if groups.len() == 1 { most } else { has(group).saturating_add(part).min(most) };
    let wanted = groups.iter().map(|(id, group)| (*id, share(group)));
    let sum = groups.iter().try_fold(0_u64, |sum, (_, group)| sum.checked_add(group.limit?));
    let has_room = |(_, group): &(u64, Group)| {
        group.limit.is_some_and(|limit| limit >= has(group).saturating_add(part / 2))
    };
    if groups.len() > 1 && sum.is_some_and(|sum| sum <= most) && groups.iter().all(has_room) {
        return Vec::new();
    }
    wanted
        .zip(groups)
        .filter(|((_, limit), (_, group))| group.limit != Some(*limit))
        .map(|(wanted, _)| wanted)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, Instant};

    use super::super::disk::Disk;
    use super::*;

    /// Removed at any moment before, a group costs the kernel the trust in its count, on Linux from 6.12 on: so it is tried often.
    #[test]
    fn a_group_that_is_not_counted_out_stays_until_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path(), 256 << 20);
        let own = Subvolumes::open(disk.path()).unwrap();
        own.count().unwrap();
        let root = File::open(disk.path()).unwrap();
        for number in 0..60 {
            let name = std::ffi::CString::new(format!("v{number}")).unwrap();
            btrfs::create(&root, &name).unwrap();
            let place = disk.path().join(name.to_str().unwrap());
            fs::write(place.join("data"), vec![1; 4 << 20]).unwrap();
            own.commits.commit().unwrap();
            let id = btrfs::id(File::open(&place).unwrap()).unwrap();
            assert!(!own.is_counted_out(id));
            btrfs::destroy(&own.pool, id).unwrap();
            own.forget(&[id]);
            let began = Instant::now();
            while own.gone().contains(&id) {
                assert!(began.elapsed() < Duration::from_secs(60), "{:?}", own.group(id));
                // Others commit now and then: not at each look.
                if began.elapsed().subsec_millis() % 100 < 5 {
                    own.commits.commit().unwrap();
                }
                own.forget(&[]);
            }
            assert_eq!(own.full_quotas().unwrap(), Quotas::Full { inconsistent: false }, "{number}");
        }
    }

    fn group(referenced: u64, limit: Option<u64>) -> Group {
        Group { referenced, exclusive: 0, reserved: 0, limit }
    }

    #[test]
    fn what_is_left_is_shared_out() {
        assert_eq!(limits(&[(1, group(10, None))], 100), [(1, 100)]);
        assert_eq!(limits(&[(1, group(10, Some(100)))], 100), []);
        let two = limits(&[(1, group(10, Some(100))), (2, group(30, None))], 100);
        assert_eq!(two, [(1, 40), (2, 60)]);
        // They stay until one has used up half of its part.
        assert_eq!(limits(&[(1, group(20, Some(40))), (2, group(30, Some(60)))], 100), []);
        assert_eq!(limits(&[(1, group(35, Some(40))), (2, group(30, Some(60)))], 100), [(1, 52), (2, 47)]);
        // Nobody gets more where too much is there.
        assert_eq!(limits(&[(1, group(90, Some(100))), (2, group(30, None))], 100), [(1, 90), (2, 30)]);
        // One whose count has gone wrong.
        assert_eq!(limits(&[(1, group(u64::MAX, None)), (2, group(1, None))], 100), [(1, 100), (2, 1)]);
        // A volume that has grown.
        assert_eq!(limits(&[(1, group(10, Some(40))), (2, group(30, Some(60)))], 400), [(1, 190), (2, 210)]);
    }
}
