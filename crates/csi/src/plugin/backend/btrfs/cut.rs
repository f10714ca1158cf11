//! Snapshots of volumes: of one at once, of several as of one moment.

use std::fs::File;
use std::sync::{PoisonError, RwLock};

use grpc::{Code, Failure};
use kernel::btrfs;

use super::commit::Commits;
use super::{Subvolumes, data, failed, refused};
use crate::plugin::backend::Cut;

/// How often it is tried to have all in one transaction.
const TRIES: usize = 60;

/// A cut whose both ends are open.
struct Ready {
    from: File,
    to: File,
}

impl Ready {
    fn new(cut: &Cut<'_>) -> Result<Ready, Failure> {
        let to = File::open(cut.to).map_err(|e| failed("open", cut.to, &e))?;
        Ok(Ready { from: data(cut.from)?, to })
    }

    fn cut(&self) -> Result<(), Failure> {
        btrfs::snapshot(&self.to, c"data", &self.from, true).map_err(refused)
    }
}

/// Cuts one volume.
pub(super) fn one(cut: &Cut<'_>) -> Result<(), Failure> {
    Ready::new(cut)?.cut()
}

/// Cuts several volumes as of one moment. The kernel cuts all that wait for a transaction when it ends, and nobody writes
/// meanwhile: threads that come at the same time are in the same one. They tell afterwards which it was, and where one came
/// late all are cut anew.
pub(super) fn together(own: &Subvolumes, cuts: &[Cut<'_>]) -> Result<(), Failure> {
    let ready = cuts.iter().map(Ready::new).collect::<Result<Vec<_>, _>>()?;
    for number in 0..TRIES {
        all(&own.commits, &ready, number % 2 == 0)?;
        let made = cuts.iter().map(|cut| Ok(btrfs::subvolume(data(cut.to)?)?));
        let made = made.collect::<Result<Vec<_>, Failure>>()?;
        if made.windows(2).all(|pair| matches!(pair, [one, other] if one.made == other.made)) {
            return Ok(());
        }
        made.iter().try_for_each(|one| btrfs::destroy(&own.pool, one.id))?;
        own.forget(&made.iter().map(|one| one.id).collect::<Vec<_>>());
    }
    let message =
        "the volumes could not be cut as of one moment now, as others kept the file system busy: try again";
    Err(Failure::new(Code::Aborted, message))
}

/// Cuts each on a thread of its own. On a busy machine the first may be through before the last begins; where each ends the
/// transaction before its own (`after`), those that come meanwhile wait for the same next one.
fn all(commits: &Commits, ready: &[Ready], after: bool) -> Result<(), Failure> {
    // Whether all are there, once it can be read: none begins before, and none waits for one that there is no thread for.
    let gate = RwLock::new(false);
    let cut = |one: &Ready| {
        if !*gate.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(());
        }
        if after {
            commits.start()?;
        }
        one.cut()
    };
    let broken = |_| Failure::internal("a thread that cut a snapshot broke off");
    let none =
        |e| Failure::new(Code::ResourceExhausted, format!("cannot start a thread for each volume: {e}"));
    std::thread::scope(|scope| {
        let mut all_there = gate.write().unwrap_or_else(PoisonError::into_inner);
        let start = |one| std::thread::Builder::new().spawn_scoped(scope, move || cut(one)).map_err(none);
        let threads = ready.iter().map(start).collect::<Result<Vec<_>, _>>();
        *all_there = threads.is_ok();
        drop(all_there);
        let outcomes = threads?.into_iter().map(|thread| thread.join().map_err(broken)?);
        outcomes.collect::<Vec<_>>().into_iter().collect()
    })
}
