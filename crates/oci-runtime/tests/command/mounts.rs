//! What is mounted, where, and with which attributes, as callers of the usual runtimes expect it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("a_mount_goes_where_a_link_that_points_at_nothing_leads", dangling),
    ("a_tmpfs_tells_the_mode_it_took_over", tmpfs_mode),
    ("a_bind_mount_has_the_attributes_asked_for_and_no_others", attributes),
    ("a_user_namespace_takes_no_protection_from_a_mount_of_the_hosts", protection),
    ("what_is_masked_twice_is_one_mount", masked),
    ("a_bind_mount_of_what_is_inside_sees_what_was_mounted_before", inside),
    ("a_root_can_be_the_slave_of_the_hosts", slave),
    ("a_shared_volume_is_shared_with_the_host", shared),
    ("v1_shows_the_containers_own_cgroups_without_a_namespace", own_cgroups),
];

fn push(spec: &mut Value, mount: Value) {
    spec["mounts"].as_array_mut().expect("mounts").push(mount);
}

/// What the container prints.
fn printed(bench: &Bench, spec: &Value) -> Result<String, Box<dyn std::error::Error>> {
    bench.configure(spec);
    Ok(bench.run(&["run", &bench.id]).ok()?.out)
}

/// The options of the mount at a place, of a table of /proc/self/mounts.
fn options<'t>(table: &'t str, place: &str) -> Vec<&'t str> {
    let line = table.lines().find(|line| line.split(' ').nth(1) == Some(place)).unwrap_or_default();
    line.split(' ').nth(3).unwrap_or_default().split(',').collect()
}

fn dangling(bench: &Bench) -> Outcome {
    let root = bench.bundle().join("rootfs");
    symlink("/sextant-nowhere/bar", root.join("jump"))?;
    symlink("/jump/baz/hosts", root.join("etc/hosts"))?;
    let source = bench.path("hosts");
    fs::write(&source, "of the volume\n")?;
    let mut spec = bench.spec(&["/bin/cat", "/sextant-nowhere/bar/baz/hosts", "/etc/hosts"]);
    push(&mut spec, json!({"destination": "/etc/hosts", "source": source, "options": ["bind"]}));
    check(printed(bench, &spec)? == "of the volume\n".repeat(2), || "it is elsewhere".into())?;
    check(!Path::new("/sextant-nowhere").exists(), || "it was made on the host".into())?;
    // A directory, at the end of a link that points at nothing.
    symlink("../deep/er", root.join("tmp/link"))?;
    let mut spec = bench.spec(&["/bin/cat", "/proc/self/mounts"]);
    push(&mut spec, json!({"destination": "/tmp/link", "type": "tmpfs", "source": "tmpfs"}));
    let table = printed(bench, &spec)?;
    check(options(&table, "/deep/er").contains(&"rw"), || table)
}

fn tmpfs_mode(bench: &Bench) -> Outcome {
    let place = bench.bundle().join("rootfs/place");
    fs::create_dir(&place)?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o710))?;
    for (given, mode) in [(json!(["nodev"]), "mode=710"), (json!(["mode=1500"]), "mode=1500")] {
        let mut spec = bench.spec(&["/bin/cat", "/proc/self/mounts"]);
        push(
            &mut spec,
            json!({"destination": "/place", "type": "tmpfs", "source": "tmpfs", "options": given}),
        );
        let table = printed(bench, &spec)?;
        check(options(&table, "/place").contains(&mode), || table)?;
    }
    Ok(())
}

/// A mount of the host with few rights, as long as this lives.
struct Narrow(std::path::PathBuf);

impl Narrow {
    fn new(bench: &Bench) -> Result<Self, Box<dyn std::error::Error>> {
        let place = bench.path("narrow");
        fs::create_dir(&place)?;
        let tree = kernel::mount::clone_tree(
            rustix::fs::CWD,
            &kernel::process::cstring(place.as_os_str().as_encoded_bytes())?,
            false,
        )?;
        use kernel::mount::Attributes;
        let set = Attributes::NOSUID | Attributes::NODEV | Attributes::NOEXEC;
        let private = u64::from(rustix::mount::MountPropagationFlags::PRIVATE.bits());
        kernel::mount::set_attributes(
            &tree,
            Attributes { set, propagation: private, clear: 0 },
            false,
            None,
        )?;
        kernel::mount::attach(&tree, fs::File::open(&place)?)?;
        Ok(Self(place))
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        // Nothing keeps it busy: containers have left it behind.
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

fn attributes(bench: &Bench) -> Outcome {
    let narrow = Narrow::new(bench)?;
    for (given, there, gone) in [
        (json!(["bind"]), &["nosuid", "nodev", "noexec"][..], &["ro"][..]),
        (json!(["bind", "ro"]), &["ro"], &["nosuid", "nodev", "noexec"]),
        (json!(["rbind", "exec", "nodev"]), &["rw", "nodev"], &["nosuid", "noexec"]),
    ] {
        let mut spec = bench.spec(&["/bin/cat", "/proc/self/mounts"]);
        push(&mut spec, json!({"destination": "/v", "source": narrow.0, "options": given}));
        let table = printed(bench, &spec)?;
        let found = options(&table, "/v");
        check(there.iter().all(|o| found.contains(o)) && !gone.iter().any(|o| found.contains(o)), || {
            format!("{given}: {found:?}")
        })?;
    }
    // What takes an access-time option back leaves the source's.
    for (given, there) in [("noatime", "noatime"), ("norelatime", "relatime"), ("nodiratime", "nodiratime")] {
        let mut spec = bench.spec(&["/bin/cat", "/proc/self/mounts"]);
        push(&mut spec, json!({"destination": "/v", "source": narrow.0, "options": ["bind", given]}));
        let table = printed(bench, &spec)?;
        check(options(&table, "/v").contains(&there), || format!("{given}: {table}"))?;
    }
    Ok(())
}

fn protection(bench: &Bench) -> Outcome {
    let narrow = Narrow::new(bench)?;
    let in_namespace = |given: &Value| {
        let mut spec = bench.spec(&["/bin/cat", "/proc/self/mounts"]);
        push(&mut spec, json!({"destination": "/v", "source": narrow.0, "options": given}));
        let ids = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        spec["linux"]["uidMappings"] = ids.clone();
        spec["linux"]["gidMappings"] = ids;
        push_namespace(&mut spec, "user");
        bench.configure(&spec);
        bench.run(&["run", &bench.id])
    };
    // What nobody asked for stays; taking back what is not there is no loss, nor is an access-time mode it has.
    for given in [json!(["bind", "ro"]), json!(["bind", "rw"]), json!(["bind", "atime", "relatime"])] {
        let table = in_namespace(&given).ok()?.out;
        let found = options(&table, "/v");
        check(["nosuid", "nodev", "noexec"].iter().all(|o| found.contains(o)), || {
            format!("{given}: {found:?}")
        })?;
    }
    for given in [json!(["bind", "dev"]), json!(["bind", "exec", "ro"]), json!(["bind", "strictatime"])] {
        let done = in_namespace(&given);
        let said = "cannot set the attributes of";
        check(done.code == 1 && done.err.contains(said) && done.err.contains("not permitted"), || {
            format!("{given}: {} {}", done.code, done.err)
        })?;
    }
    Ok(())
}

fn push_namespace(spec: &mut Value, kind: &str) {
    spec["linux"]["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": kind}));
}

fn masked(bench: &Bench) -> Outcome {
    for name in ["dir", "file"] {
        let place = bench.bundle().join("rootfs").join(name);
        if name == "dir" { fs::create_dir(place)? } else { fs::write(place, "secret")? }
    }
    let mut spec = bench.spec(&["/bin/cat", "/proc/self/mounts"]);
    spec["linux"]["maskedPaths"] = json!(["/dir", "/file", "/dir/", "//file", "/dir", "/./file"]);
    let table = printed(bench, &spec)?;
    for place in ["/dir", "/file"] {
        let count = table.lines().filter(|line| line.split(' ').nth(1) == Some(place)).count();
        check(count == 1, || format!("{count} mounts on {place}: {table}"))?;
    }
    Ok(())
}

fn inside(bench: &Bench) -> Outcome {
    let volume = bench.path("volume");
    fs::create_dir_all(volume.join("sub"))?;
    fs::write(volume.join("sub/file"), "of the volume\n")?;
    let root = bench.bundle().join("rootfs");
    let mut spec = bench.spec(&["/bin/cat", "/final/sub/file", "/one"]);
    push(&mut spec, json!({"destination": "/mnt", "source": volume, "options": ["bind"]}));
    // Both as the host names them, and neither is there before the container is made.
    push(
        &mut spec,
        json!({"destination": root.join("final"), "source": root.join("mnt"), "options": ["rbind", "ro"]}),
    );
    push(&mut spec, json!({"destination": "/one", "source": root.join("mnt/sub/file"), "options": ["bind"]}));
    check(printed(bench, &spec)? == "of the volume\n".repeat(2), || "it is something else".into())?;
    // With ids that are mapped, which the host does for a container with a user namespace.
    let root_inside = root.join("mnt");
    for own_user in [false, true] {
        let mut spec = bench.spec(&["/bin/sh", "-c", "busybox stat -c %u /final/sub/file"]);
        let ids = json!([{"containerID": 0, "hostID": 1000, "size": 1000}]);
        push(&mut spec, json!({"destination": "/mnt", "source": volume, "options": ["bind"]}));
        push(
            &mut spec,
            json!({"destination": "/final", "source": root_inside, "options": ["bind"],
                "uidMappings": ids, "gidMappings": ids}),
        );
        if own_user {
            spec["linux"]["uidMappings"] = ids.clone();
            spec["linux"]["gidMappings"] = ids;
            let namespaces = spec["linux"]["namespaces"].as_array_mut().ok_or("no namespaces")?;
            namespaces.push(json!({"type": "user"}));
        }
        let owner = printed(bench, &spec)?;
        check(owner.trim() == if own_user { "0" } else { "1000" }, || format!("{own_user}: {owner}"))?;
    }
    // A link in the root does not lead a source out of it.
    symlink("/etc", root.join("way-out"))?;
    let mut spec = bench.spec(&["/bin/true"]);
    push(&mut spec, json!({"destination": "/x", "source": root.join("way-out/shadow"), "options": ["bind"]}));
    bench.configure(&spec);
    let done = bench.run(&["run", &bench.id]);
    check(done.code == 1 && done.err.contains("way-out/shadow"), || done.err)
}

/// Runs a script in a mount namespace of its own, where everything is shared.
fn in_shared_namespace(bench: &Bench, script: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-euc"]);
    command.arg(format!("mount --make-rshared /\n{script}")).current_dir(bench.bundle());
    command.env("OCI", bench.path("sextant-oci")).env("ROOT", bench.root()).env("ID", &bench.id);
    Ok(bench.run_command(&mut command).ok()?.out)
}

fn slave(bench: &Bench) -> Outcome {
    for (propagation, word) in [("slave", "master:"), ("rslave", "master:"), ("shared", "shared:")] {
        let mut spec = bench.spec(&["/bin/cat", "/proc/self/mountinfo"]);
        spec["linux"]["rootfsPropagation"] = propagation.into();
        bench.configure(&spec);
        let table = in_shared_namespace(bench, "\"$OCI\" --root \"$ROOT\" run \"$ID\"")?;
        let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
        check(root.contains(word), || format!("{propagation}: {root}"))?;
    }
    Ok(())
}

fn shared(bench: &Bench) -> Outcome {
    let volume = bench.path("volume");
    fs::create_dir(&volume)?;
    fs::create_dir(volume.join("inner"))?;
    for (propagation, volumes, reaches) in
        [("rshared", "rshared", true), ("rslave", "rslave", false), ("rprivate", "rprivate", false)]
    {
        let mut spec = bench.spec(&["/bin/busybox", "mount", "-t", "tmpfs", "sextant-mark", "/v/inner"]);
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set] = json!(["CAP_SYS_ADMIN"]);
        }
        spec["linux"]["rootfsPropagation"] = propagation.into();
        push(&mut spec, json!({"destination": "/v", "source": volume, "options": ["rbind", volumes]}));
        bench.configure(&spec);
        let script = "\"$OCI\" --root \"$ROOT\" run \"$ID\"; cat /proc/self/mountinfo";
        let table = in_shared_namespace(bench, script)?;
        check(table.contains("sextant-mark") == reaches, || format!("{propagation}: {table}"))?;
    }
    Ok(())
}

fn own_cgroups(bench: &Bench) -> Outcome {
    if matches!(kernel::cgroup::layout()?, kernel::cgroup::Layout::Unified) {
        // With v2 whoever wants that has a cgroup namespace.
        return Ok(());
    }
    let mut spec = bench.spec(&["/bin/cat", "/sys/fs/cgroup/pids/cgroup.procs"]);
    push(&mut spec, json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}));
    push(
        &mut spec,
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}),
    );
    let own = printed(bench, &spec)?;
    check(own == "1\n", || format!("other processes than its own are seen: {own}"))
}
