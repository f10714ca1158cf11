//! Copies of trees, as they are and while somebody changes them.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

#[test]
fn a_copy_is_as_the_original() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir_all(from.join("d/deep")).unwrap();
    fs::write(from.join("d/a"), "data").unwrap();
    fs::set_permissions(from.join("d/a"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(from.join("d/deep"), fs::Permissions::from_mode(0o3711)).unwrap();
    fs::hard_link(from.join("d/a"), from.join("b")).unwrap();
    symlink("nowhere", from.join("l")).unwrap();
    let sparse = File::create(from.join("s")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();
    for name in ["b", "d"] {
        lsetxattr(from.join(name), "user.x", b"y", XattrFlags::empty()).unwrap();
    }
    std::os::unix::fs::chown(from.join("d"), Some(1000), Some(1001)).unwrap();
    mknodat(CWD, from.join("p"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    tree(&from, &to).unwrap();
    assert_eq!(fs::read_to_string(to.join("b")).unwrap(), "data");
    let (a, b) = (fs::metadata(to.join("d/a")).unwrap(), fs::metadata(to.join("b")).unwrap());
    assert_eq!((a.ino(), a.mode() & 0o7777), (b.ino(), 0o4750));
    for name in ["b", "d", "d/deep", ""] {
        let (was, is) = (fs::metadata(from.join(name)).unwrap(), fs::metadata(to.join(name)).unwrap());
        assert_eq!(
            (was.mtime(), was.mtime_nsec(), was.mode()),
            (is.mtime(), is.mtime_nsec(), is.mode()),
            "{name:?}"
        );
        assert_eq!((was.uid(), was.gid()), (is.uid(), is.gid()), "{name:?}");
    }
    assert_eq!(fs::read_link(to.join("l")).unwrap(), Path::new("nowhere"));
    let sparse = fs::metadata(to.join("s")).unwrap();
    assert!(sparse.len() == 64 << 20 && sparse.blocks() * 512 < 1 << 20, "{sparse:?}");
    assert!(fs::read(to.join("s")).unwrap().ends_with(b"end"));
    let mut value = [0; 8];
    for name in ["d/a", "d"] {
        assert_eq!(lgetxattr(to.join(name), "user.x", &mut value[..]).unwrap(), 1, "{name}");
    }
    assert!(fs::symlink_metadata(to.join("p")).unwrap().file_type().is_fifo());
    assert!((4096..1 << 20).contains(&allocated(&to)));
    remove(&to).unwrap();
    remove(&to).unwrap();
    assert!(!to.exists() && from.join("b").exists());
}

/// What is told twice in one walk is here in two.
#[test]
fn a_name_that_is_told_again_is_of_what_has_it_now() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for at in [from.join("d/e"), to.clone()] {
        fs::create_dir_all(at).unwrap();
    }
    for name in ["f", "became", "d/e/old", "many"] {
        fs::write(from.join(name), "before").unwrap();
    }
    fs::hard_link(from.join("many"), from.join("d/many")).unwrap();
    fs::hard_link(from.join("f"), from.join("d/f")).unwrap();
    symlink("before", from.join("l")).unwrap();
    let copy = root(&to).unwrap();
    let mut copying =
        Copying { copy: &copy, first: HashMap::new(), directories: Vec::new(), room: vec![0; ATTRIBUTES] };
    let mut go = || walk(&root(&from).unwrap(), ResolveFlags::NO_XDEV, |entry| copying.entry(entry)).unwrap();
    assert!(go());
    for name in ["f", "d/f", "became", "d/e/old", "l"] {
        fs::remove_file(from.join(name)).unwrap();
    }
    fs::write(from.join("f"), "after").unwrap();
    fs::hard_link(from.join("f"), from.join("d/f")).unwrap();
    fs::create_dir(from.join("became")).unwrap();
    fs::write(from.join("d/e/new"), "after").unwrap();
    fs::set_permissions(from.join("d/e"), fs::Permissions::from_mode(0o3711)).unwrap();
    symlink("after", from.join("l")).unwrap();
    assert!(go());
    copying.finish().unwrap();
    let read = |name: &str| fs::read_to_string(to.join(name)).unwrap();
    assert_eq!((read("f"), read("d/f"), read("d/e/new")), ("after".into(), "after".into(), "after".into()));
    assert_eq!(fs::read_link(to.join("l")).unwrap(), Path::new("after"));
    assert!(to.join("became").is_dir() && !to.join("d/e/old").exists());
    let of = |name: &str| fs::metadata(to.join(name)).unwrap();
    assert_eq!((of("f").ino(), of("many").ino()), (of("d/f").ino(), of("d/many").ino()));
    assert_eq!(of("d/e").mode() & 0o7777, 0o3711);
}

/// What stands where a directory or a file was when it was looked at.
#[test]
fn what_is_put_in_its_place_leads_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (from, outside) = (dir.path().join("from"), dir.path().join("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), "hunter2").unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    /// Ends the other thread whatever this one finds.
    struct Stop<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        fs::create_dir_all(from.join("a")).unwrap();
        fs::write(from.join("a/secret"), "mine").unwrap();
        fs::write(from.join("f"), "mine").unwrap();
        symlink(&outside, from.join("b")).unwrap();
        symlink(outside.join("secret"), from.join("g")).unwrap();
        scope.spawn(|| {
            let exchange = |a: &str, b: &str| {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, from.join(a), CWD, from.join(b), flags).unwrap();
            };
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                exchange("a", "b");
                exchange("f", "g");
            }
        });
        for number in 0..200 {
            let to = dir.path().join(format!("to{number}"));
            tree(&from, &to).unwrap();
            for name in ["a/secret", "b/secret", "f", "g"] {
                let path = to.join(name);
                // Through a link of the copy it may be reached, as through that of the original.
                let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|there| there.is_symlink());
                if !is_link(&path) && !path.parent().is_some_and(is_link) {
                    assert_ne!(fs::read_to_string(&path).unwrap_or_default(), "hunter2", "{name}");
                }
            }
            remove(&to).unwrap();
        }
    });
}

#[test]
fn a_tree_that_is_too_deep_is_refused_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    fs::create_dir(&from).unwrap();
    // Directories of a tmpfs need no blocks.
    fs::write(from.join("data"), "x").unwrap();
    let mut at = root(&from).unwrap();
    for _ in 0..3000 {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let error = tree(&from, &to).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "{error}");
    assert!(allocated(&from) > 0);
    remove(&to).unwrap();
    remove(&from).unwrap();
    assert!(!from.exists() && !to.exists());
}
