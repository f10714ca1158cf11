//! What is compared with what.

use std::process::Command;

use super::contest::Verdict;
use super::{Bench, Contest, Promise, Side};
use crate::Result;
use crate::interop::Site;
use crate::packages;
use crate::program::quiet;

const NOTHING: &dyn Fn() -> Result<()> = &|| Ok(());
const AT_ONCE: &dyn Fn() -> Result<bool> = &|| Ok(true);

/// One program against itself: how much of a difference is the machine's.
pub(super) fn calibrate(bench: &Bench) -> Result<Verdict> {
    let side = |name: &str| Side {
        name: name.to_owned(),
        prepare: NOTHING,
        commands: &|_| vec![Command::new("true")],
        settled: AT_ONCE,
        clean: NOTHING,
    };
    Contest { name: "calibrate", ours: side("true"), peer: side("true again"), promise: Promise::default() }
        .run(bench.rounds)
}

/// `run --rm` of `true`, end to end with a network, against podman.
pub(super) fn run(bench: &Bench) -> Result<Verdict> {
    packages::install(packages::NEEDED)?;
    let site = Site::new()?;
    let image = site.busybox()?;
    quiet(&mut site.sextant(["pull", &image]))?;
    let podman = || {
        let mut podman = Command::new("podman");
        podman.args(["--cgroup-manager", "cgroupfs", "--root"]).arg(site.path("podman"));
        podman.arg("--runroot").arg(site.path("podman-run"));
        podman
    };
    quiet(podman().args(["pull", "--quiet", "--tls-verify=false", &image]))?;
    let version = quiet(podman().arg("--version"))?;
    let before = namespaces()?;
    let settled = || Ok(namespaces()? <= before);
    let ours = Side {
        name: "sextant".to_owned(),
        prepare: NOTHING,
        commands: &|_| vec![site.sextant(["run", "--rm", &image, "true"])],
        settled: &settled,
        clean: NOTHING,
    };
    let peer = Side {
        name: version.trim().replace(" version", ""),
        prepare: NOTHING,
        commands: &|meter| {
            let mut podman = podman();
            podman.args(["run", "--rm", "--cgroup-parent", &meter.parent(), &image, "true"]);
            vec![podman]
        },
        settled: &settled,
        clean: NOTHING,
    };
    let promise = Promise { cpu: Some(0.15), ..Promise::default() };
    Contest { name: "run --rm true", ours, peer, promise }.run(bench.rounds)
}

/// How many links there are: a container's network is gone when its veth is.
fn namespaces() -> Result<usize> {
    Ok(std::fs::read_dir("/sys/class/net")?.count())
}
