//! What an instance has on the machine: compared before and after each test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::store::Store;
use testkit::{Machine, instance_name};

/// The name of the image that the tests' containers are made from.
pub(crate) const IMAGE: &str = "docker.io/library/t:latest";

/// One program, called `probe`, and some users.
pub(crate) fn make_image(store: &Path) {
    let store = Store::open(store).unwrap();
    let part = |path: &str, content, mode| Part { path: path.to_owned(), content, mode };
    let text = |text: &str| Content::Bytes(text.into());
    let program = fs::canonicalize("/proc/self/exe").unwrap();
    let parts = [
        part("bin/probe", Content::File(program), 0o755),
        part("etc/passwd", text("root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n"), 0o644),
        part("etc/group", text("root:x:0:\nweb:x:34:\nlog:x:40:web\n"), 0o644),
        part("tmp", Content::Directory, 0o1777),
    ];
    let cmd = Some(["probe", "say", "by default"].map(str::to_owned).to_vec());
    let config = ContainerConfig { env: vec!["PATH=/bin".into()], cmd, ..ContainerConfig::default() };
    build(&store, IMAGE, &parts, config, Compression::None).unwrap();
}

/// Everything that pods and containers of the instance below `dir` have. Of what others may have on this machine, too,
/// only what is below that directory.
pub(crate) fn snapshot(dir: &Path) -> BTreeSet<String> {
    let machine = Machine::new()
        .cgroups_named(instance_name(&dir.join("run")))
        .files_under(dir.join("run"))
        .files_under(dir.join("data/cri"))
        .files_under(dir.join("data/ledger"));
    let mut items = machine.snapshot().unwrap().items_of(dir.to_str().unwrap());
    // What an instance makes once: the mark that this boot was looked through, a folder, and the note of what was told
    // to the last listener.
    items.retain(|item| ![".boot", "run/containers", "run/cri-seen"].iter().any(|end| item.ends_with(end)));
    items.extend(shims(dir).into_iter().map(|pid| format!("shim {pid}")));
    items
}

/// The shims of the instance: what they complain goes to a file of its pod.
pub(crate) fn shims(dir: &Path) -> Vec<i32> {
    let pods = dir.join("data/cri/pods");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_shim = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let errors = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap_or_default();
        words.starts_with(b"sextant-shim") && errors.starts_with(&pods)
    };
    pids.filter(is_shim).collect()
}

/// The shim of a pod.
pub(crate) fn shims_of(dir: &Path, pod: &str) -> Vec<i32> {
    let errors = dir.join("data/cri/pods").join(pod).join("shim.err");
    let is_its = |pid: &i32| fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|path| path == errors);
    shims(dir).into_iter().filter(is_its).collect()
}

/// The cgroup `path` and those below it, in every hierarchy; the deepest first.
pub(crate) fn cgroups(path: &Path) -> Vec<PathBuf> {
    fn below(dir: PathBuf, all: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).for_each(|e| below(e.path(), all));
        all.push(dir);
    }
    let root = PathBuf::from("/sys/fs/cgroup");
    let roots = match is_unified() {
        true => vec![root],
        false => fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).collect(),
    };
    let mut all = Vec::new();
    roots.iter().map(|root| root.join(path)).filter(|dir| dir.exists()).for_each(|dir| below(dir, &mut all));
    all
}

/// The processes in the cgroup `path` and in those below it, in every hierarchy.
pub(crate) fn processes(path: &Path) -> Vec<i32> {
    let lists = cgroups(path).into_iter().map(|dir| fs::read_to_string(dir.join("cgroup.procs")));
    lists
        .flatten()
        .flat_map(|list| list.lines().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// What is mounted below `dir`, the last first.
pub(crate) fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect::<Vec<_>>().into_iter().rev().collect()
}

/// A limit of the container's cgroup as the kernel has it: `v1` is a controller and a file, `v2` a file.
pub(crate) fn limit(dir: &Path, container: &str, v1: [&str; 2], v2: &str) -> String {
    let cgroup = Path::new(&instance_name(&dir.join("run"))).join(container);
    let root = Path::new("/sys/fs/cgroup");
    let path = match is_unified() {
        true => root.join(cgroup).join(v2),
        false => root.join(v1[0]).join(cgroup).join(v1[1]),
    };
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

/// Whether this machine has cgroup v2.
pub(crate) fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
