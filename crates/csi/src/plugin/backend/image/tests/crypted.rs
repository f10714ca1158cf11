//! Images that dm-crypt encrypts. Where there is no device mapper they cannot be had.

use super::super::crypted::of;
use super::*;

/// Whether there is a device mapper; in the guest there must be.
fn is_here() -> bool {
    match crypt::is_here() {
        Ok(()) => true,
        Err(e) if std::env::var_os("SEXTANT_NEEDS_DM").is_none() => {
            assert!(e.code == Code::FailedPrecondition && e.message.contains("dm-crypt"), "{e}");
            eprintln!("skipped: {e}");
            false
        }
        Err(e) => panic!("{e}"),
    }
}

const NEEDLE: &[u8] = b"words that are in no image in the clear";

/// Whether a block of the image begins with it, as the one of a file that begins with it would.
fn holds_in_the_clear(place: &Path, needle: &[u8]) -> bool {
    fs::read(place.join(IMAGE)).unwrap().chunks(4096).any(|block| block.starts_with(needle))
}

#[test]
fn what_is_written_is_nowhere_in_the_clear_and_copies_have_the_key() {
    if !is_here() {
        return;
    }
    let (right, wrong) = (secrets("a1b2"), secrets("c3d4"));
    for (rig, kind) in
        [(Rig::on(Kind::Xfs), Kind::Ext4), (Rig::here(), Kind::Xfs), (Rig::on(Kind::Btrfs), Kind::Btrfs)]
    {
        let id = |what: &str| format!("{what}-{}", kind.name());
        let origin = encrypted(volume(&id("origin"), kind, kind.least()));
        let place = rig.made(&origin, None);
        let mount = |volume: &Volume, read_only: bool, secrets: &Secrets| {
            let how = Mounting { read_only, options: &[], secrets };
            rig.images.mount(&rig.place(&volume.id), volume, &how).map(Mounted)
        };
        let failure = mount(&origin, true, &right).err().unwrap();
        assert!(failure.message.contains("nothing was ever written"), "{failure}");
        let mounted = mount(&origin, false, &right).unwrap();
        // Large enough for blocks of its own.
        let data = [NEEDLE, &pattern(1, MIB)].concat();
        fs::write(mounted.path("file"), &data).unwrap();
        let (capacity, available) = (origin.capacity, mounted.available());
        assert!(
            available >= capacity - MIB && available <= capacity + capacity / 20,
            "{kind:?}: {available}"
        );
        let (snapshot, at) = rig.snapshot(&id("snapshot"), &origin, Some(&mounted.root()));
        // Online, without the secret.
        rig.images.expand(&place, &origin, capacity * 2, Some(&mounted.root())).unwrap();
        assert!(mounted.available() >= capacity * 2 - 4 * MIB, "{kind:?}: {}", mounted.available());
        rig.images.recover(&place, &origin, Some(&mounted.root())).unwrap();
        assert_eq!(rig.images.ailment(&place, &origin, Some(&mounted.root())).unwrap(), None);
        drop(mounted);
        assert!(!holds_in_the_clear(&place, NEEDLE));

        let failure = mount(&origin, false, &wrong).err().unwrap();
        assert!(
            failure.code == Code::FailedPrecondition && failure.message.contains("is not its key"),
            "{failure}"
        );
        let failure = mount(&origin, false, &NOTHING).err().unwrap();
        assert!(failure.to_string().contains("secrets[key]: is missing"), "{failure}");
        assert!(fs::read(mount(&origin, true, &right).unwrap().path("file")).unwrap() == data, "{kind:?}");

        let restored = encrypted(volume(&id("restored"), kind, capacity * 2));
        rig.made(&restored, Some(Source::Snapshot(&snapshot, &at)));
        assert!(mount(&restored, false, &wrong).is_err());
        let (beside, mounted) =
            (mount(&origin, false, &right).unwrap(), mount(&restored, false, &right).unwrap());
        assert!(fs::read(mounted.path("file")).unwrap() == data, "{kind:?}");
        assert!(mounted.available() >= restored.capacity - 4 * MIB, "{kind:?}: {}", mounted.available());
        drop((beside, mounted));
        for id in [origin.id, restored.id, snapshot.id] {
            devices::idle(&rig.place(&id)).unwrap();
            assert!(of(&rig.place(&id)).devices().unwrap().is_empty());
            rig.images.remove(&rig.place(&id)).unwrap();
        }
    }
}

#[test]
fn a_block_device_is_there_once_it_is_unlocked() {
    if !is_here() {
        return;
    }
    let rig = Rig::here();
    let volume = encrypted(volume("raw", Kind::Block, 8 * MIB));
    let place = rig.made(&volume, None);
    let failure = rig.images.device(&place, &volume, false).unwrap_err();
    assert!(failure.message.contains("is not unlocked"), "{failure}");
    rig.images.unlock(&place, &volume, &secrets("a1b2")).unwrap();
    rig.images.unlock(&place, &volume, &secrets("a1b2")).unwrap();
    let path = rig.images.device(&place, &volume, false).unwrap();
    let device = File::options().read(true).write(true).open(&path).unwrap();
    assert_eq!(size(&device), 8 * MIB);
    device.write_all_at(NEEDLE, 4096).unwrap();
    device.sync_all().unwrap();
    let reading = rig.images.device(&place, &volume, true).unwrap();
    let (reader, mut read) = (File::open(&reading).unwrap(), vec![0; NEEDLE.len()]);
    reader.read_exact_at(&mut read, 4096).unwrap();
    assert_eq!(read, NEEDLE);
    let written = File::options().write(true).open(&reading).and_then(|device| device.write_all_at(b"no", 0));
    assert!(written.is_err());
    // Killed while it widens them, a driver leaves them still.
    for (name, _) in of(&place).devices().unwrap().iter().rev() {
        kernel::dm::suspend(name, false).unwrap();
    }
    rig.images.recover(&place, &volume, None).unwrap();
    let devices = of(&place).devices().unwrap();
    assert!(devices.len() == 2 && devices.iter().all(|(_, info)| !info.suspended), "{devices:?}");
    rig.images.expand(&place, &volume, 16 * MIB, None).unwrap();
    assert_eq!((size(&device), size(&reader)), (16 * MIB, 16 * MIB));
    rig.images.release(&place, &volume).unwrap();
    assert!(rig.images.device(&place, &volume, false).is_err(), "it goes with who has it open");
    drop((device, reader));
    devices::idle(&place).unwrap();
    assert!(!holds_in_the_clear(&place, NEEDLE));
    let failure = rig.images.unlock(&place, &volume, &secrets("c3d4")).unwrap_err();
    assert!(failure.message.contains("is not its key"), "{failure}");
    rig.images.unlock(&place, &volume, &secrets("a1b2")).unwrap();
    let path = rig.images.device(&place, &volume, false).unwrap();
    File::open(path).unwrap().read_exact_at(&mut read, 4096).unwrap();
    assert_eq!(read, NEEDLE);
    let crypt = of(&place);
    assert_eq!(crypt.devices().unwrap().len(), 1);
    rig.images.remove(&place).unwrap();
    assert!(crypt.devices().unwrap().is_empty());
}

#[test]
fn a_copy_of_a_pool_has_devices_of_its_own() {
    if !is_here() {
        return;
    }
    let (rig, folder) = (Rig::here(), tempfile::tempdir().unwrap());
    let volume = encrypted(volume("raw", Kind::Block, MIB));
    let place = rig.made(&volume, None);
    rig.images.unlock(&place, &volume, &secrets("a1b2")).unwrap();
    let path = rig.images.device(&place, &volume, false).unwrap();
    let twin = folder.path().join(place.file_name().unwrap());
    copy::tree(&place, &twin).unwrap();
    assert!(rig.images.device(&twin, &volume, false).is_err());
    rig.images.unlock(&twin, &volume, &secrets("a1b2")).unwrap();
    assert_ne!(rig.images.device(&twin, &volume, false).unwrap(), path);
    rig.images.release(&twin, &volume).unwrap();
    assert_eq!(rig.images.device(&place, &volume, false).unwrap(), path);
    rig.images.release(&place, &volume).unwrap();
}
