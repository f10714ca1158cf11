use std::os::unix::fs::FileExt as _;

use super::*;
use crate::loopdev;

/// Whether there is a device mapper. In the guest there must be.
fn is_here() -> bool {
    match version() {
        Ok(_) => true,
        Err(e) if std::env::var_os("SEXTANT_NEEDS_DM").is_none() => {
            assert!(is_missing(&e), "{e}");
            eprintln!("skipped: {e}");
            false
        }
        Err(e) => panic!("{e}"),
    }
}

/// A loop device over an empty file, both of which go with it.
struct Disk {
    path: PathBuf,
    _open: File,
}

impl Disk {
    fn new(name: &str, bytes: u64) -> Disk {
        let tag = format!("sextant-test-{name}-{}", std::process::id());
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
        let (path, open) = loopdev::attach(&file, &tag, options).unwrap();
        Disk { path, _open: open }
    }

    fn linear(&self, start: u64, length: u64) -> Target {
        let parameters = format!("{} {start}", self.path.display());
        Target { start: 0, length, kind: "linear".into(), parameters }
    }
}

fn name(what: &str) -> String {
    format!("sextant-test-{}-{what}", std::process::id())
}

#[test]
fn a_device_is_made_and_found_by_its_name_and_grows() {
    if !is_here() {
        return;
    }
    let disk = Disk::new("linear", 1 << 20);
    let name = name("linear");
    let made = create(&name, &[disk.linear(8, 64)], false).unwrap();
    assert_eq!(
        info(&name).unwrap().map(|info| (info.number, info.active, info.suspended)),
        Some((made.number, true, false))
    );
    assert_eq!(list(&name).unwrap(), std::slice::from_ref(&name));
    assert_eq!(create(&name, &[disk.linear(8, 64)], false).unwrap_err().errno(), Some(Errno::BUSY));
    let device = File::options().read(true).write(true).open(made.path()).unwrap();
    device.write_all_at(b"there", 0).unwrap();
    device.sync_all().unwrap();
    assert!(device.write_all_at(b"beyond", 64 * SECTOR).is_err());
    load(&name, &[disk.linear(8, 128)], false).unwrap();
    suspend(&name, true).unwrap();
    assert!(info(&name).unwrap().unwrap().suspended);
    resume(&name).unwrap();
    device.write_all_at(b"within", 64 * SECTOR).unwrap();
    device.sync_all().unwrap();
    let told = table(&name).unwrap();
    assert!(told.len() == 1 && told[0].length == 128 && told[0].parameters.ends_with(" 8"), "{told:?}");
    let mut read = [0; 5];
    File::open(&disk.path).unwrap().read_exact_at(&mut read, 8 * SECTOR).unwrap();
    assert_eq!(&read, b"there");
    assert_eq!(remove(&name, false).unwrap_err().errno(), Some(Errno::BUSY));
    remove(&name, true).unwrap();
    assert!(info(&name).unwrap().unwrap().deferred);
    drop(device);
    assert!((0..60_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        info(&name).unwrap().is_none()
    }));
    remove(&name, false).unwrap();
}

/// Longer than the room that an answer has at first.
#[test]
fn a_table_of_many_lines_is_read_whole() {
    if !is_here() {
        return;
    }
    let disk = Disk::new("many", 2 << 20);
    let name = name("many");
    let line = |n: u64| {
        let mut line = disk.linear((499 - n) * 8, 8);
        line.start = n * 8;
        line
    };
    let lines: Vec<Target> = (0..500).map(line).collect();
    create(&name, &lines, false).unwrap();
    let told = table(&name);
    remove(&name, false).unwrap();
    let told: Vec<_> = told.unwrap().iter().map(|line| (line.start, line.parameters.clone())).collect();
    assert_eq!(told.len(), lines.len());
    for (number, (start, parameters)) in told.iter().enumerate() {
        assert!(
            *start == number as u64 * 8 && parameters.ends_with(&format!(" {}", (499 - number) * 8)),
            "{told:?}"
        );
    }
}

#[test]
fn what_a_target_refuses_leaves_no_device() {
    if !is_here() {
        return;
    }
    let name = name("refused");
    let target = Target { start: 0, length: 8, kind: "linear".into(), parameters: "nonsense".into() };
    assert!(create(&name, &[target], false).is_err());
    assert_eq!(info(&name).unwrap(), None);
    assert!(message(&name, "nothing").unwrap_err().to_string().contains("nothing"));
}

#[test]
fn a_key_is_not_shown() {
    let target = Target { start: 0, length: 8, kind: "crypt".into(), parameters: "aes abcdef".into() };
    assert!(!format!("{target:?}").contains("abcdef"));
}
