//! What is beside a node and not its own: other people's volumes, and another node.

use std::fs::{self, File};
use std::path::Path;

use cri::contract::v1::*;
use kernel::loopdev;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::Test;
use crate::bench::Bench;
use crate::kills::{Kubelet, Site};
use crate::wishes::{container, pod};

pub(crate) const TESTS: &[Test] = &[
    ("a_volume_that_no_pod_uses_is_free_once_it_is_unmounted", volume),
    ("two_nodes_side_by_side_do_not_touch_each_other", two_nodes),
];

/// So many pods are up, half of them from before the volume was mounted.
const PODS: usize = 50;
const AT_A_TIME: usize = 4;

fn volume(b: &Bench) {
    let mut pods = up(b, 0..PODS / 2);
    let (tag, point) = (format!("sextant-{}", std::process::id()), b.path("volume"));
    mount_volume(b, &tag, &point);
    pods.extend(up(b, PODS / 2..PODS));
    assert_eq!(loopdev::find(&tag).unwrap().len(), 1);
    unmount(&point, UnmountFlags::empty()).unwrap();
    b.until("its device is free while the pods are up", || loopdev::find(&tag).unwrap().is_empty());
    pods.iter().for_each(|pod| b.remove_pod(pod));
    // One that was used, once its pod is gone.
    mount_volume(b, &tag, &point);
    let user = b.host_pod("user");
    let mut config = container("c", &["probe", "sleep"]);
    config.mounts = vec![Mount {
        container_path: "/volume".into(),
        host_path: point.display().to_string(),
        readonly: true,
        ..Mount::default()
    }];
    let id = b.run_as(&user, config);
    assert_eq!(b.look(&id, &["/volume"])["paths"]["/volume"]["mode"], "755");
    unmount(&point, UnmountFlags::empty()).unwrap();
    assert_eq!(loopdev::find(&tag).unwrap().len(), 1, "the container has it still");
    b.remove_pod(&user);
    b.until("its device is free when the pod is gone", || loopdev::find(&tag).unwrap().is_empty());
    fs::remove_dir(&point).unwrap();
}

/// Pods with a container that runs.
fn up(b: &Bench, numbers: std::ops::Range<usize>) -> Vec<String> {
    let site = &Site::of(b);
    let some = |first: usize| {
        let kubelet = Kubelet::new(site);
        let one = |number| {
            let pod = kubelet.run_pod(pod(&format!("crowd-{number}")));
            kubelet.run(&pod, container("c", &["probe", "sleep"]));
            pod
        };
        (first..numbers.end).step_by(AT_A_TIME).map(one).collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let firsts = numbers.start..numbers.start + AT_A_TIME;
        let threads: Vec<_> = firsts.map(|first| scope.spawn(move || some(first))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Mounts a filesystem on a loop device that detaches itself when nobody has it any more.
fn mount_volume(b: &Bench, tag: &str, point: &Path) {
    let file = b.path("volume.ext2");
    fs::write(&file, empty_ext2()).unwrap();
    let options = loopdev::Options { read_only: true, autoclear: true, direct_io: false };
    let (device, _held) = loopdev::attach(&File::open(&file).unwrap(), tag, options).unwrap();
    fs::create_dir_all(point).unwrap();
    mount(&device, point, "ext4", MountFlags::RDONLY, None).unwrap();
}

/// An ext2 of 64 blocks of 1 KiB with 16 inodes and an empty root, as `mkfs` makes it.
fn empty_ext2() -> Vec<u8> {
    let mut image = vec![0; 64 << 10];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    let mut numbers = |at: usize, values: &[u32]| {
        values.iter().enumerate().for_each(|(n, value)| put(at + 4 * n, &value.to_le_bytes()));
    };
    // Superblock: inodes, blocks, reserved, free blocks, free inodes, first block, sizes, blocks and inodes a group.
    numbers(1024, &[16, 64, 0, 56, 5, 1, 0, 0, 8192, 8192, 16]);
    // Magic number and "clean"; "go on" at errors.
    numbers(1024 + 56, &[0x0001_ef53, 1]);
    // The group: its bitmaps, inode table, free blocks and inodes, one directory.
    numbers(2048, &[3, 4, 5, 5 << 16 | 56, 1]);
    // Of blocks 1 to 63 seven are taken, of the inodes eleven; what is not there is taken.
    numbers(3 << 10, &[0x7f, 1 << 31]);
    (2..256).for_each(|word| numbers((3 << 10) + 4 * word, &[u32::MAX]));
    numbers(4 << 10, &[0xffff_07ff]);
    (1..256).for_each(|word| numbers((4 << 10) + 4 * word, &[u32::MAX]));
    // The root: mode, size, two links, two sectors, its block; its entries.
    let root = (5 << 10) + 128;
    numbers(root, &[0o040_755, 1024]);
    numbers(root + 24, &[2 << 16, 2]);
    numbers(root + 40, &[7]);
    numbers(7 << 10, &[2, 1 << 16 | 12, u32::from(b'.')]);
    numbers((7 << 10) + 12, &[2, 2 << 16 | 1012, u32::from(b'.') << 8 | u32::from(b'.')]);
    image
}

fn two_nodes(b: &Bench) {
    let other = Bench::new();
    let nodes = [b, &other];
    // The same names on both, and each node's pods reach each other.
    let pods = nodes.map(|node| ["one", "two"].map(|name| node.pod(name)));
    for (node, [one, two]) in nodes.iter().zip(&pods) {
        node.run(one, "web", &["probe", "serve", "80", "web"]);
        node.run(two, "c", &["probe", "count"]);
        node.until_logged("one", "web", "serving");
        let ids: Vec<String> = node.pods().into_iter().map(|pod| pod.id).collect();
        assert_eq!(ids, [two.clone(), one.clone()]);
        assert_eq!(node.containers().len(), 2);
    }
    let reach = |node: &Bench, [one, two]: &[String; 2]| {
        let of_two = ContainerFilter { pod_sandbox_id: two.clone(), ..ContainerFilter::default() };
        let request = ListContainersRequest { filter: Some(of_two) };
        let c = node.ok(async |c| c.list_containers(request).await).containers[0].id.clone();
        let address = node.pod_status(one).network.unwrap().ip;
        let said = node.exec(&c, &["probe", "ask", &format!("{address}:80")]);
        assert!(said.stdout.starts_with(b"web "), "{said:?}");
    };
    nodes.iter().zip(&pods).for_each(|(node, pods)| reach(node, pods));
    // What one does (ends, recovers, removes everything) is nothing to the other.
    for (node, beside, at) in [(b, &other, 1), (&other, b, 0)] {
        node.kill();
        reach(beside, &pods[at]);
        node.start();
        reach(node, &pods[1 - at]);
    }
    pods[0].iter().for_each(|pod| b.remove_pod(pod));
    b.command(&["prune", "--force"]).output().unwrap();
    reach(&other, &pods[1]);
    pods[1].iter().for_each(|pod| other.remove_pod(pod));
    assert_eq!(other.left(), "");
    other.end().unwrap();
}
