//! Mounts: options, ids, copies.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use serde_json::{Value, json};

use super::{answer, push, refused, with_user_namespace};
use crate::{Bench, Outcome, Test, check};

pub(super) const TESTS: &[Test] = &[
    ("a_tmpfs_starts_with_what_was_there", copy_up),
    ("a_copy_is_the_users_own_in_a_user_namespace", copy_up_for_user),
    ("a_tmpfs_has_the_permissions_of_its_place", tmpfs_mode),
    ("recursive_options_reach_all_below", recursive),
    ("options_of_the_whole_filesystem_are_set", superblock),
    ("symlinks_are_not_followed", no_symlinks),
    ("a_mount_is_remounted", remount),
    ("ids_of_a_mount_are_mapped", idmap),
    ("a_mount_is_mapped_as_the_container", idmap_as_container),
    ("ids_of_all_mounts_below_are_mapped", recursive_idmap),
    ("what_cannot_be_mapped_is_named", unmappable),
    ("what_has_no_effect_is_told", no_effect),
];

/// A tmpfs of the host, for as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(on: PathBuf) -> Result<Self, Box<dyn std::error::Error>> {
        fs::create_dir_all(&on)?;
        rustix::mount::mount("sextant-test", &on, "tmpfs", MountFlags::empty(), None)?;
        Ok(Self(on))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        kernel::mount::detach(&self.0).expect("it is unmounted");
    }
}

/// The line of a mount point in the container's mountinfo.
fn line<'a>(answer: &'a Value, target: &str) -> &'a str {
    let lines = answer["mounts"].as_str().unwrap_or_default().lines();
    lines.rev().find(|l| l.split(' ').nth(4) == Some(target)).unwrap_or_default()
}

fn of_image(bench: &Bench) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let dir = bench.root().join("data");
    fs::create_dir_all(dir.join("sub/deep"))?;
    fs::write(dir.join("sub/deep/file"), "of the image")?;
    fs::set_permissions(dir.join("sub/deep/file"), fs::Permissions::from_mode(0o4640))?;
    symlink("x".repeat(1000), dir.join("long"))?;
    fs::write(dir.join("large"), vec![7; 3 << 20])?;
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600));
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("pipe"), kind, mode, 0)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o750))?;
    Ok(dir)
}

fn copy_up(bench: &Bench) -> Outcome {
    let dir = of_image(bench)?;
    chown(dir.join("sub"), Some(12), Some(13))?;
    let paths = ["/data", "/data/sub", "/data/sub/deep/file", "/data/long", "/data/large"];
    let mut spec = bench.spec(&[&["look"], &paths[..]].concat());
    push(&mut spec, "/mounts", json!({"destination": "/data", "type": "tmpfs", "options": ["tmpcopyup"]}));
    let seen = answer(bench, &spec)?;
    let paths = &seen["paths"];
    check(line(&seen, "/data").contains(" - tmpfs "), || "it is no tmpfs".into())?;
    check(paths["/data"]["mode"] == "40750", || paths["/data"].to_string())?;
    check(paths["/data"]["writable"] == true, || "it cannot be written".into())?;
    check(paths["/data/sub"]["uid"] == 12, || paths["/data/sub"].to_string())?;
    let file = &paths["/data/sub/deep/file"];
    check(file["text"] == "of the image" && file["mode"] == "104640", || file.to_string())?;
    check(paths["/data/long"]["link"] == "x".repeat(1000), || "a long link is not what it was".into())?;
    let large = paths["/data/large"]["text"].as_str().map(str::len);
    check(large == Some(3 << 20), || format!("{large:?}"))?;
    check(paths["/data"]["entries"] == 4, || "not everything is there".into())?;
    check(!dir.join(".probe").exists(), || "the image was written".into())
}

fn copy_up_for_user(bench: &Bench) -> Outcome {
    let dir = of_image(bench)?;
    for path in [dir.as_path(), &dir.join("sub"), &dir.join("sub/deep"), &dir.join("sub/deep/file")] {
        chown(path, Some(100_005), Some(100_005))?;
    }
    fs::set_permissions(dir.join("sub/deep/file"), fs::Permissions::from_mode(0o644))?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    let mut spec = bench.spec(&["look", "/data", "/data/sub/deep/file", "/data/large"]);
    with_user_namespace(bench, &mut spec)?;
    push(&mut spec, "/mounts", json!({"destination": "/data", "type": "tmpfs", "options": ["tmpcopyup"]}));
    let seen = answer(bench, &spec)?;
    check(seen["paths"]["/data"]["uid"] == 5, || seen["paths"]["/data"].to_string())?;
    check(seen["paths"]["/data/sub/deep/file"]["uid"] == 5, || seen["paths"].to_string())?;
    // Its owner has no name in there.
    check(seen["paths"]["/data/large"]["uid"] == 65_534, || seen["paths"]["/data/large"]["uid"].to_string())
}

fn tmpfs_mode(bench: &Bench) -> Outcome {
    fs::create_dir(bench.root().join("there"))?;
    fs::set_permissions(bench.root().join("there"), fs::Permissions::from_mode(0o711))?;
    let mut spec = bench.spec(&["look", "/there", "/new", "/said"]);
    fs::create_dir(bench.root().join("said"))?;
    for (target, options) in [("/there", json!([])), ("/new", json!([])), ("/said", json!(["mode=700"]))] {
        push(&mut spec, "/mounts", json!({"destination": target, "type": "tmpfs", "options": options}));
    }
    let seen = answer(bench, &spec)?;
    let modes = ["/there", "/new", "/said"].map(|path| seen["paths"][path]["mode"].clone());
    check(modes == ["40711", "41777", "40700"], || format!("{modes:?}"))
}

fn recursive(bench: &Bench) -> Outcome {
    let volume = bench.dir.path().join("volume");
    let _below = Mounted::tmpfs(volume.join("sub"))?;
    let mut spec = bench.spec(&["look", "/v", "/v/sub", "/w/sub"]);
    let options = ["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnodiratime", "rnosymfollow"];
    push(&mut spec, "/mounts", json!({"destination": "/v", "source": volume, "options": options}));
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/w", "source": volume, "options": ["rbind", "ro", "rstrictatime"]}),
    );
    let seen = answer(bench, &spec)?;
    for target in ["/v", "/v/sub"] {
        let line = line(&seen, target);
        let given = line.split(' ').nth(5).unwrap_or_default();
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"] {
            check(given.split(',').any(|o| o == option), || {
                format!("{option} is not among {given:?} of {target}")
            })?;
        }
        check(seen["paths"][target]["writable"] == false, || format!("{target} is writable"))?;
    }
    // The plain option is for the mount alone, and no access-time mode among the flags is strictatime.
    check(seen["paths"]["/w/sub"]["writable"] == true, || "ro went below".into())?;
    check(!line(&seen, "/w/sub").contains("relatime"), || line(&seen, "/w/sub").into())
}

fn superblock(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["look"]);
    let options = ["sync", "dirsync", "lazytime", "silent", "iversion", "nomand", "async", "size=64k"];
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": options}),
    );
    let seen = answer(bench, &spec)?;
    let line = line(&seen, "/m");
    let given: Vec<&str> = line.rsplit(' ').next().unwrap_or_default().split(',').collect();
    check(["dirsync", "lazytime", "size=64k"].iter().all(|o| given.contains(o)), || line.into())?;
    check(!given.contains(&"sync"), || format!("async came last: {line}"))
}

fn no_symlinks(bench: &Bench) -> Outcome {
    let volume = bench.dir.path().join("volume");
    fs::create_dir(&volume)?;
    fs::write(volume.join("file"), "text")?;
    symlink("file", volume.join("link"))?;
    let mut spec = bench.spec(&["read", "/v/file", "/v/link"]);
    push(&mut spec, "/mounts", json!({"destination": "/v", "source": "volume", "options": ["bind"]}));
    let seen = answer(bench, &spec)?;
    check(seen["/v/link"] == "text", || seen.to_string())?;
    spec["mounts"].as_array_mut().ok_or("no mounts")?.pop();
    // The source is relative to the bundle, and so is nothing else.
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "v", "source": "./volume", "options": ["bind", "nosymfollow"]}),
    );
    let seen = answer(bench, &spec)?;
    check(seen["/v/link"].is_null() && seen["/v/file"] == "text", || seen.to_string())
}

fn remount(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["look", "/dev/shm", "/m"]);
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/dev/shm", "type": "tmpfs", "options": ["remount", "bind", "ro"], "source": "x"}),
    );
    push(&mut spec, "/mounts", json!({"destination": "/m", "type": "tmpfs", "options": ["size=64k"]}));
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/m", "type": "tmpfs", "options": ["remount", "size=128k", "noexec"]}),
    );
    let seen = answer(bench, &spec)?;
    check(seen["paths"]["/dev/shm"]["writable"] == false, || line(&seen, "/dev/shm").into())?;
    check(seen["paths"]["/m"]["writable"] == true, || line(&seen, "/m").into())?;
    check(line(&seen, "/m").contains("size=128k") && line(&seen, "/m").contains("noexec"), || {
        line(&seen, "/m").into()
    })?;
    let mut spec = bench.spec(&["exit", "0"]);
    push(&mut spec, "/mounts", json!({"destination": "/nothing", "options": ["remount", "ro"]}));
    refused(bench, &spec, &["cannot remount", "/nothing", "nothing is mounted there"])
}

fn volume(bench: &Bench) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let volume = bench.dir.path().join("volume");
    fs::create_dir(&volume)?;
    for (name, id) in [("zero", 0), ("five", 5)] {
        fs::write(volume.join(name), "")?;
        chown(volume.join(name), Some(id), Some(id))?;
    }
    Ok(volume)
}

fn idmap(bench: &Bench) -> Outcome {
    let volume = volume(bench)?;
    let mut spec = bench.spec(&["look", "/v/zero", "/v/five"]);
    let mappings =
        json!([{"containerID": 0, "hostID": 1234, "size": 1}, {"containerID": 5, "hostID": 77, "size": 1}]);
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/v", "source": volume, "options": ["bind"],
        "uidMappings": mappings, "gidMappings": mappings}),
    );
    let seen = answer(bench, &spec)?;
    let ids = ["/v/zero", "/v/five"].map(|path| seen["paths"][path]["uid"].clone());
    check(ids == [1234, 77], || format!("{ids:?}"))?;
    check(line(&seen, "/v").contains("idmapped"), || line(&seen, "/v").into())
}

fn idmap_as_container(bench: &Bench) -> Outcome {
    let volume = volume(bench)?;
    let mut spec = bench.spec(&["look", "/plain/five", "/option/five", "/same/five"]);
    with_user_namespace(bench, &mut spec)?;
    for target in ["plain", "option", "same"] {
        fs::create_dir(bench.root().join(target))?;
    }
    let mappings = spec["linux"]["uidMappings"].clone();
    push(&mut spec, "/mounts", json!({"destination": "/plain", "source": volume, "options": ["bind"]}));
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/option", "source": volume, "options": ["bind", "idmap"]}),
    );
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/same", "source": volume, "options": ["bind"],
        "uidMappings": mappings, "gidMappings": mappings}),
    );
    let seen = answer(bench, &spec)?;
    let ids = ["/plain/five", "/option/five", "/same/five"].map(|path| seen["paths"][path]["uid"].clone());
    check(ids == [65_534, 5, 5], || format!("{ids:?}"))
}

fn recursive_idmap(bench: &Bench) -> Outcome {
    let volume = volume(bench)?;
    let below = Mounted::tmpfs(volume.join("sub"))?;
    fs::write(below.0.join("file"), "")?;
    let mut spec = bench.spec(&["look", "/top/sub/file", "/all/sub/file", "/top/zero"]);
    with_user_namespace(bench, &mut spec)?;
    for target in ["top", "all"] {
        fs::create_dir(bench.root().join(target))?;
    }
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/top", "source": volume, "options": ["rbind", "idmap"]}),
    );
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/all", "source": volume, "options": ["rbind", "ridmap"]}),
    );
    let seen = answer(bench, &spec)?;
    let paths = ["/top/zero", "/top/sub/file", "/all/sub/file"];
    let ids = paths.map(|path| seen["paths"][path]["uid"].clone());
    check(ids == [0, 65_534, 0], || format!("{ids:?}"))
}

fn unmappable(bench: &Bench) -> Outcome {
    let mappings = json!([{"containerID": 0, "hostID": 1234, "size": 1}]);
    let mut spec = bench.spec(&["exit", "0"]);
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/m", "type": "tmpfs", "uidMappings": mappings, "gidMappings": mappings}),
    );
    refused(bench, &spec, &["mounts[/m].uidMappings", "bind mounts alone"])?;
    let mut spec = bench.spec(&["exit", "0"]);
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/p", "source": "/proc", "options": ["bind"],
        "uidMappings": mappings, "gidMappings": mappings}),
    );
    refused(bench, &spec, &["cannot map the ids of /proc on /p", "its filesystem must be one that allows it"])
}

fn no_effect(bench: &Bench) -> Outcome {
    fs::create_dir(bench.dir.path().join("volume"))?;
    let mut spec = bench.spec(&["exit", "0"]);
    push(
        &mut spec,
        "/mounts",
        json!({"destination": "/v", "source": "volume", "options": ["bind", "mode=755"]}),
    );
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        spec["linux"]["mountLabel"] = "system_u:object_r:svirt_sandbox_file_t:s0".into();
    }
    let done = bench.run(&spec)?;
    let told = |word: &str| done.warnings.iter().any(|w| w.contains(word));
    check(told("mounts[/v].options: \"mode=755\" has no effect"), || format!("{:?}", done.warnings))?;
    check(told("linux.mountLabel") || Path::new("/sys/fs/selinux/enforce").exists(), || {
        format!("{:?}", done.warnings)
    })
}
