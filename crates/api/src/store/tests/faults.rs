//! Disks that fail.

use super::disk::{Disk, Fault, store};
use super::{key, put, text};
use crate::store::{Error, Expect, Options, Scope, Store};

fn options() -> Options {
    Options { cache: 64 << 10, ..Options::default() }
}

fn found(store: &Store, name: u64) -> Option<u64> {
    store.get(&key(name)).unwrap().map(|found| text(&found.json))
}

/// The disk is full at each act of a commit in turn: what is acknowledged is there, what is refused is not, and when there
/// is room again it goes on.
#[tokio::test]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let (mut refused, mut act) = (0, 0);
    loop {
        let disk = Disk::of(Vec::new());
        let store = store(&disk, options()).unwrap();
        let mut watch = store.watch(Scope::all("pods"), 0).unwrap();
        store.commit(vec![put(0, Expect::Any, 1, 100)]).await.unwrap();
        disk.fail(Fault::Full, act, 1);
        let done = store.commit(vec![put(0, Expect::Any, 2, 5000), put(1, Expect::Absent, 2, 5000)]).await;
        disk.mend();
        match &done {
            Ok(revision) => {
                assert_eq!((*revision, found(&store, 0), found(&store, 1)), (2, Some(2), Some(2)))
            }
            Err(Error::Write(_)) => assert_eq!((found(&store, 0), found(&store, 1)), (Some(1), None)),
            Err(e) => panic!("act {act}: {e}"),
        }
        let next = store.commit(vec![put(2, Expect::Absent, 3, 100)]).await.unwrap();
        assert_eq!(next, if done.is_ok() { 3 } else { 2 }, "act {act}");
        let mut revisions = Vec::new();
        while let Some(event) = watch.ready().unwrap() {
            revisions.push(event.revision);
        }
        assert_eq!(revisions, if done.is_ok() { vec![1, 2, 2, 3] } else { vec![1, 2] }, "act {act}");
        drop(store);
        refused += u64::from(done.is_err());
        act += 1;
        if act > 60 {
            break;
        }
    }
    assert!(refused > 5, "only {refused} were refused");
}

#[tokio::test]
async fn a_disk_that_stays_full_is_told_each_time_until_it_is_not() {
    let disk = Disk::of(Vec::new());
    let store = store(&disk, options()).unwrap();
    store.commit(vec![put(0, Expect::Any, 1, 100)]).await.unwrap();
    disk.fail(Fault::Full, 0, u64::MAX / 2);
    for _ in 0..3 {
        let error = store.commit(vec![put(0, Expect::Any, 2, 100)]).await.unwrap_err();
        assert!(matches!(error, Error::Write(_) | Error::Unknown(_)), "{error}");
    }
    disk.mend();
    assert_eq!(store.commit(vec![put(0, Expect::Any, 3, 100)]).await.unwrap(), 2);
    assert_eq!(found(&store, 0), Some(3));
}

#[tokio::test]
async fn a_disk_that_did_not_sync_is_not_trusted_again() {
    let disk = Disk::of(Vec::new());
    let store = store(&disk, options()).unwrap();
    store.commit(vec![put(0, Expect::Any, 1, 100)]).await.unwrap();
    disk.fail(Fault::Sync, 0, u64::MAX / 2);
    let error = store.commit(vec![put(0, Expect::Any, 2, 100)]).await.unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error}");
    disk.mend();
    let error = store.commit(vec![put(0, Expect::Any, 3, 100)]).await.unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error}");
    assert!(matches!(store.get(&key(0)), Err(Error::Read(_))));
    assert_eq!(store.revision(), 1);
}
