//! A shim that is killed, and a creator that is.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shim::client::Client;
use shim::protocol::SandboxRequest;

use crate::{Pod, gone, plain, rig, wait_until};

#[test]
fn a_creator_that_dies_leaves_a_pod_that_can_be_found() {
    let mut pod = Pod::new(plain());
    pod.run("a", "sleep 3; exit 6");
    pod.client = Client::over(std::os::unix::net::UnixStream::pair().unwrap().0.into());
    std::thread::sleep(Duration::from_millis(50));
    pod.client = pod.connect();
    assert!(pod.client.state("a", "").unwrap().running);
    assert_eq!(pod.client.wait("a", "").unwrap().code, 6);
    std::thread::sleep(Duration::from_millis(50));
    assert!(!gone(pod.shim.pid), "a pod's shim ends when it is told to");
    pod.end();
}

#[test]
fn a_creator_that_dies_before_there_is_a_pod_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (shim, client) = rig::spawn(dir.path());
    drop(client);
    assert_eq!(shim.wait().unwrap().code(), 0);
    assert!(!dir.path().join("shim.sock").exists());
}

/// Whoever cares for the pod has its cgroup to go by: what is in there is all there is.
#[test]
fn a_shim_killed_at_any_moment_leaves_only_what_its_cgroup_holds() {
    for round in 0..24_u64 {
        let share_pid = round % 2 == 0;
        let mut pod = Pod::new(SandboxRequest { share_pid, ..plain() });
        let init = pod.reply.pid;
        let requests: Vec<_> =
            ["a", "b", "c"].map(|id| pod.request(id, "sleep 3600 & sleep 3600 & wait", |_| {})).into();
        let pidfd = pod.shim.pidfd.try_clone().unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_micros(round * 700));
            kernel::process::signal(pidfd.as_fd(), 9).unwrap();
        });
        for request in &requests {
            let made = pod.client.create(request).and_then(|_| pod.client.start(&request.id));
            if made.is_err() {
                break;
            }
        }
        killer.join().unwrap();
        let (cgroup, dir) = (pod.cgroup.clone(), pod.dir.path().to_path_buf());
        drop(pod);
        // Dropping the pod destroyed the cgroup, or panicked.
        assert!(!kernel::cgroup::Cgroup::at(&cgroup).unwrap().exists());
        wait_until("the init's end", || init == 0 || gone(init));
        wait_until("the end of all", || processes_of(&dir).is_empty());
    }
}

/// The processes that have a file below `dir` open or for a root.
fn processes_of(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(links) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let mut links = links.flatten().filter_map(|l| std::fs::read_link(l.path()).ok());
        if entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit())
            && entry.file_name().to_string_lossy() != std::process::id().to_string()
            && links.any(|link| link.starts_with(dir))
        {
            found.push(entry.path());
        }
    }
    found
}
