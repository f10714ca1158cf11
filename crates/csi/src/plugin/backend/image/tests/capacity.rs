//! What fits into a volume, before and after it grew.

use super::*;

#[test]
fn an_empty_volume_has_its_capacity_and_at_most_a_twentieth_more() {
    let rig = Rig::here();
    for kind in KINDS {
        let sizes = [48 * MIB, 127 * MIB, 128 * MIB, 300 * MIB, GIB, 3 * GIB, 8 * GIB, 60 * GIB, 500 * GIB];
        for capacity in sizes.into_iter().filter(|&size| size > kind.least()).chain([kind.least()]) {
            let volume = volume(&format!("{}-{capacity}", kind.name()), kind, capacity);
            let place = rig.made(&volume, None);
            let mounted = rig.mounted(&volume);
            let available = mounted.available();
            let bounds = capacity..=capacity + capacity / 20;
            assert!(bounds.contains(&available), "{kind:?} of {capacity}: {available}");
            let usage = rig.images.usage(&place, &volume, Some(&mounted.root())).unwrap();
            assert_eq!((usage.total, usage.used, usage.available), (capacity, 0, capacity), "{kind:?}");
            assert_eq!(rig.images.ailment(&place, &volume, Some(&mounted.root())).unwrap(), None);
            drop(mounted);
            rig.images.remove(&place).unwrap();
        }
    }
}

#[test]
fn the_largest_device_that_fits_is_told() {
    let rig = Rig::here();
    let wish = Wish::of(&volume("v", Kind::Block, MIB));
    let taken = |capacity| rig.images.taken(&wish, capacity);
    for bytes in (0..3000).map(|n| 2 * MIB + n * n * 509) {
        let fits = rig.images.fits(&wish, bytes);
        assert!(taken(fits) <= bytes && taken(fits + 1) > bytes, "{bytes}: {fits}");
    }
    assert_eq!([MIB, MIB + BESIDE].map(|bytes| rig.images.fits(&wish, bytes)), [0, 0]);
}

#[test]
fn a_writer_gets_the_capacity_and_is_stopped() {
    let rig = Rig::here();
    for kind in KINDS {
        let volume = volume(kind.name(), kind, kind.least());
        let place = rig.made(&volume, None);
        let mounted = rig.mounted(&volume);
        let file = File::create(mounted.path("file")).unwrap();
        let (part, mut at) = (pattern(7, MIB / 4), 0);
        let stopped = loop {
            match file.write_at(&part, at) {
                Ok(length) => at += length as u64,
                Err(e) => break e,
            }
        };
        assert_eq!(stopped.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{kind:?}");
        // What was taken is kept: it is no promise of memory alone.
        file.sync_all().unwrap();
        let least = volume.capacity - volume.capacity / 200;
        assert!(
            (least..volume.capacity + volume.capacity / 20).contains(&at),
            "{kind:?}: {at} of {}",
            volume.capacity
        );
        assert!(rig.images.allocated(&place).unwrap() <= kind.image(volume.capacity), "{kind:?}");
        let usage = rig.images.usage(&place, &volume, Some(&mounted.root())).unwrap();
        let is_full = usage.total == volume.capacity && usage.available < 3 * MIB;
        assert!(is_full && usage.used + usage.available == usage.total, "{kind:?}: {usage:?}");
        drop((file, mounted));
        rig.images.remove(&place).unwrap();
    }
}

#[test]
fn a_volume_grows_mounted_or_not() {
    let rig = Rig::here();
    for kind in KINDS {
        for online in [true, false] {
            let mut volume = volume(&format!("{}-{online}", kind.name()), kind, kind.least());
            let place = rig.made(&volume, None);
            let mounted = rig.mounted(&volume);
            let data = pattern(3, 3 * MIB);
            fs::write(mounted.path("data"), &data).unwrap();
            let larger = kind.least() * 3;
            let root = mounted.root();
            let mounted = if online {
                match rig.images.expand(&place, &volume, larger, Some(&root)) {
                    Err(failure) if kind == Kind::Ext4 && !may_grow_ext4().unwrap() => {
                        assert_eq!(failure.code, Code::FailedPrecondition);
                        assert!(failure.message.contains("CAP_SYS_RESOURCE"), "{failure}");
                        drop(mounted);
                        rig.mounted(&volume)
                    }
                    done => {
                        done.unwrap();
                        mounted
                    }
                }
            } else {
                drop(mounted);
                rig.images.expand(&place, &volume, larger, None).unwrap();
                rig.mounted(&volume)
            };
            volume.capacity = larger;
            let has = mounted.available() + data.len() as u64;
            let bounds = larger - larger / 200..=larger + larger / 20;
            assert!(bounds.contains(&has), "{kind:?} {online}: {has} of {larger}");
            assert!(fs::read(mounted.path("data")).unwrap() == data, "{kind:?}");
            rig.images.expand(&place, &volume, larger, None).unwrap();
            assert_eq!(rig.images.ailment(&place, &volume, Some(&mounted.root())).unwrap(), None, "{kind:?}");
            drop(mounted);
            rig.images.remove(&place).unwrap();
        }
    }
}

#[test]
fn the_smallest_volume_grows_a_little_and_is_mounted_again() {
    let rig = Rig::here();
    for kind in KINDS {
        let wish = Wish {
            block: false,
            fs_type: kind.name().into(),
            parameters: BTreeMap::new(),
            mutable: BTreeMap::new(),
        };
        let volume = volume(kind.name(), kind, rig.images.least(&wish));
        let place = rig.made(&volume, None);
        let before = rig.mounted(&volume).available();
        rig.images.expand(&place, &volume, volume.capacity + 48 * MIB, None).unwrap();
        let after = rig.mounted(&volume).available();
        assert!(after >= before + 44 * MIB, "{kind:?}: {before} to {after}");
        rig.images.remove(&place).unwrap();
    }
}

#[test]
fn what_is_mounted_read_only_grows_later() {
    let rig = Rig::here();
    for kind in KINDS.into_iter().filter(|&kind| kind != Kind::Ext4 || may_grow_ext4().unwrap()) {
        let volume = volume(kind.name(), kind, kind.least());
        let place = rig.made(&volume, None);
        let mounted = Mounted(rig.images.mount(&place, &volume, &how(true)).unwrap());
        let larger = kind.least() * 2;
        let failure = rig.images.expand(&place, &volume, larger, Some(&mounted.root())).unwrap_err();
        assert_eq!(failure.code, Code::FailedPrecondition, "{kind:?}: {failure}");
        assert!(failure.message.contains("mounted read-only"), "{kind:?}: {failure}");
        drop(mounted);
        let mounted = rig.mounted(&volume);
        rig.images.expand(&place, &volume, larger, Some(&mounted.root())).unwrap();
        assert!(mounted.available() >= larger - larger / 200, "{kind:?}: {}", mounted.available());
        drop(mounted);
        rig.images.remove(&place).unwrap();
    }
}

#[test]
fn an_ext4_that_grows_unmounted_is_whole_at_any_moment_where_blocks_are_shared() {
    for (rig, is_copied) in
        [(Rig::on(Kind::Xfs), true), (Rig::on(Kind::Btrfs), true), (Rig::on(Kind::Ext4), false)]
    {
        let volume = volume("v", Kind::Ext4, 16 * MIB);
        let place = rig.made(&volume, None);
        let data = pattern(6, 3 * MIB);
        fs::write(rig.mounted(&volume).path("data"), &data).unwrap();
        devices::idle(&place).unwrap();
        rig.images.expand(&place, &volume, 200 * MIB, None).unwrap();
        // What was killed before.
        fs::write(place.join("growing"), "a part").unwrap();
        let before = open_image(&place, false).unwrap();
        let size = |image: &File| superblock::read(image, Kind::Ext4).unwrap().unwrap().size;
        let small = size(&before);
        grow::grow_ext4(&place).unwrap();
        assert_eq!(size(&before) == small, is_copied, "what was open is as it was, where it was copied");
        let after = open_image(&place, false).unwrap();
        assert_eq!(size(&after), Kind::Ext4.image(200 * MIB));
        assert_eq!(after.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(!place.join("growing").exists());
        assert!(fs::read(rig.mounted(&volume).path("data")).unwrap() == data);

        // What cannot be done changes nothing.
        fs::write(place.join(IMAGE), [0; 1 << 20]).unwrap();
        assert!(grow::grow_ext4(&place).unwrap_err().message.contains("resize2fs"));
        assert!(!place.join("growing").exists());
        rig.images.remove(&place).unwrap();
    }
}
