//! What a process keeps of the networks whose leases it has looked at: whoever gives many addresses opens no file, and reads
//! no configuration, for each of them. Nothing here is believed that a look at the directory does not bear out.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::store::Store;
use crate::contract::Error;

/// So many stores are kept: more networks than most hosts have.
const KEPT: usize = 8;

/// Stores that are not in use, one a network, the last used at the end. None of them is locked.
#[derive(Debug, Default)]
pub(super) struct Stores(Mutex<Vec<Store>>);

impl Stores {
    /// Locks the leases in `path`, which is made if it is not there.
    pub(super) fn open(&self, path: PathBuf) -> Result<Store, Error> {
        self.take(&path).map_or_else(|| Store::open(path), Ok)
    }

    /// Locks the leases in `path`; none if there is no such directory.
    pub(super) fn open_existing(&self, path: PathBuf) -> Result<Option<Store>, Error> {
        self.take(&path).map_or_else(|| Store::open_existing(path), |store| Ok(Some(store)))
    }

    fn take(&self, path: &Path) -> Option<Store> {
        let kept = {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let at = kept.iter().rposition(|store| store.path() == path)?;
            kept.remove(at)
        };
        kept.lock_again()
    }

    /// Lets go of the lock, and keeps the store. Whoever met an error does not: what was half done is read anew.
    pub(super) fn keep(&self, store: Store) {
        let Some(store) = store.unlocked() else { return };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of those that were opened side by side only the last to change the leases can be believed.
        let mut old: Vec<_> = kept.extract_if(.., |other| other.path() == store.path()).collect();
        if kept.len() >= KEPT {
            old.push(kept.remove(0));
        }
        kept.push(store);
        // Nobody waits while the files of the old ones are closed.
        drop(kept);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::net::IpAddr;
    use std::time::{Duration, UNIX_EPOCH};

    use kernel::netlink::IpNet;
    use ledger::Transient;
    use rustix::fs::{FlockOperation, flock};

    use super::super::index::{self, Identity, Index};
    use super::super::range::Range;
    use super::super::store::Holder;
    use super::*;

    const A: Holder<'static> = Holder { container_id: "a", ifname: "eth0" };

    fn address(last: u8) -> IpAddr {
        [10, 5, 0, last].into()
    }

    fn next(store: &Store) -> Option<IpAddr> {
        let subnet = IpNet::new(address(0), 24).unwrap();
        let range = Range { subnet, first: address(2), last: address(254), gateway: address(1) };
        store.free(range.first, range.last, &range)
    }

    fn is_locked(path: &Path) -> bool {
        flock(File::open(path.join("lock")).unwrap(), FlockOperation::NonBlockingLockExclusive).is_err()
    }

    #[test]
    fn what_is_kept_is_not_locked_and_believed_only_while_nothing_has_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let (stores, mut record) = (Stores::default(), Transient::new());
        let kept = || stores.0.lock().unwrap().len();
        let mut store = stores.open(path.clone()).unwrap();
        assert!(store.take(address(2), 0, A, &mut record).unwrap() && is_locked(&path));
        stores.keep(store);
        assert!(kept() == 1 && !is_locked(&path));

        // Somebody else's lease is seen.
        fs::write(path.join("10.5.0.3"), "x\r\neth0").unwrap();
        let mut store = stores.open(path.clone()).unwrap();
        assert!(kept() == 0 && is_locked(&path));
        assert_eq!(next(&store), Some(address(4)));
        assert_eq!(store.held(A).unwrap(), [address(2)]);
        stores.keep(store);

        // So is a lock that is another file now.
        fs::remove_file(path.join("lock")).unwrap();
        fs::write(path.join("lock"), "").unwrap();
        let store = stores.open_existing(path.clone()).unwrap().unwrap();
        assert!(is_locked(&path));
        stores.keep(store);

        // And a directory that is gone, and one that is another.
        fs::remove_dir_all(&path).unwrap();
        assert!(stores.open_existing(path.clone()).unwrap().is_none());
        let mut store = stores.open(path.clone()).unwrap();
        assert_eq!(next(&store), Some(address(2)));
        store.take(address(2), 0, A, &mut record).unwrap();
        assert!(path.join("10.5.0.2").exists());
    }

    #[test]
    fn the_last_address_is_read_and_written_whole_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let (stores, mut record) = (Stores::default(), Transient::new());
        let file = path.join("last_reserved_ip.0");
        let mut give = |last| {
            let mut store = stores.open(path.clone()).unwrap();
            let before = store.last_given(0);
            assert!(store.take(address(last), 0, A, &mut record).unwrap());
            stores.keep(store);
            assert_eq!(fs::read_to_string(&file).unwrap(), address(last).to_string());
            before
        };
        assert_eq!(give(2), None);
        assert_eq!(give(100), Some(address(2)));
        assert_eq!(give(3), Some(address(100)));
        // Written over, which the directory does not tell.
        fs::write(&file, "10.5.0.77").unwrap();
        assert_eq!(give(4), Some(address(77)));
        // Nothing of it stays where it was not asked for.
        fs::write(&file, "10.5.0.100\nand more").unwrap();
        let mut store = stores.open(path.clone()).unwrap();
        for last in [111, 5] {
            assert!(store.take(address(last), 0, A, &mut record).unwrap());
            assert_eq!(fs::read_to_string(&file).unwrap(), address(last).to_string());
        }
    }

    #[test]
    fn one_of_each_network_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let stores = Stores::default();
        let path = |i: usize| dir.path().join(i.to_string());
        let kept = || -> Vec<_> { stores.0.lock().unwrap().iter().map(|s| s.path().to_owned()).collect() };
        for i in 0..KEPT {
            stores.keep(stores.open(path(i)).unwrap());
        }
        // Two that are at work side by side.
        let (one, other) = (stores.open(path(3)).unwrap(), stores.open(path(5)).unwrap());
        let one = one.unlocked().unwrap();
        stores.keep(stores.open(path(3)).unwrap());
        stores.keep(other);
        stores.keep(one);
        assert_eq!(kept(), [0, 1, 2, 4, 6, 7, 5, 3].map(path));
        // The one that was used longest ago makes room.
        stores.keep(stores.open(path(KEPT)).unwrap());
        assert_eq!(kept(), [1, 2, 4, 6, 7, 5, 3, 8].map(path));
    }

    /// Makes of the directory's time, and of the index's, the whole second that a file system without finer ones has.
    fn blunt(path: &Path) {
        let second = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        File::open(path).unwrap().set_modified(second).unwrap();
        let file = index::open_options().open(path.with_file_name(".index").join("n")).unwrap();
        let mut index = Index::open(file).unwrap();
        let identity = Identity { seconds: 1_000_000_000, nanoseconds: 0, ..index.identity() };
        index.seal(identity).unwrap();
    }

    #[test]
    fn where_times_are_coarse_nothing_is_believed_that_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let (stores, mut record) = (Stores::default(), Transient::new());
        let mut store = Store::open(path.clone()).unwrap();
        assert!(store.take(address(2), 0, A, &mut record).unwrap());
        drop(store);
        blunt(&path);
        let store = stores.open(path.clone()).unwrap();
        assert_eq!(next(&store), Some(address(3)));
        stores.keep(store);
        // Another process, within the second.
        let mut store = Store::open(path.clone()).unwrap();
        assert!(store.take(address(3), 0, A, &mut record).unwrap());
        drop(store);
        blunt(&path);
        assert_eq!(next(&stores.open(path).unwrap()), Some(address(4)));
    }
}
