//! Thin volumes that dm-crypt encrypts.

use std::os::unix::fs::FileExt as _;

use super::*;

#[test]
fn copies_have_the_key_of_their_origin_and_nobody_reads_them_without() {
    let Some(rig) = Rig::new(2 * GIB) else { return };
    let (right, wrong) = (secrets("a1b2"), secrets("c3d4"));
    for kind in KINDS {
        let id = |what: &str| format!("{what}-{}", kind.name());
        let origin = encrypted(volume(&id("origin"), kind, kind.least()));
        let place = rig.made(&origin, None);
        let mount = |volume: &Volume, secrets: &Secrets| {
            let how = Mounting { read_only: false, options: &[], secrets };
            rig.volumes.mount(&rig.place(&volume.id), volume, &how).map(Mounted)
        };
        let mounted = mount(&origin, &right).unwrap();
        let data = pattern(1, 4 * MIB);
        fs::write(mounted.path("file"), &data).unwrap();
        let (snapshot, at) = rig.snapshot(&id("snapshot"), &origin, Some(&mounted.root()));
        fs::write(mounted.path("file"), b"later").unwrap();
        let capacity = origin.capacity * 2;
        rig.volumes.expand(&place, &origin, capacity, Some(&mounted.root())).unwrap();
        assert!(mounted.available() >= capacity - 6 * MIB, "{kind:?}: {}", mounted.available());
        let restored = encrypted(volume(&id("restored"), kind, capacity));
        rig.made(&restored, Some(Source::Snapshot(&snapshot, &at)));
        let error = mount(&restored, &wrong).err().unwrap();
        assert!(error.message.contains("is not its key"), "{error}");
        let restored_at = mount(&restored, &right).unwrap();
        assert!(fs::read(restored_at.path("file")).unwrap() == data, "{kind:?}");
        rig.volumes.recover(&place, &origin, Some(&mounted.root())).unwrap();
        assert_eq!(fs::read(mounted.path("file")).unwrap(), b"later");
        drop((mounted, restored_at));
        rig.until_idle();
        for name in ["origin", "snapshot", "restored"] {
            rig.volumes.remove(&rig.place(&id(name))).unwrap();
        }
    }
}

#[test]
fn a_block_device_is_there_once_it_is_unlocked() {
    let Some(rig) = Rig::new(512 * MIB) else { return };
    let volume = encrypted(volume("raw", Kind::Block, 8 * MIB));
    let place = rig.made(&volume, None);
    let error = rig.volumes.device(&place, &volume, false).unwrap_err();
    assert!(error.message.contains("is not unlocked"), "{error}");
    rig.volumes.unlock(&place, &volume, &secrets("a1b2")).unwrap();
    let path = rig.volumes.device(&place, &volume, false).unwrap();
    let device = File::options().read(true).write(true).open(path).unwrap();
    device.write_all_at(&pattern(1, MIB), 0).unwrap();
    let (snapshot, at) = rig.snapshot("snapshot", &volume, None);
    device.write_all_at(&pattern(2, MIB), 0).unwrap();
    rig.volumes.expand(&place, &volume, 16 * MIB, None).unwrap();
    device.write_all_at(b"within", 15 * MIB).unwrap();
    let copy = Volume { id: "copy".into(), ..volume.clone() };
    let copied = rig.made(&copy, Some(Source::Snapshot(&snapshot, &at)));
    assert!(rig.volumes.unlock(&copied, &copy, &secrets("c3d4")).is_err());
    rig.volumes.unlock(&copied, &copy, &secrets("a1b2")).unwrap();
    let mut read = vec![0; MIB as usize];
    let reading = rig.volumes.device(&copied, &copy, true).unwrap();
    File::open(reading).unwrap().read_exact_at(&mut read, 0).unwrap();
    assert!(read == pattern(1, MIB));
    for (place, volume) in [(&place, &volume), (&copied, &copy)] {
        rig.volumes.release(place, volume).unwrap();
    }
    drop(device);
    rig.until_idle();
}
