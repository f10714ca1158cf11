//! Power cuts: at random moments of a load, with what a disk makes of what was not synced.

use super::disk::{Disk, store};
use super::{key, put, text};
use crate::store::{Expect, Options, Scope, Store};
use std::collections::BTreeMap;
use testkit::Random;

/// What is known of a write: when it was acknowledged (acts of the disk by then), and its revision.
#[derive(Clone, Debug)]
struct Acknowledged {
    by: usize,
    revision: u64,
    name: u64,
    /// `None` if it was deleted.
    text: Option<u64>,
}

fn options() -> Options {
    // Small, so that pages go to the disk before the commit, and history is forgotten while it is written.
    Options { cache: 64 << 10, history_bytes: 40_000, recent: 4000, ..Options::default() }
}

/// Writes from four tasks at a time, each to names of its own.
async fn load(store: &Store, disk: &Disk, rounds: u64) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        let write = |task: u64| async move {
            let number = round * 4 + task;
            let name = task * 5 + round % 5;
            let gone = round % 7 == 6;
            let mut write = put(name, Expect::Any, number, (number as usize * 131) % 3000);
            if gone {
                write.value = None;
            }
            let revision = store.commit(vec![write]).await.unwrap();
            Acknowledged { by: disk.acts(), revision, name, text: (!gone).then_some(number) }
        };
        acknowledged.extend(<[_; 4]>::from(tokio::join!(write(0), write(1), write(2), write(3))));
    }
    acknowledged
}

/// Whether the store holds what was acknowledged before the cut; returns its revision.
fn judge(store: &Store, all: &[Acknowledged], end: usize) -> Result<u64, String> {
    let revision = store.revision();
    let last = all.iter().filter(|write| write.by <= end).map(|write| write.revision).max().unwrap_or(0);
    if revision < last {
        return Err(format!("it is at {revision}, {last} was acknowledged"));
    }
    let mut wanted = BTreeMap::new();
    for write in all.iter().filter(|write| write.revision <= revision) {
        wanted.insert(key(write.name).name, write.text.map(|text| (write.revision, text)));
    }
    wanted.retain(|_, write| write.is_some());
    let page = store.list(&Scope::all("pods"), None, None, None).map_err(|e| e.to_string())?;
    let found: BTreeMap<_, _> =
        page.items.iter().map(|it| (it.key.name.clone(), Some((it.revision, text(&it.json))))).collect();
    if found == wanted { Ok(revision) } else { Err(format!("{found:?} is there, {wanted:?} was written")) }
}

/// Whether a watch from each revision that is kept tells each change behind it, up to the last.
fn resume(store: &Store, all: &[Acknowledged]) {
    let revision = store.revision();
    let oldest = (0..=revision).find(|from| store.watch(Scope::all("pods"), *from).is_ok()).unwrap();
    for from in (oldest..=revision).step_by(1 + usize::try_from(revision - oldest).unwrap() / 4) {
        let mut watch = store.watch(Scope::all("pods"), from).unwrap();
        let mut told = Vec::new();
        while let Some(event) = watch.ready().unwrap() {
            told.push((event.revision, event.key.clone()));
        }
        let changes = all.iter().filter(|write| write.revision > from && write.revision <= revision);
        let mut wanted: Vec<_> = changes.map(|write| (write.revision, key(write.name))).collect();
        wanted.sort();
        // A deletion of what is not there has no revision of its own.
        wanted.dedup_by_key(|(revision, _)| *revision);
        assert_eq!(told, wanted, "from {from}");
    }
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_cut_of_the_power() {
    let (mut random, seed) = Random::fresh();
    println!("seed {seed}");
    let cuts = std::env::var("SEXTANT_STORE_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100u64);
    let disk = Disk::of(Vec::new());
    let begun = store(&disk, options()).unwrap();
    let made = disk.acts();
    let all = load(&begun, &disk, 100).await;
    drop(begun);
    let acts = disk.acts();
    for _ in 0..cuts {
        let end = made + usize::try_from(random.below((acts - made) as u64 + 1)).unwrap();
        let left = Disk::of(disk.cut(end, usize::MAX, &mut random));
        let after = store(&left, options()).unwrap();
        let revision = judge(&after, &all, end).unwrap();
        resume(&after, &all);
        // It goes on, with a revision that nobody has been told before.
        let next = after.commit(vec![put(99, Expect::Absent, 1, 10)]).await.unwrap();
        assert_eq!(next, revision + 1);
    }
}

/// Right behind an acknowledgement, of which the disk has synced nothing.
#[tokio::test]
async fn a_disk_that_lies_is_found_out() {
    let disk = Disk::of(Vec::new());
    let begun = store(&disk, options()).unwrap();
    let all = load(&begun, &disk, 40).await;
    drop(begun);
    let mut moments: Vec<_> = all.iter().map(|write| write.by).collect();
    moments.dedup();
    let mut seen = 0;
    for (number, moment) in moments.windows(2).enumerate() {
        let left = Disk::of(disk.cut(moment[1], moment[0], &mut Random::new(number as u64)));
        // One that cannot be opened is seen, too.
        let lost = store(&left, options()).map_or(true, |after| judge(&after, &all, moment[1]).is_err());
        seen += usize::from(lost);
    }
    assert!(seen > moments.len() / 4, "only {seen} of {} lies were seen", moments.len());
}
