//! Mounts, devices, keys and what is refused.

use super::*;

#[test]
fn a_block_device_is_found_again_grows_and_goes() {
    let rig = Rig::on(Kind::Xfs);
    let mut volume = volume("raw", Kind::Block, 8 * MIB);
    let place = rig.made(&volume, None);
    let device = rig.images.device(&place, &volume, false).unwrap();
    assert_eq!(rig.images.device(&place, &volume, false).unwrap(), device);
    let open = File::options().read(true).write(true).open(&device).unwrap();
    assert_eq!(size(&open), 8 * MIB);
    let data = pattern(4, 8 * MIB);
    open.write_all_at(&data, 0).unwrap();
    assert!(open.write_at(&[1; 512], 8 * MIB).is_err(), "it ends at its capacity");
    let (snapshot, at) = rig.snapshot("snapshot", &volume, None);
    open.write_all_at(&pattern(5, 8 * MIB), 0).unwrap();
    let mut restored = volume.clone();
    (restored.id, restored.capacity) = ("restored".into(), 12 * MIB);
    let restored_at = rig.made(&restored, Some(Source::Snapshot(&snapshot, &at)));
    let read_only = rig.images.device(&restored_at, &restored, true).unwrap();
    let bytes = fs::read(&read_only).unwrap();
    assert!(
        bytes.len() as u64 == 12 * MIB
            && bytes[..data.len()] == data
            && bytes[data.len()..].iter().all(|&b| b == 0)
    );
    assert!(
        File::options().write(true).open(&read_only).and_then(|file| file.write_at(&[1; 512], 0)).is_err()
    );

    rig.images.expand(&place, &volume, 16 * MIB, None).unwrap();
    volume.capacity = 16 * MIB;
    assert_eq!(size(&open), 16 * MIB);
    let to = [rig.new_place("g1"), rig.new_place("g2")];
    let cut = |n: usize| Cut { volume: &volume, from: &place, root: None, to: &to[n] };
    let failure = rig.images.snapshot(&[cut(0), cut(1)]).unwrap_err();
    assert!(failure.code == Code::FailedPrecondition && failure.message.contains("in use"), "{failure}");
    rig.images.release(&place, &volume).unwrap();
    // It goes with its last user, and is given to nobody else.
    let failure = rig.images.device(&place, &volume, false).unwrap_err();
    assert!(failure.code == Code::Aborted && failure.message.contains("is in use"), "{failure}");
    drop(open);
    rig.images.device(&place, &volume, false).unwrap();
    rig.images.release(&place, &volume).unwrap();
    rig.images.release(&place, &volume).unwrap();
    // Whoever looks at all devices has them open for a moment, and the last one out detaches.
    devices::idle(&place).unwrap();
    rig.images.remove(&restored_at).unwrap();
    devices::idle(&restored_at).unwrap();
    assert!(!restored_at.exists());
}

#[test]
fn a_place_with_the_longest_name_has_devices() {
    let rig = Rig::here();
    // A pool's name has at most 32 characters.
    let volume = volume(&"p".repeat(32), Kind::Block, 8 * MIB);
    let place = rig.made(&volume, None);
    let name = place.file_name().unwrap().to_str().unwrap();
    assert_eq!(name.len(), 32 + 1 + 32);
    for read_only in [false, true] {
        let device = rig.images.device(&place, &volume, read_only).unwrap();
        assert_eq!(rig.images.device(&place, &volume, read_only).unwrap(), device);
    }
    // They are found wherever the place is renamed to.
    let renamed = rig.path.join("gone").join(name);
    fs::create_dir(rig.path.join("gone")).unwrap();
    fs::rename(&place, &renamed).unwrap();
    assert_eq!(devices::of(&renamed).unwrap().len(), 2);
    rig.images.release(&renamed, &volume).unwrap();
    devices::idle(&renamed).unwrap();
}

#[test]
fn a_copy_of_a_pool_has_devices_of_its_own() {
    let rig = Rig::here();
    let volume = volume("raw", Kind::Block, 8 * MIB);
    let place = rig.made(&volume, None);
    let copy = rig.path.join("copy").join(place.file_name().unwrap());
    fs::create_dir_all(&copy).unwrap();
    fs::copy(place.join(IMAGE), copy.join(IMAGE)).unwrap();
    let device = rig.images.device(&place, &volume, false).unwrap();
    assert_eq!(devices::of(&copy).unwrap(), []);
    devices::idle(&copy).unwrap();
    rig.images.release(&copy, &volume).unwrap();
    let other = rig.images.device(&copy, &volume, false).unwrap();
    assert_ne!(device, other);
    // Somebody has removed its image; its device is no other's still.
    fs::remove_file(copy.join(IMAGE)).unwrap();
    assert_eq!(devices::of(&copy).unwrap().len(), 1);
    rig.images.remove(&copy).unwrap();
    devices::idle(&copy).unwrap();
    assert_eq!(devices::of(&place).unwrap().len(), 1);
    rig.images.release(&place, &volume).unwrap();
    devices::idle(&place).unwrap();
}

/// Somebody has unmounted the volume, and has perhaps mounted something else where it was.
#[test]
fn what_is_not_the_volume_is_neither_frozen_nor_resized() {
    // What is below a place that is mounted no more is the file system of this image, and not the machine's.
    let rig = Rig::on(Kind::Xfs);
    for kind in KINDS {
        let [ours, other] =
            ["ours", "other"].map(|id| volume(&format!("{id}-{}", kind.name()), kind, kind.least() * 2));
        let (place, _) = (rig.made(&ours, None), rig.made(&other, None));
        let (mounted, elsewhere) = (rig.mounted(&ours), rig.mounted(&other));
        let before = elsewhere.available();
        let unmounted = rig.path.join(format!("unmounted-{}", kind.name()));
        fs::create_dir(&unmounted).unwrap();
        fs::create_dir(mounted.path("inside")).unwrap();
        let [first, second] = ["first", "second"].map(|id| rig.new_place(&format!("{id}-{}", kind.name())));
        let wrong = [
            (rig.path.join("nowhere"), "no such directory"),
            (unmounted, "nothing is mounted there"),
            (mounted.path("inside"), "nothing is mounted there"),
            ("/proc".into(), "another kind of file system"),
            (elsewhere.root(), "on another device"),
        ];
        for (root, wanted) in &wrong {
            let cut = |to| Cut { volume: &ours, from: &place, root: Some(root), to };
            let answers = [
                rig.images.recover(&place, &ours, Some(root)),
                rig.images.expand(&place, &ours, kind.least() * 3, Some(root)),
                rig.images.snapshot(&[cut(&first)]),
                rig.images.snapshot(&[cut(&first), cut(&second)]),
                rig.images.create(&first, &ours, Some(Source::Volume(&ours, &place, Some(root)))),
            ];
            for failure in answers.map(Result::unwrap_err) {
                assert_eq!(failure.code, Code::FailedPrecondition, "{kind:?} {root:?}: {failure}");
                assert!(failure.message.contains(wanted), "{kind:?} {root:?}: {failure}");
            }
            assert_eq!(fs::metadata(place.join(IMAGE)).unwrap().len(), kind.image(ours.capacity));
            assert_eq!(elsewhere.available(), before, "{kind:?} {root:?}");
        }
        rig.images
            .snapshot(&[Cut { volume: &ours, from: &place, root: Some(&mounted.root()), to: &first }])
            .unwrap();
    }
}

#[test]
fn an_encrypted_volume_opens_with_its_key_alone() {
    let rig = Rig::on(Kind::Btrfs);
    let mut origin = volume("secret", Kind::Ext4, 32 * MIB);
    origin.parameters.insert(encryption::PARAMETER.into(), encryption::FSCRYPT.into());
    let place = rig.made(&origin, None);
    let secrets = |digits: &str| BTreeMap::from([("key".to_owned(), digits.repeat(32))]);
    let (right, wrong) = (secrets("a1b2"), secrets("c3d4"));
    let mount = |id: &str, volume: &Volume, read_only: bool, secrets: &BTreeMap<String, String>| {
        let how = Mounting { read_only, options: &[], secrets };
        rig.images.mount(&rig.place(id), volume, &how).map(Mounted)
    };
    let failure = mount("secret", &origin, true, &right).err().unwrap();
    assert!(
        failure.code == Code::FailedPrecondition && failure.message.contains("nothing was ever written"),
        "{failure}"
    );
    let mounted = mount("secret", &origin, false, &right).unwrap();
    let needle = b"words that are in no image in the clear";
    fs::write(mounted.path("file"), needle).unwrap();
    assert!(mounted.available() >= origin.capacity - MIB);
    let (snapshot, at) = rig.snapshot("snapshot", &origin, Some(&mounted.root()));
    drop(mounted);
    let raw = fs::read(place.join(IMAGE)).unwrap();
    assert!(!raw.windows(needle.len()).any(|window| window == needle));

    let failure = mount("secret", &origin, false, &wrong).err().unwrap();
    assert!(
        failure.code == Code::FailedPrecondition && failure.message.contains("is not its key"),
        "{failure}"
    );
    let failure = mount("secret", &origin, false, &NOTHING).err().unwrap();
    assert!(
        failure.code == Code::InvalidArgument && failure.to_string().contains("secrets[key]: is missing"),
        "{failure}"
    );
    assert_eq!(fs::read(mount("secret", &origin, true, &right).unwrap().path("file")).unwrap(), needle);

    let mut restored = origin.clone();
    (restored.id, restored.capacity) = ("restored".into(), 64 * MIB);
    rig.made(&restored, Some(Source::Snapshot(&snapshot, &at)));
    assert!(mount("restored", &restored, false, &wrong).is_err());
    let beside = mount("secret", &origin, false, &right).unwrap();
    let mounted = mount("restored", &restored, false, &right).unwrap();
    assert_eq!(fs::read(mounted.path("file")).unwrap(), needle);
    assert!(mounted.available() >= restored.capacity - MIB, "{}", mounted.available());
    assert_eq!(fs::read(beside.path("file")).unwrap(), needle);
}

#[test]
fn a_directory_of_a_mount_is_mounted_on_older_kernels_too() {
    let rig = Rig::here();
    let volume = volume("below", Kind::Ext4, 16 * MIB);
    rig.made(&volume, None);
    type Way = fn(&OwnedFd, &std::ffi::CStr) -> Result<OwnedFd, kernel::Error>;
    for below in [filesystem::below as Way, filesystem::below_attached] {
        let mounted = rig.mounted(&volume);
        fs::create_dir_all(mounted.path("inner")).unwrap();
        fs::write(mounted.path("inner/file"), b"there").unwrap();
        // The mount may be used up by it.
        let below = Mounted(below(&mounted.0, c"inner").unwrap());
        drop(mounted);
        assert_eq!(fs::read(below.path("file")).unwrap(), b"there");
    }
}

#[test]
fn an_option_is_refused_by_its_name() {
    let rig = Rig::here();
    for (kind, option, value) in [
        (Kind::Ext4, "nonsense", None),
        (Kind::Ext4, "commit", Some("soon")),
        (Kind::Xfs, "logbufs", Some("1000")),
        (Kind::Btrfs, "compress", Some("unheard-of")),
    ] {
        let volume = volume(&format!("{}-{option}", kind.name()), kind, kind.least());
        let place = rig.made(&volume, None);
        let options = [(option.to_owned(), value.map(str::to_owned))];
        let how = Mounting { read_only: false, options: &options, secrets: &NOTHING };
        let failure = rig.images.mount(&place, &volume, &how).err();
        let failure = failure.unwrap_or_else(|| panic!("{kind:?} takes {option}={value:?}"));
        assert_eq!(failure.code, Code::InvalidArgument, "{failure}");
        assert!(failure.message.contains(option), "{failure}");
        // What was attached for it is gone.
        devices::idle(&place).unwrap();
    }
    let volume = volume("discarding", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let options = [("discard".to_owned(), None), ("commit".to_owned(), Some("30".to_owned()))];
    let how = Mounting { read_only: true, options: &options, secrets: &NOTHING };
    let mounted = Mounted(rig.images.mount(&place, &volume, &how).unwrap());
    assert!(fs::write(mounted.path("file"), b"no").is_err(), "it is read-only");
}

#[test]
fn an_image_in_use_is_not_attached_twice() {
    let rig = Rig::here();
    let volume = volume("busy", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let mounted = rig.mounted(&volume);
    let held = File::create(mounted.path("held")).unwrap();
    drop(mounted);
    let failure = rig.images.mount(&place, &volume, &how(false)).unwrap_err();
    assert!(failure.code == Code::Aborted && failure.message.contains("is in use on /dev/loop"), "{failure}");
    drop(held);
    rig.mounted(&volume);
}

#[test]
fn a_damaged_ext4_is_mended_before_it_is_mounted() {
    let rig = Rig::here();
    let volume = volume("damaged", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let marked = Command::new("tune2fs").args(["-E", "force_fsck"]).arg(place.join(IMAGE)).output().unwrap();
    assert!(marked.status.success(), "{marked:?}");
    let told = || superblock::read(&open_image(&place, false).unwrap(), Kind::Ext4).unwrap().unwrap();
    assert!(told().damaged);
    assert!(rig.images.ailment(&place, &volume, None).unwrap().unwrap().contains("errors"));
    drop(rig.mounted(&volume));
    assert!(!told().damaged);
    assert_eq!(rig.images.ailment(&place, &volume, None).unwrap(), None);
    open_image(&place, true).unwrap().set_len(MIB).unwrap();
    assert!(rig.images.ailment(&place, &volume, None).unwrap().unwrap().contains("1048576 bytes"));
    fs::remove_file(place.join(IMAGE)).unwrap();
    assert!(rig.images.ailment(&place, &volume, None).unwrap().unwrap().contains("gone"));
}

#[test]
fn what_mkfs_says_is_in_the_failure() {
    let rig = Rig::here();
    let volume = volume("small", Kind::Xfs, 256 * MIB);
    let place = rig.new_place("small");
    File::create(place.join(IMAGE)).unwrap().set_len(MIB).unwrap();
    let failure =
        program::make(Kind::Xfs, &place.join(IMAGE), volume.capacity, Encryption::None).unwrap_err();
    assert!(failure.message.contains("mkfs.xfs: exit status: 1: "), "{failure}");
    assert!(failure.message.len() > 100, "{failure}");
}

/// What the killed process below does.
#[test]
#[ignore = "it is run by the next test, and waits to be killed"]
fn holds_devices() {
    let path = PathBuf::from(std::env::var_os("CSI_IMAGE_PLACES").expect("the next test says where"));
    let images = Images::open(&path).unwrap();
    let volume = volume("v", Kind::Ext4, 16 * MIB);
    let mut held = Vec::new();
    for place in fs::read_dir(&path).unwrap() {
        let place = place.unwrap().path();
        held.push(images.mount(&place, &volume, &how(false)).unwrap());
    }
    println!("held {}", held.len());
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_driver_leaves_no_device() {
    use std::io::BufRead as _;
    let rig = Rig::here();
    let volumes = ["a", "b", "c"].map(|id| volume(id, Kind::Ext4, 16 * MIB));
    let places = volumes.each_ref().map(|volume| rig.made(volume, None));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "plugin::backend::image::tests::mounts::holds_devices", "--ignored", "--nocapture"])
        .env("CSI_IMAGE_PLACES", &rig.path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let held = lines.map_while(Result::ok).find(|line| line.contains("held"));
    assert!(held.is_some_and(|line| line.ends_with("held 3")));
    assert!(places.iter().all(|place| devices::of(place).unwrap().len() == 1));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    for place in &places {
        devices::idle(place).unwrap();
        rig.images.remove(place).unwrap();
    }
}

#[test]
fn parameters_are_refused_by_their_names() {
    let rig = Rig::here();
    let wish = |fs_type: &str, block, parameters: &[(&str, &str)]| Wish {
        block,
        fs_type: fs_type.into(),
        parameters: parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        mutable: BTreeMap::new(),
    };
    let refused = |wish: &Wish| rig.images.accepts(wish).unwrap_err().to_string();
    for fs_type in ["", "ext4", "xfs", "btrfs"] {
        rig.images.accepts(&wish(fs_type, false, &[])).unwrap();
    }
    rig.images.accepts(&wish("", true, &[])).unwrap();
    rig.images.accepts(&wish("", false, &[("encryption", "fscrypt")])).unwrap();
    let default = if may_grow_ext4().unwrap() { "ext4" } else { "xfs" };
    assert_eq!(rig.images.file_system(&wish("", false, &[])), default);
    assert_eq!(rig.images.least(&wish("", false, &[])), rig.images.least(&wish(default, false, &[])));
    assert_eq!(rig.images.file_system(&wish("", false, &[("encryption", "fscrypt")])), "ext4");
    assert_eq!(rig.images.file_system(&wish("", true, &[])), "");
    assert!(refused(&wish("ntfs", false, &[])).contains("\"ntfs\""));
    assert!(refused(&wish("", false, &[("colour", "red")])).contains("parameters[colour]"));
    assert!(refused(&wish("", false, &[("encryption", "rot13")])).contains("\"rot13\""));
    assert!(refused(&wish("xfs", false, &[("encryption", "fscrypt")])).contains("only ext4"));
    assert!(refused(&wish("", true, &[("encryption", "fscrypt")])).contains("only ext4"));
}
