//! Snapshots of volumes: of one at once, of several as of one moment.

use std::fs::File;
use std::path::Path;
use std::sync::Barrier;

use grpc::{Code, Failure};
use kernel::btrfs;

use super::{data, failed, refused};
use crate::plugin::backend::Cut;

/// How often it is tried to have all in one transaction.
const TRIES: usize = 40;

/// Cuts one volume; what was made.
pub(super) fn one(cut: &Cut<'_>) -> Result<File, Failure> {
    let to = open(cut.to)?;
    btrfs::snapshot(&to, c"data", data(cut.from)?, true).map_err(refused)?;
    data(cut.to)
}

/// Cuts several volumes as of one moment. The kernel cuts all that wait for a transaction when it ends, and nobody writes
/// meanwhile: threads that come at the same time are in the same one. They tell afterwards which it was, and where one came
/// late all are cut anew.
pub(super) fn together(pool: &File, cuts: &[Cut<'_>]) -> Result<(), Failure> {
    for _ in 0..TRIES {
        let barrier = Barrier::new(cuts.len());
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let cutting = |cut| {
                barrier.wait();
                one(cut)
            };
            let threads: Vec<_> = cuts.iter().map(|cut| scope.spawn(move || cutting(cut))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
        });
        let broken = |_| Failure::internal("a thread that cut a snapshot broke off");
        let made = outcomes.into_iter().map(|made| made.map_err(broken)?).collect::<Result<Vec<_>, _>>()?;
        let told = made.iter().map(btrfs::subvolume).collect::<Result<Vec<_>, _>>()?;
        drop(made);
        if told.iter().all(|one| Some(one.made) == told.first().map(|first| first.made)) {
            return Ok(());
        }
        told.iter().try_for_each(|one| btrfs::destroy(pool, one.id))?;
    }
    let message =
        "the volumes could not be cut as of one moment now, as others kept the file system busy: try again";
    Err(Failure::new(Code::Aborted, message))
}

fn open(place: &Path) -> Result<File, Failure> {
    File::open(place).map_err(|e| failed("open", place, &e))
}
