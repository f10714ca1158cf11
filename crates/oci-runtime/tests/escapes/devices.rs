//! What hides paths, and whose devices of the host are.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::json;

use crate::bench::Bench;
use crate::{Attacker, Outcome, Test, check, picture, probing, push, rounds, with_probe};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2025_31133_paths_are_hidden_by_the_null_device_alone", false_null),
    ("cve_2025_62161_paths_are_hidden_while_the_null_device_is_exchanged", exchanged),
    ("standard_streams_of_the_host_keep_their_owner", streams),
    ("devices_behind_a_bind_mount_keep_their_owner_and_company", bound),
];

/// A directory of devices.
fn devices(path: &Path, names: &[(&str, u32, u32)]) -> Outcome {
    fs::create_dir_all(path)?;
    for (name, major, minor) in names {
        mknodat(
            CWD,
            path.join(name),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(*major, *minor),
        )?;
    }
    Ok(())
}

const HIDDEN: &str = "/proc/version";

fn false_null(bench: &Bench) -> Outcome {
    let dev = bench.path("dev");
    for (name, make) in [
        ("a link", (|dev| Ok(symlink("/proc/self/status", dev)?)) as fn(&Path) -> Outcome),
        ("a link to another device", |dev| Ok(symlink("zero", dev)?)),
        ("a file", |dev| Ok(fs::write(dev, "false")?)),
        ("another device", |dev| {
            Ok(mknodat(CWD, dev, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 5))?)
        }),
        ("a block device", |dev| {
            Ok(mknodat(CWD, dev, FileType::BlockDevice, Mode::from_raw_mode(0o666), makedev(1, 3))?)
        }),
        ("nothing", |_| Ok(())),
    ] {
        drop(fs::remove_dir_all(&dev));
        devices(&dev, &[("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)])?;
        fs::create_dir_all(dev.join("pts"))?;
        make(&dev.join("null"))?;
        for bind in [true, false] {
            let mut spec = probing(bench, &["look", HIDDEN]);
            let mounts = spec["mounts"].as_array_mut().ok_or("none")?;
            mounts.retain(|m| m["destination"] != "/dev");
            let place = bench.bundle().join("rootfs/dev");
            if bind {
                mounts.insert(1, json!({"destination": "/dev", "source": dev, "options": ["rbind"]}));
            } else if name == "nothing" {
                continue;
            } else {
                // Of the image itself.
                fs::remove_dir_all(&place)?;
                fs::rename(&dev, &place)?;
            }
            spec["linux"]["maskedPaths"] = json!([HIDDEN]);
            bench.configure(&spec);
            let done = bench.run(&["run", &bench.id]);
            check(done.code != 0, || format!("{name}, bound: {bind}: {}", done.out))?;
            if !bind {
                fs::remove_dir_all(&place)?;
                fs::create_dir(&place)?;
            }
        }
    }
    Ok(())
}

fn exchanged(bench: &Bench) -> Outcome {
    let shared = bench.path("shared");
    devices(&shared, &[("null", 1, 3), ("zero", 1, 5)])?;
    symlink("/proc/sys/kernel/core_pattern", shared.join("core"))?;
    fs::create_dir(shared.join("pts"))?;
    let attacker = Attacker::start(&shared, &["swap", "null=core", "null=zero"])?;
    let (mut ran, mut refused) = (0, 0);
    let outcome = (0..2 * rounds()).try_for_each(|round| -> Outcome {
        let mut spec = probing(bench, &["look", HIDDEN, "/proc/filesystems"]);
        let mounts = spec["mounts"].as_array_mut().ok_or("none")?;
        mounts.retain(|m| m["destination"] != "/dev");
        mounts.insert(1, json!({"destination": "/dev", "source": shared, "options": ["rbind"]}));
        spec["linux"]["maskedPaths"] = json!([HIDDEN, "/proc/filesystems"]);
        bench.configure(&spec);
        let done = bench.run(&["run", &bench.id]);
        if done.code != 0 {
            refused += 1;
            return Ok(());
        }
        ran += 1;
        let seen = done.json()?;
        for path in [HIDDEN, "/proc/filesystems"] {
            let is = &seen["paths"][path];
            check(
                is["number"] == json!([1, 3]) && is["mode"].as_str().is_some_and(|m| m.starts_with('2')),
                || format!("round {round}: {path} is {is}"),
            )?;
        }
        Ok(())
    });
    attacker.end()?;
    outcome?;
    check(ran > 0 && refused > 0, || format!("{ran} ran, {refused} were refused: no race"))
}

/// Owner and mode.
fn owner(path: &str) -> (u32, u32, u32) {
    fs::metadata(path).map_or((0, 0, 0), |m| (m.uid(), m.gid(), m.mode()))
}

fn streams(bench: &Bench) -> Outcome {
    let devices = ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty"];
    let before = devices.map(owner);
    let user = json!({"uid": 1000, "gid": 1000});
    let mut spec = bench.sleeper();
    with_probe(&mut spec);
    spec["process"]["user"] = user.clone();
    bench.configure(&spec);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let slave = || ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY);
    let name = rustix::pty::ptsname(&master, Vec::new())?.into_string()?;
    let terminal = owner(&name);
    let file = |path: &str| fs::OpenOptions::new().read(true).write(true).open(path).map(OwnedFd::from);
    type Open<'a> = Box<dyn Fn() -> Result<OwnedFd, Box<dyn std::error::Error>> + 'a>;
    let kinds: Vec<(&str, Open)> = vec![
        ("null", Box::new(|| Ok(file("/dev/null")?))),
        ("zero", Box::new(|| Ok(file("/dev/zero")?))),
        ("a terminal", Box::new(|| Ok(slave()?))),
    ];
    for (kind, open) in &kinds {
        for args in [
            vec!["create"],
            vec!["start"],
            vec!["exec", "--user", "1000:1000"],
            vec!["exec", "-d", "-u", "1000"],
        ] {
            let mut command = bench.command();
            command.args(&args).arg(&bench.id);
            if args[0] == "exec" {
                command.args(["/bin/busybox", "true"]);
            }
            let status = command.stdin(open()?).stdout(open()?).stderr(open()?).status()?;
            check(status.success(), || format!("{kind}: {args:?}: {status:?}"))?;
            check(devices.map(owner) == before, || format!("{kind}: {args:?}: {:?}", devices.map(owner)))?;
            check(owner(&name) == terminal, || format!("{kind}: {args:?}: {:?}", owner(&name)))?;
        }
        bench.run(&["delete", "-f", &bench.id]).ok()?;
    }
    Ok(())
}

fn bound(bench: &Bench) -> Outcome {
    let dev = bench.path("dev");
    let usual = [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
        ("fuse", 10, 229),
    ];
    devices(&dev, &usual)?;
    for dir in ["pts", "shm", "mqueue"] {
        fs::create_dir(dev.join(dir))?;
    }
    let before = picture(&dev);
    let device = |path: &str, major: u32, minor: u32| json!({"path": path, "type": "c", "major": major, "minor": minor, "uid": 1000, "gid": 1000, "fileMode": 0o600});
    for at in ["/dev", "/host/dev"] {
        let mut spec = probing(bench, &["exit"]);
        if at == "/dev" {
            spec["mounts"].as_array_mut().ok_or("none")?.retain(|m| m["destination"] != "/dev");
        }
        spec["mounts"]
            .as_array_mut()
            .ok_or("none")?
            .insert(1, json!({"destination": at, "source": dev, "options": ["rbind"]}));
        spec["linux"]["devices"] =
            json!([device(&format!("{at}/null"), 1, 3), device(&format!("{at}/fuse"), 10, 229)]);
        if at == "/dev" {
            push(&mut spec, "/linux/devices", device("/dev/new", 10, 229));
        }
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        bench.configure(&spec);
        bench.run(&["run", &bench.id]).ok()?;
        check(picture(&dev) == before, || format!("{at}: {:?}", picture(&dev)))?;
    }
    Ok(())
}
