//! Snapshots, clones and what differs between them.

use super::super::super::Range;
use super::*;

#[test]
fn snapshots_and_clones_have_the_data_of_their_moment() {
    for (rig, copies) in [
        (Rig::on(Kind::Xfs), Copies::Shared),
        (Rig::on(Kind::Btrfs), Copies::Shared),
        (Rig::on(Kind::Ext4), Copies::Whole),
    ] {
        assert_eq!(rig.images.abilities().copies, copies);
        for kind in KINDS {
            let id = |what: &str| format!("{what}-{}", kind.name());
            let origin = volume(&id("origin"), kind, kind.least());
            let place = rig.made(&origin, None);
            let mounted = rig.mounted(&origin);
            let (first, second) = (pattern(1, 5 * MIB), pattern(2, 5 * MIB));
            // Not synced: freezing does that.
            fs::write(mounted.path("data"), &first).unwrap();
            let (snapshot, at) = rig.snapshot(&id("snapshot"), &origin, Some(&mounted.root()));
            fs::write(mounted.path("data"), &second).unwrap();

            let mut restored = volume(&id("restored"), kind, kind.least() * 2);
            restored.source = Some(crate::plugin::pool::record::From::Snapshot(snapshot.id.clone()));
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
            fs::write(clone_at.path("data"), b"the clone's own").unwrap();
            assert_eq!(fs::read(mounted.path("data")).unwrap(), b"later", "{kind:?}");

            drop((mounted, restored_at, clone_at));
            for name in ["origin", "snapshot", "restored", "clone"] {
                rig.images.remove(&rig.place(&id(name))).unwrap();
            }
        }
    }
}

#[test]
fn a_copy_is_of_the_same_kind_as_its_origin() {
    let rig = Rig::here();
    let origin = volume("origin", Kind::Ext4, 16 * MIB);
    let from = rig.made(&origin, None);
    for other in [volume("other", Kind::Xfs, 256 * MIB), volume("raw", Kind::Block, 64 * MIB)] {
        let place = rig.new_place(&other.id);
        let failure =
            rig.images.create(&place, &other, Some(Source::Volume(&origin, &from, None))).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument, "{failure}");
    }
}

#[test]
fn cuts_of_several_volumes_are_of_one_moment() {
    let rig = Rig::on(Kind::Xfs);
    let volumes = [volume("one", Kind::Ext4, 16 * MIB), volume("two", Kind::Btrfs, 256 * MIB)];
    let mounted: Vec<Mounted> = volumes
        .iter()
        .map(|volume| {
            rig.made(volume, None);
            rig.mounted(volume)
        })
        .collect();
    // Whoever writes a number here and then there has in no moment a larger one there.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let open = |mounted: &Mounted| File::create(mounted.path("number")).unwrap();
    let (here, there) = (open(&mounted[0]), open(&mounted[1]));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1_u64.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                here.write_all_at(&number.to_le_bytes(), 0).unwrap();
                there.write_all_at(&number.to_le_bytes(), 0).unwrap();
            }
        });
        for round in 0..5 {
            let to = ["a", "b"].map(|name| rig.new_place(&format!("{name}{round}")));
            let from = volumes.each_ref().map(|volume| rig.place(&volume.id));
            let roots = [mounted[0].root(), mounted[1].root()];
            let cut =
                |n: usize| Cut { volume: &volumes[n], from: &from[n], root: Some(&roots[n]), to: &to[n] };
            rig.images.snapshot(&[cut(0), cut(1)]).unwrap();
            let read = |n: usize| {
                let mount = Mounted(rig.images.mount(&to[n], &volumes[n], &how(true)).unwrap());
                let bytes = fs::read(mount.path("number")).unwrap();
                bytes.try_into().map_or(0, u64::from_le_bytes)
            };
            let (one, two) = (read(0), read(1));
            assert!(one == two || one == two + 1, "round {round}: {one} and {two}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_snapshot_under_a_writer_has_what_was_synced_before_and_nothing_later_without_it() {
    for rig in [Rig::on(Kind::Xfs), Rig::on(Kind::Btrfs), Rig::here()] {
        for kind in KINDS {
            let volume = volume(kind.name(), kind, kind.least());
            rig.made(&volume, None);
            let mounted = rig.mounted(&volume);
            let [first, second] = ["first", "second"].map(|name| File::create(mounted.path(name)).unwrap());
            let stop = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 1_u64.. {
                        for file in [&first, &second] {
                            file.write_all_at(&number.to_le_bytes(), 0).unwrap();
                            file.sync_all().unwrap();
                        }
                        if stop.load(std::sync::atomic::Ordering::Relaxed) {
                            break;
                        }
                    }
                });
                let number = |mount: &Mounted, name: &str| {
                    fs::read(mount.path(name)).unwrap().try_into().map_or(0, u64::from_le_bytes)
                };
                for round in 0..4 {
                    let before = number(&mounted, "second");
                    let id = format!("{}-{round}", kind.name());
                    let (_, at) = rig.snapshot(&id, &volume, Some(&mounted.root()));
                    let after = number(&mounted, "first");
                    let cut = Mounted(rig.images.mount(&at, &volume, &how(true)).unwrap());
                    let (one, two) = (number(&cut, "first"), number(&cut, "second"));
                    assert!(one == two || one == two + 1, "{kind:?} {round}: {one} and {two}");
                    assert!(
                        two + 1 >= before && one <= after,
                        "{kind:?} {round}: {before}, {two}, {one}, {after}"
                    );
                }
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            });
        }
    }
}

#[test]
fn what_is_mounted_thaws_when_its_driver_was_killed() {
    let rig = Rig::here();
    let volume = volume("frozen", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let mounted = rig.mounted(&volume);
    let devices = devices::of(&place).unwrap();
    let open = filesystem::root::open(&mounted.root(), &volume, Kind::Ext4, devices::are(&devices)).unwrap();
    let left = freeze::freeze(open).unwrap();
    let to = rig.new_place("snapshot");
    let root = mounted.root();
    let cut = Cut { volume: &volume, from: &place, root: Some(&root), to: &to };
    assert_eq!(rig.images.snapshot(&[cut]).unwrap_err().code, Code::Aborted);
    rig.images.recover(&place, &volume, Some(&mounted.root())).unwrap();
    fs::write(mounted.path("file"), b"it can be written").unwrap();
    left.thaw().unwrap();
    rig.images.snapshot(&[cut]).unwrap();
    fs::write(mounted.path("file"), b"and again").unwrap();
    // A cut that fails, as its place has an image already, thaws too.
    assert!(rig.images.snapshot(&[cut]).is_err());
    fs::write(mounted.path("file"), b"and still").unwrap();
}

#[test]
fn a_file_system_that_is_in_use_who_knows_where_is_not_copied() {
    let rig = Rig::on(Kind::Xfs);
    let origin = volume("origin", Kind::Ext4, 16 * MIB);
    let place = rig.made(&origin, None);
    let mounted = rig.mounted(&origin);
    let held = File::create(mounted.path("held")).unwrap();
    // As another mount namespace may have it.
    drop(mounted);
    let to = rig.new_place("snapshot");
    let cut = Cut { volume: &origin, from: &place, root: None, to: &to };
    let failure = rig.images.snapshot(&[cut]).unwrap_err();
    assert!(failure.code == Code::Aborted && failure.message.contains("is in use on /dev/loop"), "{failure}");
    let clone = volume("clone", Kind::Ext4, 16 * MIB);
    let clone_at = rig.new_place("clone");
    let source = Source::Volume(&origin, &place, None);
    assert_eq!(rig.images.create(&clone_at, &clone, Some(source)).unwrap_err().code, Code::Aborted);
    drop(held);
    rig.images.snapshot(&[cut]).unwrap();
}

#[test]
fn a_block_device_in_use_is_not_copied_bit_by_bit() {
    let rig = Rig::on(Kind::Ext4);
    let origin = volume("raw", Kind::Block, 8 * MIB);
    let place = rig.made(&origin, None);
    rig.images.device(&place, &origin, false).unwrap();
    let to = rig.new_place("snapshot");
    let cut = Cut { volume: &origin, from: &place, root: None, to: &to };
    let clone = volume("clone", Kind::Block, 8 * MIB);
    let clone_at = rig.new_place("clone");
    let source = Some(Source::Volume(&origin, &place, None));
    let refused = [rig.images.snapshot(&[cut]), rig.images.create(&clone_at, &clone, source)];
    for failure in refused.map(Result::unwrap_err) {
        assert!(failure.code == Code::FailedPrecondition && failure.message.contains("in use"), "{failure}");
    }
    rig.images.release(&place, &origin).unwrap();
    devices::idle(&place).unwrap();
    // Nobody writes through one that is for reading.
    rig.images.device(&place, &origin, true).unwrap();
    rig.images.snapshot(&[cut]).unwrap();
    rig.images.create(&clone_at, &clone, source).unwrap();
    rig.images.release(&place, &origin).unwrap();
}

#[test]
fn ranges_and_changes_are_those_of_the_bytes() {
    for rig in [Rig::on(Kind::Xfs), Rig::on(Kind::Btrfs), Rig::on(Kind::Ext4)] {
        let base_volume = volume("base", Kind::Block, 32 * MIB);
        let base = rig.made(&base_volume, None);
        let write = |place: &Path, at: u64, length: u64, seed| {
            open_image(place, true).unwrap().write_all_at(&pattern(seed, length), at).unwrap();
        };
        write(&base, MIB, 2 * MIB, 1);
        write(&base, 20 * MIB, 64 << 10, 2);
        let (_, first) = rig.snapshot("first", &base_volume, None);
        let range = |offset, length| Range { offset, length };
        let all = whole(|offset| rig.images.ranges(&first, offset, 1));
        assert_eq!(all, [range(MIB, 2 * MIB), range(20 * MIB, 64 << 10)]);
        let ranges = |offset, most| rig.images.ranges(&first, offset, most).unwrap();
        assert_eq!(ranges(0, 1), Ranges { found: all[..1].to_vec(), next: Some(20 * MIB) });
        assert_eq!(ranges(3 * MIB, 100), Ranges { found: all[1..].to_vec(), next: None });
        assert_eq!(ranges(2 * MIB + 5, 100).found, [range(2 * MIB, MIB), all[1]]);

        // The same bytes again are no change, wherever they are.
        write(&base, MIB, 2 * MIB, 1);
        // One changed block, a new one, and one that is given up.
        write(&base, MIB + (8 << 10), 4096, 3);
        write(&base, 10 * MIB, 8192, 4);
        let image = open_image(&base, true).unwrap();
        rustix::fs::fallocate(
            &image,
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
            20 * MIB,
            4096,
        )
        .unwrap();
        rig.images.expand(&base, &base_volume, 40 * MIB, None).unwrap();
        write(&base, 40 * MIB - 4096, 4096, 5);
        let (_, second) = rig.snapshot("second", &base_volume, None);
        let wanted = [
            range(MIB + (8 << 10), 4096),
            range(10 * MIB, 8192),
            range(20 * MIB, 4096),
            range(40 * MIB - 4096, 4096),
        ];
        let changes =
            |base: &Path, place: &Path, offset, most| rig.images.changes(base, place, offset, most).unwrap();
        assert_eq!(changes(&first, &second, 0, 100), Ranges { found: wanted.to_vec(), next: None });
        assert_eq!(
            changes(&first, &second, 0, 2),
            Ranges { found: wanted[..2].to_vec(), next: Some(20 * MIB) }
        );
        assert_eq!(whole(|offset| rig.images.changes(&first, &second, offset, 1)), wanted);
        assert_eq!(changes(&first, &second, 10 * MIB + 8192, 100).found, wanted[2..]);
        assert_eq!(changes(&second, &second, 0, 100), Ranges::default());
        assert_eq!(changes(&second, &first, 0, 100).found, wanted[..3]);
    }
}

/// All that calls find which go on where the one before has stopped.
fn whole(ask: impl Fn(u64) -> Result<Ranges, Failure>) -> Vec<Range> {
    let mut all = Vec::new();
    let mut next = Some(0);
    while let Some(at) = next {
        let told = ask(at).unwrap();
        assert!(told.next.is_none_or(|next| next > at), "{told:?}");
        all.extend(told.found);
        next = told.next;
    }
    all
}

#[test]
fn a_long_comparison_is_made_in_parts() {
    let rig = Rig::on(Kind::Ext4);
    let base_volume = volume("base", Kind::Block, 32 * MIB);
    let base = rig.made(&base_volume, None);
    open_image(&base, true).unwrap().write_all_at(&pattern(1, 20 * MIB), 0).unwrap();
    let (_, first) = rig.snapshot("first", &base_volume, None);
    open_image(&base, true).unwrap().write_all_at(&pattern(2, 4096), 19 * MIB).unwrap();
    let (_, second) = rig.snapshot("second", &base_volume, None);
    let told = rig.images.changes(&first, &second, 0, 100).unwrap();
    assert_eq!(told, Ranges { found: Vec::new(), next: Some(4 * MIB) });
    let changed = whole(|offset| rig.images.changes(&first, &second, offset, 100));
    assert_eq!(changed, [Range { offset: 19 * MIB, length: 4096 }]);
}
