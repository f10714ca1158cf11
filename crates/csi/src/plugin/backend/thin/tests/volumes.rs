//! Volumes in use: their capacity, how they grow, and block devices.

use std::os::unix::fs::FileExt as _;

use kernel::capability::{Capability, Sets};

use super::*;

/// Writes until there is no room, and says how much.
fn filled(mounted: &Mounted) -> u64 {
    let file = File::create(mounted.path("filled")).unwrap();
    let (chunk, mut at) = (vec![1; MIB as usize], 0);
    loop {
        match file.write_at(&chunk, at) {
            Ok(written) => at += written as u64,
            Err(e) => {
                assert_eq!(Errno::from_io_error(&e), Some(Errno::NOSPC), "{e}");
                return at;
            }
        }
    }
}

#[test]
fn a_writer_gets_its_capacity_and_hardly_more_and_it_grows_in_use() {
    let Some(rig) = Rig::new(2 * GIB) else { return };
    for kind in KINDS {
        let mut volume = volume(kind.name(), kind, kind.least());
        let place = rig.made(&volume, None);
        assert_eq!(rig.devices(), [""; 0], "{kind:?}");
        let mounted = rig.mounted(&volume);
        let got = filled(&mounted);
        let capacity = volume.capacity;
        assert!(got >= capacity && got <= capacity + capacity / 20, "{kind:?}: {got} of {capacity}");
        fs::remove_file(mounted.path("filled")).unwrap();
        rig.volumes.expand(&place, &volume, capacity * 2, Some(&mounted.root())).unwrap();
        // Not again what is there.
        rig.volumes.expand(&place, &volume, capacity * 2, Some(&mounted.root())).unwrap();
        volume.capacity *= 2;
        let told = rig.volumes.usage(&place, &volume, Some(&mounted.root())).unwrap();
        assert!(
            told.total == volume.capacity && told.available >= volume.capacity - 8 * MIB,
            "{kind:?}: {told:?}"
        );
        drop(mounted);
        // While nobody uses it: it grows with its next mount.
        rig.volumes.expand(&place, &volume, capacity * 3, None).unwrap();
        let mounted = rig.mounted(&volume);
        assert!(mounted.available() >= capacity * 3 - 12 * MIB, "{kind:?}: {}", mounted.available());
        drop(mounted);
        rig.volumes.remove(&place).unwrap();
    }
}

#[test]
fn an_ext4_grows_with_its_next_mount_where_it_may_not_in_use() {
    let Some(rig) = Rig::new(512 * MIB) else { return };
    let volume = volume("v", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let mounted = rig.mounted(&volume);
    fs::write(mounted.path("file"), b"kept").unwrap();
    std::thread::scope(|scope| {
        let less = scope.spawn(|| {
            let mut sets = Sets::current().unwrap();
            sets.effective.remove(Capability::SysResource);
            sets.apply().unwrap();
            let error = rig.volumes.expand(&place, &volume, 64 * MIB, Some(&mounted.root())).unwrap_err();
            let is_told = error.message.contains("CAP_SYS_RESOURCE");
            assert!(error.code == Code::FailedPrecondition && is_told, "{error}");
            drop(mounted);
            let mounted = rig.mounted(&volume);
            assert!(mounted.available() >= 60 * MIB, "{}", mounted.available());
            assert_eq!(fs::read(mounted.path("file")).unwrap(), b"kept");
        });
        less.join().unwrap();
    });
}

#[test]
fn block_devices_are_there_until_they_are_released() {
    let Some(rig) = Rig::new(512 * MIB) else { return };
    let volume = volume("raw", Kind::Block, 8 * MIB);
    let place = rig.made(&volume, None);
    let path = rig.volumes.device(&place, &volume, false).unwrap();
    assert_eq!(rig.volumes.device(&place, &volume, false).unwrap(), path);
    let reading = rig.volumes.device(&place, &volume, true).unwrap();
    assert_ne!(reading, path);
    let device = File::options().read(true).write(true).open(&path).unwrap();
    device.write_all_at(&pattern(1, MIB), 0).unwrap();
    device.sync_all().unwrap();
    assert!(device.write_all_at(b"beyond", 8 * MIB).is_err());
    let written = File::options().write(true).open(&reading).and_then(|device| device.write_all_at(b"no", 0));
    assert!(written.is_err());
    let mut read = vec![0; MIB as usize];
    let reader = File::open(&reading).unwrap();
    reader.read_exact_at(&mut read, 0).unwrap();
    assert!(read == pattern(1, MIB));
    rig.volumes.expand(&place, &volume, 16 * MIB, None).unwrap();
    device.write_all_at(b"within", 8 * MIB).unwrap();
    reader.read_exact_at(&mut read[..6], 16 * MIB - 6).unwrap();
    // A killed driver has held both still.
    for (name, _) in rig.volumes.pool.devices(&Thin::read(&place).unwrap()).unwrap().iter().rev() {
        dm::suspend(name, false).unwrap();
    }
    rig.volumes.recover(&place, &volume, None).unwrap();
    let devices = rig.volumes.pool.devices(&Thin::read(&place).unwrap()).unwrap();
    assert!(devices.len() == 2 && devices.iter().all(|(_, info)| !info.suspended), "{devices:?}");
    let usage = rig.volumes.usage(&place, &volume, None).unwrap();
    assert!(usage.used >= MIB && usage.used <= 2 * MIB, "{usage:?}");
    // In use it stays for who has it, and nobody else gets it.
    rig.volumes.release(&place, &volume).unwrap();
    let error = rig.volumes.device(&place, &volume, false).unwrap_err();
    assert_eq!(error.code, Code::Aborted, "{error}");
    device.write_all_at(b"still", 0).unwrap();
    drop((device, reader));
    rig.until_idle();
    rig.volumes.release(&place, &volume).unwrap();
    // Who only looks makes no device: it would go, and with it that of whoever stages the volume just now.
    let error = rig.volumes.usage(&place, &volume, None).unwrap_err();
    assert_eq!(error.code, Code::Aborted, "{error}");
    let allocated = rig.volumes.allocated(&place).unwrap();
    assert!((MIB..=2 * MIB).contains(&allocated), "{allocated}");
}

#[test]
fn a_volume_in_use_is_not_mounted_twice_and_a_failed_mount_leaves_no_device() {
    let Some(rig) = Rig::new(512 * MIB) else { return };
    let volume = volume("v", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let options = [("nonsense".to_owned(), None)];
    let bad = Mounting { read_only: false, options: &options, secrets: &NOTHING };
    let error = rig.volumes.mount(&place, &volume, &bad).unwrap_err();
    assert!(error.code == Code::InvalidArgument && error.message.contains("nonsense"), "{error}");
    rig.until_idle();
    let mounted = rig.mounted(&volume);
    let error = rig.volumes.mount(&place, &volume, &how(false)).unwrap_err();
    assert!(error.code == Code::Aborted && error.message.contains("is in use"), "{error}");
    let error = rig.volumes.remove(&place).unwrap_err();
    assert_eq!(error.code, Code::Aborted, "{error}");
    drop(mounted);
    rig.mounted(&volume);
}

#[test]
fn parameters_are_refused_by_their_names() {
    let Some(rig) = Rig::new(256 * MIB) else { return };
    let wish = |fs_type: &str, key: &str| Wish {
        block: false,
        fs_type: fs_type.into(),
        parameters: [key]
            .iter()
            .filter(|key| !key.is_empty())
            .map(|key| ((*key).to_owned(), String::new()))
            .collect(),
        mutable: BTreeMap::new(),
    };
    rig.volumes.accepts(&wish("", "")).unwrap();
    assert_eq!(rig.volumes.file_system(&wish("", "")), "ext4");
    for (wish, named) in [(wish("ntfs", ""), "ntfs"), (wish("xfs", "colour"), "parameters[colour]")] {
        let error = rig.volumes.accepts(&wish).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
    let raw = Wish { block: true, ..wish("", "") };
    let all = rig.volumes.space(&rig.place("")).unwrap();
    assert_eq!((all.free, rig.volumes.taken(&raw, 100_000)), (all.size, 128 << 10));
    let most = rig.volumes.fits(&raw, all.size);
    assert!(rig.volumes.taken(&raw, most) <= all.size && rig.volumes.taken(&raw, most + 1) > all.size);
}
