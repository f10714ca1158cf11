//! Snapshots, restored volumes and clones.

use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn snapshots_and_clones_have_the_data_of_their_moment() {
    let Some(rig) = Rig::new(2 * GIB) else { return };
    let empty = rig.used();
    for kind in KINDS {
        let id = |what: &str| format!("{what}-{}", kind.name());
        let origin = volume(&id("origin"), kind, kind.least());
        let place = rig.made(&origin, None);
        let mounted = rig.mounted(&origin);
        let (first, second) = (pattern(1, 5 * MIB), pattern(2, 5 * MIB));
        // Not synced: holding it still does that.
        fs::write(mounted.path("data"), &first).unwrap();
        let (snapshot, at) = rig.snapshot(&id("snapshot"), &origin, Some(&mounted.root()));
        fs::write(mounted.path("data"), &second).unwrap();

        let mut restored = volume(&id("restored"), kind, kind.least() * 2);
        restored.source = Some(record::From::Snapshot(snapshot.id.clone()));
        rig.made(&restored, Some(Source::Snapshot(&snapshot, &at)));
        let clone = volume(&id("clone"), kind, kind.least());
        rig.made(&clone, Some(Source::Volume(&origin, &place, Some(&mounted.root()))));
        fs::write(mounted.path("data"), b"later").unwrap();

        // All beside each other.
        let restored_at = rig.mounted(&restored);
        let clone_at = rig.mounted(&clone);
        assert!(fs::read(restored_at.path("data")).unwrap() == first, "{kind:?}");
        assert!(fs::read(clone_at.path("data")).unwrap() == second, "{kind:?}");
        assert_eq!(fs::read(mounted.path("data")).unwrap(), b"later", "{kind:?}");
        let wanted = restored.capacity - 6 * MIB;
        assert!(restored_at.available() >= wanted, "{kind:?}: {} of {wanted}", restored_at.available());

        drop((mounted, restored_at, clone_at));
        for name in ["origin", "snapshot", "restored", "clone"] {
            rig.volumes.remove(&rig.place(&id(name))).unwrap();
        }
        assert_eq!(rig.used(), empty, "{kind:?}");
    }
    assert_eq!(rig.devices(), [""; 0]);
}

#[test]
fn a_copy_is_of_the_same_kind_as_its_origin() {
    let Some(rig) = Rig::new(512 * MIB) else { return };
    let origin = volume("origin", Kind::Ext4, 16 * MIB);
    let from = rig.made(&origin, None);
    let other = volume("other", Kind::Block, 64 * MIB);
    let place = rig.new_place(&other.id);
    let failure = rig.volumes.create(&place, &other, Some(Source::Volume(&origin, &from, None))).unwrap_err();
    assert_eq!(failure.code, Code::InvalidArgument, "{failure}");
}

#[test]
fn cuts_of_several_volumes_are_of_one_moment() {
    let Some(rig) = Rig::new(2 * GIB) else { return };
    let volumes = [volume("one", Kind::Ext4, 16 * MIB), volume("two", Kind::Btrfs, 256 * MIB)];
    let mounted = volumes.each_ref().map(|volume| {
        rig.made(volume, None);
        rig.mounted(volume)
    });
    // Whoever writes a number here and then there has in no moment a larger one there.
    let stop = AtomicBool::new(false);
    let open = |mounted: &Mounted| File::create(mounted.path("number")).unwrap();
    let (here, there) = (open(&mounted[0]), open(&mounted[1]));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1_u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                here.write_all_at(&number.to_le_bytes(), 0).unwrap();
                there.write_all_at(&number.to_le_bytes(), 0).unwrap();
            }
        });
        for round in 0..3 {
            let to = [0, 1].map(|n| rig.place_for(&format!("{n}-{round}"), &volumes[n], GIB).1);
            let from = volumes.each_ref().map(|volume| rig.place(&volume.id));
            let roots = mounted.each_ref().map(Mounted::root);
            let cut =
                |n: usize| Cut { volume: &volumes[n], from: &from[n], root: Some(&roots[n]), to: &to[n] };
            rig.volumes.snapshot(&[cut(0), cut(1)]).unwrap();
            let read = |n: usize| {
                let mount = Mounted(rig.volumes.mount(&to[n], &volumes[n], &how(true)).unwrap());
                let bytes = fs::read(mount.path("number")).unwrap();
                bytes.try_into().map_or(0, u64::from_le_bytes)
            };
            let (one, two) = (read(0), read(1));
            assert!(one == two || one == two + 1, "round {round}: {one} and {two}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_snapshot_for_which_too_little_is_set_aside_is_not_made() {
    let Some(rig) = Rig::new(512 * MIB) else { return };
    let volume = volume("v", Kind::Block, 64 * MIB);
    let from = rig.made(&volume, None);
    let path = rig.volumes.device(&from, &volume, false).unwrap();
    let device = File::options().write(true).open(path).unwrap();
    device.write_all_at(&pattern(1, 2 * MIB), 0).unwrap();
    device.sync_all().unwrap();
    let (_, to) = rig.place_for("snapshot", &volume, MIB);
    let cut = Cut { volume: &volume, from: &from, root: None, to: &to };
    let error = rig.volumes.snapshot(&[cut]).unwrap_err();
    assert_eq!(error.code, Code::Aborted, "{error}");
    // It goes on.
    device.write_all_at(&pattern(2, MIB), 0).unwrap();
    device.sync_all().unwrap();
    rig.volumes.remove(&to).unwrap();
    assert_eq!(rig.volumes.allocated(&from).unwrap(), 64 * MIB);
    rig.volumes.release(&from, &volume).unwrap();
    drop(device);
    rig.until_idle();
    assert_eq!(rig.volumes.allocated(&from).unwrap(), 2 * MIB);
    assert_eq!(rig.devices(), [""; 0]);
}

#[test]
fn what_no_record_names_stays() {
    let Some(rig) = Rig::new(512 * MIB) else { return };
    let origin = volume("origin", Kind::Block, MIB);
    let first = Thin::read(&rig.made(&origin, None)).unwrap().number;
    // Of places that were lost.
    for number in [first + 1, first + 2] {
        rig.volumes.pool.message(&format!("create_thin {number}")).unwrap();
    }
    let (_, at) = rig.snapshot("snapshot", &origin, None);
    assert_eq!(Thin::read(&at).unwrap().number, first + 3);
    rig.volumes.remove(&at).unwrap();
    for number in [first + 1, first + 2] {
        let made = rig.volumes.pool.message(&format!("create_thin {number}"));
        assert_eq!(made.unwrap_err().errno(), Some(Errno::EXIST));
    }
}

#[test]
fn what_a_killed_driver_held_still_goes_on() {
    let Some(rig) = Rig::new(512 * MIB) else { return };
    let volume = volume("v", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let mounted = rig.mounted(&volume);
    let still = rig.volumes.pool.still(&[Thin::read(&place).unwrap()]).unwrap();
    let _never_dropped = std::mem::ManuallyDrop::new(still);
    let rig = rig.again();
    rig.volumes.recover(&place, &volume, Some(&mounted.root())).unwrap();
    fs::write(mounted.path("file"), b"it goes on").unwrap();
    drop(mounted);
    rig.until_idle();
    rig.volumes.remove(&place).unwrap();
    rig.volumes.remove(&place).unwrap();
}
