//! `run --rm` of `true`, end to end with a network, against podman.

use std::collections::BTreeSet;
use std::process::Command;

use super::contests::NOTHING;
use super::{Bench, Contest, Promise, Report, Side};
use crate::Result;
use crate::interop::Site;
use crate::packages;
use crate::program::{built, quiet};

/// The bridges of podman's default network, by CNI and by netavark; they outlive its containers.
const BRIDGES: [&str; 2] = ["cni-podman0", "podman0"];

/// Both stores are warm. CPU time is that of all descendants, until the last has ended and links and pinned network
/// namespaces are as before; what kernel threads do for them afterwards belongs to nobody and is not counted.
pub(super) fn run(bench: &Bench) -> Result<Report> {
    packages::install(packages::NEEDED)?;
    packages::install(&["python3"])?;
    let site = Site::new()?;
    let image = site.busybox()?;
    let program = built("release")?.join("sextant");
    // State that a boot forgets is in memory, as with both sides' usual /run/...; this /run is the bench's own.
    let sextant = |args: &[&str]| {
        let mut sextant = Command::new(&program);
        sextant.arg("--data-dir").arg(site.data_dir()).args(["--run-dir", "/run/sextant-bench"]).args(args);
        sextant
    };
    quiet(&mut sextant(&["pull", &image]))?;
    let podman = || {
        let mut podman = Command::new("podman");
        podman.args(["--cgroup-manager", "cgroupfs", "--root"]).arg(site.path("podman"));
        podman.args(["--runroot", "/run/podman-bench"]);
        podman
    };
    quiet(podman().args(["pull", "--quiet", "--tls-verify=false", &image]))?;
    let version = quiet(podman().arg("--version"))?;
    let before = traces()?;
    let settled = || Ok(traces()?.is_subset(&before));
    let ours = Side {
        name: "sextant".to_owned(),
        prepare: NOTHING,
        command: &|_| sextant(&["run", "--rm", "--quiet", &image, "true"]),
        settled: &settled,
        clean: NOTHING,
    };
    let peer = Side {
        name: version.trim().replace(" version", ""),
        prepare: NOTHING,
        command: &|meter| {
            let mut podman = podman();
            podman.args(["run", "--rm", "--cgroup-parent", &meter.parent()]);
            // Its own wishes would need CAP_SYS_RESOURCE.
            podman.args(["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", &image, "true"]);
            podman
        },
        settled: &settled,
        clean: NOTHING,
    };
    let promise = Promise { cpu: Some(0.15), ..Promise::default() };
    let verdict = Contest { name: "run --rm true", ours, peer, promise }.run(bench.rounds());
    super::disk::detach_below(&site.path("podman"));
    Report::of(&verdict?)
}

/// Links and pinned network namespaces: a container's network is gone when its are.
fn traces() -> Result<BTreeSet<String>> {
    let links = std::fs::read_dir("/sys/class/net")?.flatten();
    let pinned = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = links.chain(pinned).map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| !BRIDGES.contains(&name.as_str())).collect())
}
