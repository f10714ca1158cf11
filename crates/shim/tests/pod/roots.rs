//! Roots whose ids are mapped.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use shim::protocol::{IdMapping, Rootfs, SandboxRequest, UserNamespace};

use crate::{Pod, plain};

const FIRST_ID: u32 = 300_000;

/// A layer with a shell and a few programs, all of root's.
pub(crate) fn small_root(layer: &Path) {
    if layer.join("bin").exists() {
        return;
    }
    for dir in ["bin", "usr/bin", "etc", "proc", "dev", "tmp", "sys"] {
        fs::create_dir_all(layer.join(dir)).expect(dir);
    }
    fs::set_permissions(layer, fs::Permissions::from_mode(0o755)).expect("permissions");
    let programs =
        ["sh", "cat", "id", "sleep", "hostname", "readlink", "stat", "chown", "touch", "mkdir", "rm", "ls"];
    if Path::new("/bin/busybox").exists() {
        fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox");
        for name in programs {
            std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).expect(name);
        }
        return;
    }
    for name in programs {
        let from = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(name));
        let from = from.iter().find(|path| path.exists()).expect(name);
        fs::copy(from, layer.join("bin").join(name)).expect(name);
        let listed = Command::new("ldd").arg(from).output().expect("ldd");
        for word in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|w| w.starts_with('/'))
        {
            let to = layer.join(word.trim_start_matches('/'));
            fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
            fs::copy(word, to).expect(word);
        }
    }
}

#[test]
fn layers_and_changes_are_mapped() {
    let map = vec![IdMapping { container_id: 0, host_id: FIRST_ID, size: 65_536 }];
    let user = UserNamespace { uid_mappings: map.clone(), gid_mappings: map.clone() };
    let mut pod = Pod::new(SandboxRequest { user: Some(user), network: true, ..plain() });
    let (first, second) = (pod.dir.path().join("first"), pod.dir.path().join("second"));
    small_root(&first);
    fs::create_dir_all(second.join("etc")).unwrap();
    fs::write(second.join("etc/owned"), "of 1000").unwrap();
    fs::write(second.join("etc/gone"), "").unwrap();
    fs::create_dir_all(second.join("opaque")).unwrap();
    fs::write(second.join("opaque/gone"), "").unwrap();
    chown(second.join("etc/owned"), Some(1000), Some(1001)).unwrap();
    let mut request = pod.request("a", "stat -c '%u %g' /bin/sh /etc/owned; touch /etc/new; chown 5:6 /etc/owned /etc/new; rm /etc/gone; mkdir /etc/dir; rm -r /opaque; mkdir /opaque; read p < /proc/self/uid_map; echo $p; exec sleep 3600", |c| {
        let caps = json!(["CAP_CHOWN"]);
        c["process"]["capabilities"] = json!({"bounding": caps, "permitted": caps, "effective": caps});
    });
    let text = |path: &Path| path.display().to_string();
    request.rootfs = Some(Rootfs {
        lower: vec![text(&second), text(&first)],
        upper: text(&pod.path("a", "upper")),
        work: text(&pod.path("a", "work")),
        uid_mappings: map.clone(),
        gid_mappings: map,
        ..Rootfs::default()
    });
    let pid = pod.client.create(&request).expect("a container").pid;
    pod.client.start("a").expect("started");
    pod.wait_for_log("a", &FIRST_ID.to_string());
    let log = pod.log("a");
    assert_eq!(log, ["stdout F 0 0", "stdout F 1000 1001", &format!("stdout F 0 {FIRST_ID} 65536")]);
    // On disk its root is the machine's, so that the same layers and the same changes serve any mapping.
    let of = |path: &Path| fs::metadata(path).map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!(of(&pod.path("a", "upper/etc/new")), (5, 6));
    assert_eq!(of(&pod.path("a", "upper/etc/owned")), (5, 6));
    assert_eq!(of(&second.join("etc/owned")), (1000, 1001));
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), FIRST_ID);
    let (out, code) = pod.exec("a", "ls /opaque; ls /etc");
    assert_eq!((out.as_str(), code), ("dir\nnew\nowned\n", 0));
    // Nothing of it is in the host's mount table, nor did the shim stay anywhere else.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&text(pod.dir.path())), "{mounts}");
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(namespace(pod.shim.pid), namespace(std::process::id() as i32));
    pod.end();
}

#[test]
fn a_work_directory_elsewhere_is_named() {
    let mut pod = Pod::new(plain());
    let mut request = pod.request("a", "true", |_| {});
    let map = vec![IdMapping { container_id: 0, host_id: FIRST_ID, size: 65_536 }];
    if let Some(rootfs) = &mut request.rootfs {
        rootfs.lower = vec![pod.dir.path().display().to_string()];
        rootfs.work = "/elsewhere/work".into();
        (rootfs.uid_mappings, rootfs.gid_mappings) = (map.clone(), map);
    }
    let error = pod.client.create(&request).unwrap_err();
    assert!(error.to_string().contains("/elsewhere/work must be beside"), "{error}");
    request.rootfs = Some(Rootfs::default());
    let error = pod.client.create(&request).unwrap_err();
    assert!(error.to_string().contains("rootfs has neither"), "{error}");
    // What failed can be made anew.
    let request = pod.request("a", "exit 3", |c| c["annotations"] = json!({"a": "b"}));
    pod.client.create(&request).unwrap();
    pod.client.start("a").unwrap();
    assert_eq!(pod.client.wait("a", "").unwrap().code, 3);
    pod.end();
}
