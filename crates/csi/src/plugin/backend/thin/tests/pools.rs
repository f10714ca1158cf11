//! Pools: whose device is taken, and what is there again after a boot.

use std::os::unix::fs::FileExt as _;

use super::*;

#[test]
fn without_device_mapper_it_says_what_is_missing() {
    if dm::version().is_ok() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let error = Volumes::open(folder.path(), Path::new("/dev/null")).err().unwrap();
    assert!(error.code == Code::FailedPrecondition && error.message.contains("dm-thin-pool"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_device_with_anything_on_it_is_refused_and_stays_as_it_was() {
    let Some(disk) = Disk::new(256 * MIB) else { return };
    let open = File::options().read(true).write(true).open(&disk.path).unwrap();
    for at in [0, 1080, 65_600, 256 * MIB - 512] {
        let folder = tempfile::tempdir().unwrap();
        open.write_all_at(b"somebody's", at).unwrap();
        open.sync_all().unwrap();
        let error = Volumes::open(folder.path(), &disk.path).err().unwrap();
        assert!(
            error.code == Code::FailedPrecondition && error.message.contains("has data on it"),
            "{error}"
        );
        let mut read = [0; 10];
        open.read_exact_at(&mut read, at).unwrap();
        assert_eq!(&read, b"somebody's");
        open.write_all_at(&[0; 10], at).unwrap();
        open.sync_all().unwrap();
        // The same pool, once nothing is in its way.
        drop(Volumes::open(folder.path(), &disk.path).unwrap());
        let zeros = vec![0; MIB as usize];
        open.write_all_at(&zeros, 0).unwrap();
        open.sync_all().unwrap();
    }
    let small = Disk::new(32 * MIB).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let error = Volumes::open(folder.path(), &small.path).err().unwrap();
    assert!(error.message.contains("at least 96 MiB"), "{error}");
    let error = Volumes::open(folder.path(), Path::new("/dev/null")).err().unwrap();
    assert!(error.message.contains("no block device"), "{error}");
}

#[test]
fn a_device_and_a_directory_belong_together() {
    let Some(rig) = Rig::new(256 * MIB) else { return };
    let error = Volumes::open(rig.folder.path(), &rig.disk.path).err().unwrap();
    assert!(error.message.contains("another driver"), "{error}");
    let elsewhere = tempfile::tempdir().unwrap();
    let error = Volumes::open(elsewhere.path(), &rig.disk.path).err().unwrap();
    assert!(error.message.contains("another directory"), "{error}");
    rig.made(&volume("v", Kind::Block, MIB), None);
    let other = Disk::new(256 * MIB).unwrap();
    let Rig { volumes, folder, disk } = rig;
    drop(volumes);
    let error = Volumes::open(folder.path(), &other.path).err().unwrap();
    assert!(error.message.contains("is not the device"), "{error}");
    drop(Volumes::open(folder.path(), &disk.path).unwrap());
}

#[test]
fn a_pool_that_is_active_elsewhere_is_made_anew_or_refused_where_it_is_used() {
    let Some(rig) = Rig::new(256 * MIB) else { return };
    let volume = volume("v", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let (data, used) = (rig.volumes.pool.name("data"), rig.volumes.pool.name(7));
    let Rig { volumes, folder, disk } = rig;
    drop(volumes);
    // As of a disk that was taken away and has come back under another number.
    let other = Disk::new(256 * MIB).unwrap();
    let linear = |start: u64| dm::Target {
        start: 0,
        length: 2048,
        kind: "linear".into(),
        parameters: format!("{} {start}", other.path.display()),
    };
    dm::create(&data, &[linear(0)], false).unwrap();
    dm::create(&used, &[linear(2048)], false).unwrap();
    let error = Volumes::open(folder.path(), &disk.path).err().unwrap();
    let is_told = error.message.contains("another device") && error.message.contains(&data);
    assert!(error.code == Code::FailedPrecondition && is_told, "{error}");
    assert_eq!(dm::table(&data).unwrap()[0].length, 2048);
    dm::remove(&used, false).unwrap();
    let volumes = Volumes::open(folder.path(), &disk.path).unwrap();
    assert!(dm::table(&data).unwrap()[0].length > 2048);
    drop(Mounted(volumes.mount(&place, &volume, &how(false)).unwrap()));
}

#[test]
fn after_a_boot_all_is_there() {
    let Some(rig) = Rig::new(512 * MIB) else { return };
    let volume = volume("v", Kind::Ext4, 64 * MIB);
    rig.made(&volume, None);
    let data = pattern(1, 5 * MIB);
    let mounted = rig.mounted(&volume);
    fs::write(mounted.path("data"), &data).unwrap();
    drop(mounted);
    rig.until_idle();
    let (whole, name) = (rig.volumes.pool.bytes, rig.volumes.pool.name("pool"));
    let rig = {
        let Rig { volumes, folder, disk } = rig;
        drop(volumes);
        // Nobody used it, so it is as after a boot.
        assert_eq!(dm::info(&name).unwrap(), None);
        let volumes = Volumes::open(folder.path(), &disk.path).unwrap();
        Rig { volumes, folder, disk }
    };
    assert_eq!(rig.volumes.pool.bytes, whole);
    assert!(fs::read(rig.mounted(&volume).path("data")).unwrap() == data);
    rig.until_idle();
    // A second driver finds it active.
    let mounted = rig.mounted(&volume);
    let rig = rig.again();
    rig.volumes.recover(&rig.place("v"), &volume, None).unwrap();
    assert!(fs::read(mounted.path("data")).unwrap() == data);
    assert_eq!(rig.volumes.ailment(&rig.place("v"), &volume, Some(&mounted.root())).unwrap(), None);
    drop(mounted);
    rig.until_idle();
    let other = rig.made(&super::volume("w", Kind::Block, MIB), None);
    assert_ne!(Thin::read(&other).unwrap().number, Thin::read(&rig.place("v")).unwrap().number);
}

#[test]
fn a_pool_that_is_promised_more_than_it_has_says_when_it_is_full() {
    let Some(rig) = Rig::new(96 * MIB + 16 * MIB) else { return };
    let volume = volume("v", Kind::Block, GIB);
    let place = rig.made(&volume, None);
    let path = rig.volumes.device(&place, &volume, false).unwrap();
    let device = File::options().write(true).open(path).unwrap();
    let data = pattern(1, 4 * MIB);
    let written =
        (0..64).try_for_each(|n| device.write_all_at(&data, n * 4 * MIB).and_then(|()| device.sync_all()));
    assert!(written.is_err());
    let ailment = rig.volumes.ailment(&place, &volume, None).unwrap().unwrap();
    assert!(ailment.contains("is full"), "{ailment}");
    let other = rig.new_place("other");
    let error = rig.volumes.create(&other, &super::volume("other", Kind::Block, MIB), None).unwrap_err();
    assert_eq!(error.code, Code::ResourceExhausted, "{error}");
    drop(device);
    rig.volumes.remove(&place).unwrap();
    assert_eq!(rig.volumes.pool.health().unwrap().ailment(), None);
    rig.volumes.create(&other, &super::volume("other", Kind::Block, MIB), None).unwrap();
}

#[test]
fn a_pool_grows_with_its_device_used_or_not() {
    let Some(mut rig) = Rig::new(112 * MIB) else { return };
    let volume = volume("v", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let data = pattern(1, 2 * MIB);
    let mounted = rig.mounted(&volume);
    fs::write(mounted.path("data"), &data).unwrap();
    let mut mounted = Some(mounted);
    for (number, larger) in [160 * MIB, 208 * MIB].into_iter().enumerate() {
        let before = rig.volumes.space(rig.folder.path()).unwrap();
        rig.disk.grow(larger);
        // It is told by the next driver.
        assert_eq!(rig.volumes.space(rig.folder.path()).unwrap(), before);
        rig = rig.again();
        let after = rig.volumes.space(rig.folder.path()).unwrap();
        assert_eq!(after.size, before.size + 48 * MIB);
        let [pool, data] = ["pool", "data"].map(|part| dm::table(&rig.volumes.pool.name(part)).unwrap());
        assert_eq!([pool[0].length, data[0].length], [after.size / dm::SECTOR; 2]);
        // More than there was before, to its end.
        let all = super::volume(&format!("all{number}"), Kind::Block, after.size - 32 * MIB);
        let other = rig.made(&all, None);
        let device = rig.volumes.device(&other, &all, false).unwrap();
        let device = File::options().write(true).open(device).unwrap();
        let part = vec![7; MIB as usize];
        (0..all.capacity / MIB).for_each(|at| device.write_all_at(&part, at * MIB).unwrap());
        device.sync_all().unwrap();
        drop(device);
        rig.volumes.release(&other, &all).unwrap();
        rig.volumes.remove(&other).unwrap();
        // The first time somebody has a volume, the second time nobody.
        drop(mounted.take());
        rig.until_idle();
    }
    assert!(fs::read(rig.mounted(&volume).path("data")).unwrap() == data);
    rig.until_idle();
    rig.volumes.remove(&place).unwrap();
}

#[test]
fn the_device_gets_back_what_was_of_a_volume_and_of_nobody_else() {
    let Some(rig) = Rig::new(160 * MIB) else { return };
    let volume = volume("v", Kind::Ext4, 64 * MIB);
    let place = rig.made(&volume, None);
    let before = rig.disk.taken();
    let mounted = rig.mounted(&volume);
    fs::write(mounted.path("shared"), pattern(1, 6 * MIB)).unwrap();
    let (_, snapshot) = rig.snapshot("s", &volume, Some(&mounted.root()));
    fs::write(mounted.path("own"), pattern(2, 12 * MIB)).unwrap();
    drop(mounted);
    rig.until_idle();
    let full = rig.disk.taken();
    assert!(full >= before + 18 * MIB, "{full} {before}");
    rig.volumes.remove(&place).unwrap();
    let left = rig.disk.taken();
    assert!((full - 16 * MIB..=full - 11 * MIB).contains(&left), "{left} {full}");
    // The snapshot has all that it had.
    let copy = super::volume("copy", Kind::Ext4, 64 * MIB);
    let record = record::read::<Snapshot>(&snapshot).unwrap();
    rig.made(&copy, Some(Source::Snapshot(&record, &snapshot)));
    assert!(fs::read(rig.mounted(&copy).path("shared")).unwrap() == pattern(1, 6 * MIB));
    rig.until_idle();
    rig.volumes.remove(&rig.place("copy")).unwrap();
    rig.volumes.remove(&snapshot).unwrap();
    assert!(rig.disk.taken() < before, "{} {before}", rig.disk.taken());
}
