//! Links that an image has where the runtime makes, mounts, hides or writes something.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::{Outcome, Test, check, picture, probing, push, with_volume};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2019_19921_proc_is_not_mounted_behind_a_link_into_a_volume", linked_proc),
    ("cve_2023_27561_neither_proc_nor_sys_are_mounted_behind_links", linked),
    ("cve_2023_28642_neither_proc_nor_sys_are_mounted_below_links", below_links),
    ("cve_2018_15664_every_path_of_the_configuration_stays_inside", everything),
    ("cve_2019_18837_devices_are_not_made_behind_a_link", linked_dev),
    ("cve_2025_24965_what_is_written_into_a_root_stays_there", written),
];

/// A directory of the host with a file of each kind that somebody could be after.
pub(crate) fn treasure(bench: &Bench) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let dir = bench.path("treasure");
    fs::create_dir(&dir)?;
    fs::write(dir.join("file"), "of the host\n")?;
    fs::write(dir.join("passwd"), "root:x:0:0::/of-the-host:/bin/sh\n")?;
    fs::create_dir(dir.join("dir"))?;
    Ok(dir)
}

/// The names a link leads out by: absolute, and by more steps up than there can be.
pub(crate) fn ways_out(to: &std::path::Path) -> [String; 2] {
    let path = to.display().to_string();
    [path.clone(), format!("{}{path}", "../".repeat(40).trim_end_matches('/'))]
}

fn refused(bench: &Bench, spec: &Value, words: &[&str]) -> Outcome {
    bench.configure(spec);
    let done = bench.run(&["run", &bench.id]);
    check(done.code != 0 && words.iter().all(|word| done.err.contains(word)), || {
        format!("{} {} {}", done.code, done.out, done.err)
    })
}

fn linked_proc(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    let mut spec = probing(bench, &["look"]);
    let volume = with_volume(bench, &mut spec, "volume", "/v");
    // The volume is mounted first, and has what looks like a procfs.
    spec["mounts"].as_array_mut().ok_or("no mounts")?.rotate_right(1);
    fs::create_dir_all(volume.join("proc/self/attr"))?;
    fs::write(volume.join("proc/self/attr/exec"), "")?;
    fs::remove_dir(root.join("proc"))?;
    symlink("/v/proc", root.join("proc"))?;
    let before = picture(&volume);
    refused(bench, &spec, &["/proc", "symbolic link"])?;
    check(picture(&volume) == before, || format!("{:?}", picture(&volume)))
}

fn linked(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    let treasure = treasure(bench)?;
    let before = picture(&treasure);
    for name in ["proc", "sys"] {
        for to in
            ["/tmp".to_owned(), "tmp".into(), "/not-there".into()].into_iter().chain(ways_out(&treasure))
        {
            fs::remove_dir(root.join(name))?;
            symlink(&to, root.join(name))?;
            let mut spec = probing(bench, &["look"]);
            push(
                &mut spec,
                "/mounts",
                json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}),
            );
            refused(bench, &spec, &["mount point", &format!("/{name}"), "symbolic link"])?;
            fs::remove_file(root.join(name))?;
            fs::create_dir(root.join(name))?;
        }
    }
    check(picture(&treasure) == before, || format!("{:?}", picture(&treasure)))
}

fn below_links(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    symlink("/tmp", root.join("link"))?;
    fs::create_dir(root.join("tmp/there"))?;
    for (kind, name) in [("proc", "there"), ("proc", "new"), ("sysfs", "there"), ("sysfs", "new/er")] {
        let mut spec = probing(bench, &["look"]);
        push(
            &mut spec,
            "/mounts",
            json!({"destination": format!("/link/{name}"), "type": kind, "source": kind}),
        );
        refused(bench, &spec, &["mount point", "symbolic link"])?;
    }
    Ok(())
}

fn everything(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    let treasure = treasure(bench)?;
    let before = picture(&treasure);
    let host = picture(std::path::Path::new("/dev")).len();
    for (round, to) in ways_out(&treasure).iter().enumerate() {
        let link = format!("out{round}");
        symlink(to, root.join(&link))?;
        let passwd = root.join("etc/passwd");
        drop(fs::remove_file(&passwd));
        symlink(format!("{to}/passwd"), &passwd)?;
        let at = |name: &str| format!("/{link}/{name}");
        let volume = bench.path("volume");
        fs::create_dir_all(&volume)?;
        type Change = fn(&mut Value, &str, Value);
        let mount: Change = |spec, to, with| {
            let mut mount = with;
            mount["destination"] = to.into();
            push(spec, "/mounts", mount);
        };
        let changes: Vec<(&str, String, Change, Value)> = vec![
            ("a tmpfs", at("new"), mount, json!({"type": "tmpfs", "source": "tmpfs"})),
            (
                "a tmpfs on what is there",
                at("dir"),
                mount,
                json!({"type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}),
            ),
            (
                "a bind mount of a directory",
                at("a/b"),
                mount,
                json!({"source": volume, "options": ["rbind"]}),
            ),
            (
                "a bind mount of a file",
                at("bound"),
                mount,
                json!({"source": "/etc/hostname", "options": ["bind"]}),
            ),
            ("a mqueue", at("queue"), mount, json!({"type": "mqueue", "source": "mqueue"})),
            (
                "a remount",
                at("dir"),
                mount,
                json!({"type": "none", "source": "none", "options": ["remount", "bind", "ro"]}),
            ),
            ("a working directory", at("cwd"), |spec, to, _| spec["process"]["cwd"] = to.into(), Value::Null),
            (
                "a device",
                at("device"),
                |spec, to, _| {
                    spec["linux"]["devices"] =
                        json!([{"path": to, "type": "c", "major": 1, "minor": 3, "uid": 1000, "gid": 1000}]);
                },
                Value::Null,
            ),
            (
                "a masked path",
                at("file"),
                |spec, to, _| spec["linux"]["maskedPaths"] = json!([to]),
                Value::Null,
            ),
            (
                "a masked directory",
                at("dir"),
                |spec, to, _| spec["linux"]["maskedPaths"] = json!([to]),
                Value::Null,
            ),
            (
                "a read-only path",
                at("dir"),
                |spec, to, _| spec["linux"]["readonlyPaths"] = json!([to]),
                Value::Null,
            ),
            ("a program", at("file"), |spec, to, _| spec["process"]["args"][0] = to.into(), Value::Null),
        ];
        for (what, path, change, with) in changes {
            let file = format!("{to}/file");
            let mut spec = probing(bench, &["look", &at("file"), &file]);
            change(&mut spec, &path, with);
            spec["process"]["env"] = json!(["PATH=/bin", format!("BENCH={}", bench.id)]);
            bench.configure(&spec);
            let done = bench.run(&["run", &bench.id]);
            if done.code == 0 {
                let answer = done.json()?;
                check(answer["home"] == "/", || format!("{what}: home is the host's: {}", answer["home"]))?;
                check(answer["paths"][at("file")].is_null(), || format!("{what}: {}", answer["paths"]))?;
            }
            check(picture(&treasure) == before, || format!("{what} at {path}: {:?}", picture(&treasure)))?;
        }
    }
    check(picture(std::path::Path::new("/dev")).len() == host, || "/dev of the host has changed".into())
}

fn linked_dev(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    let treasure = treasure(bench)?;
    let before = picture(&treasure);
    fs::remove_dir(root.join("dev"))?;
    for to in ways_out(&treasure) {
        symlink(&to, root.join("dev"))?;
        for own_dev in [true, false] {
            let mut spec = probing(bench, &["look", "/dev/null"]);
            if !own_dev {
                spec["mounts"]
                    .as_array_mut()
                    .ok_or("none")?
                    .retain(|m| !m["destination"].as_str().is_some_and(|d| d.starts_with("/dev")));
            }
            bench.configure(&spec);
            let done = bench.run(&["run", &bench.id]);
            check(done.code != 0, || {
                format!("{to}: devices behind a link that leads nowhere: {}", done.out)
            })?;
            check(picture(&treasure) == before, || format!("{to}: {:?}", picture(&treasure)))?;
        }
        fs::remove_file(root.join("dev"))?;
    }
    // A link that stays inside is followed, and what it leads to is the container's.
    fs::create_dir(root.join("devices"))?;
    symlink("/devices", root.join("dev"))?;
    bench.configure(&probing(bench, &["look", "/devices/null"]));
    let seen = bench.run(&["run", &bench.id]).ok()?.json()?;
    check(seen["paths"]["/devices/null"]["number"] == json!([1, 3]), || seen["paths"].to_string())
}

/// Every name that the runtime makes by itself, as a link to a file of the host.
fn written(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    let treasure = treasure(bench)?;
    let before = picture(&treasure);
    let names = [
        "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd", "stdin", "stdout",
        "stderr", "pts", "shm",
    ];
    for name in names {
        for to in ways_out(&treasure.join("file")) {
            // The runtime's own from the round before.
            fs::remove_dir_all(root.join("dev"))?;
            fs::create_dir(root.join("dev"))?;
            symlink(&to, root.join("dev").join(name))?;
            for terminal in [false, true] {
                let mut spec = probing(bench, &["exit"]);
                // No tmpfs covers what the image has there.
                spec["mounts"].as_array_mut().ok_or("none")?.retain(|m| m["destination"] != "/dev");
                if name == "pts" {
                    spec["mounts"].as_array_mut().ok_or("none")?.retain(|m| m["destination"] != "/dev/pts");
                }
                spec["process"]["terminal"] = terminal.into();
                spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
                bench.configure(&spec);
                let socket = bench.path("console.sock");
                drop(fs::remove_file(&socket));
                let listener = std::os::unix::net::UnixListener::bind(&socket)?;
                let socket = socket.display().to_string();
                // Refused or not, it is the host's file that counts.
                if terminal {
                    bench.run(&["run", "-d", "--console-socket", &socket, &bench.id]);
                } else {
                    bench.run(&["run", &bench.id]);
                }
                drop(listener);
                bench.run(&["delete", "-f", &bench.id]);
                check(picture(&treasure) == before, || format!("{name}: {:?}", picture(&treasure)))?;
            }
            let link = root.join("dev").join(name);
            check(fs::symlink_metadata(&link).is_ok_and(|m| m.is_symlink()), || {
                format!("{name} was replaced")
            })?;
            fs::remove_file(link)?;
        }
    }
    Ok(())
}
