//! What the next driver makes of places that have a name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::record::{self, Snapshot, Volume};
use super::{GROUPS, Pool, SNAPSHOTS};
use crate::plugin::backend::dir::Directories;

fn open(path: &Path) -> Pool {
    Pool::open("a", path, vec![Box::new(Directories)], 1.0).unwrap()
}

#[test]
fn a_member_goes_where_its_group_is_gone_and_stays_where_nobody_can_tell() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let volume = Volume::of_test("dir", "v", 4096);
    for group in ["gone", "hidden"] {
        let place = folder.path().join(SNAPSHOTS).join(group);
        fs::create_dir_all(place.join("data")).unwrap();
        let group = group.to_owned();
        record::write(&place, &Snapshot { group: group.clone(), ..Snapshot::of_test(&group, &volume) })
            .unwrap();
    }
    // Looking there fails, as on a disk that is damaged.
    symlink("hidden", folder.path().join(GROUPS).join("hidden")).unwrap();
    let pool = open(folder.path());
    let ids: Vec<_> = pool.snapshots().iter().map(|kept| kept.record.id.clone()).collect();
    assert_eq!(ids, ["hidden"]);
    let is_there = |id: &str| folder.path().join(SNAPSHOTS).join(id).join("data").is_dir();
    assert!(is_there("hidden") && !is_there("gone"));
    assert!(pool.is_readable("hidden").is_err());
}
