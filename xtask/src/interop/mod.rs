//! Ring 5: real neighbours, from Debian's packages and PyPI. A scenario is a function of a [`Site`]; new ones go into
//! [`SCENARIOS`].

mod addresses;
mod agent;
mod aws;
mod clients;
mod cloud;
mod host;
mod kubectl;
mod networks;
mod prometheus;
mod runtimes;
mod scenarios;
mod site;

pub(crate) use kubectl::{Program as Kubectl, Server as ApiServer, debian as debian_kubectl};
pub(crate) use site::Site;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::packages;
use crate::program::{cargo_command, quiet, target};
use crate::rings::{Count, Extent, chosen_tests};

/// A name, and what happens there.
type Scenario = (&'static str, fn(&Site) -> Result<()>);

const SCENARIOS: &[Scenario] = &[
    ("buildah builds, skopeo pushes, sextant pulls and runs", scenarios::built_and_run),
    ("sextant pushes, skopeo and podman pull", scenarios::pushed_back),
    ("skopeo and umoci read a layout of sextant", scenarios::layout_is_read),
    ("a Debian root by debootstrap runs apt --version", scenarios::debian),
    ("podman runs on sextant-oci", runtimes::podman),
    ("buildah runs on sextant-oci", runtimes::buildah),
    ("containerd runs on sextant-oci", runtimes::containerd),
    ("containerd runs Sextant's shim", runtimes::containerd_shim),
    ("host-local shares a subnet with the reference plugin", addresses::shared_leases),
    ("dhcp gets leases of dnsmasq, and talks with the reference's", addresses::dhcp),
    ("podman's networks are made by our CNI plugins", networks::podman),
    ("our CNI plugins do what the reference's do", networks::beside_the_reference),
    ("containerd's pods are attached by our CNI plugins", networks::containerd),
    ("kubectl discovers and explains", |site| kubectl::walks(site, kubectl::walk::DISCOVER)),
    ("kubectl applies, prunes, compares", |site| kubectl::walks(site, kubectl::walk::APPLY)),
    ("kubectl creates", |site| kubectl::walks(site, kubectl::walk::CREATE)),
    ("kubectl gets, watches, waits, describes", |site| kubectl::walks(site, kubectl::walk::GET)),
    ("kubectl patches, edits, replaces, scales", |site| kubectl::walks(site, kubectl::walk::CHANGE)),
    ("kubectl deletes", |site| kubectl::walks(site, kubectl::walk::DELETE)),
    ("kubectl and nodes, certificates", |site| kubectl::walks(site, kubectl::walk::NODE)),
    ("kubectl asks who may what", |site| kubectl::walks(site, kubectl::walk::WHO)),
    ("kubectl and custom resources", |site| kubectl::walks(site, kubectl::walk::CUSTOM)),
    ("kubectl and pods that run", |site| kubectl::walks_with_pods(site, kubectl::walk::PODS)),
    ("the agent on containerd's socket runs the shop", agent::shop),
    ("Prometheus scrapes the agent", prometheus::scrapes),
    ("the Python client of the Kubernetes API", clients::python),
    ("the AWS provider lives in moto", aws::moto),
    ("a cloud provider in Python", cloud::python),
];

/// Runs the ignored tests of a test program, as its arguments choose them. It is named without its package: with the whole workspace's choice
/// of features, which `cargo test --workspace` has made, nothing is built once more.
fn ignored(test: &str, args: &[&str], variables: &[(&str, &OsStr)]) -> Result<()> {
    let mut command = cargo_command();
    command.args(["test", "--locked", "--workspace", "--test", test, "--", "--ignored"]).args(args);
    command.envs(variables.iter().copied());
    let count = chosen_tests(command)?;
    if count.failed == 0 { Ok(()) } else { Err(count.failures.join("; ").into()) }
}

/// A folder with a library of PyPI's and what it needs, by a requirement that names one version. It is fetched once.
pub(crate) fn python_library(requirement: &str) -> Result<PathBuf> {
    // Libraries have parts that are of one version of Python alone.
    let version = || {
        let mut python = Command::new("python3");
        quiet(python.args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]))
    };
    let version = match version() {
        Ok(version) => version,
        Err(_) => {
            packages::install(&["python3"])?;
            version()?
        }
    };
    let name = format!("{requirement}-python{}", version.trim());
    let libraries = target().join("interop").join(&name);
    if !libraries.is_dir() {
        packages::install(&["python3", "python3-pip"])?;
        let fetching = target().join("interop").join(format!("{name}.fetching"));
        let _ = std::fs::remove_dir_all(&fetching);
        let args =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"];
        let mut pip = Command::new("python3");
        quiet(pip.args(args).arg(&fetching).arg(requirement).env("PIP_ROOT_USER_ACTION", "ignore"))?;
        std::fs::rename(&fetching, &libraries)?;
    }
    Ok(libraries)
}

pub(crate) fn run(extent: &Extent) -> Result<Count> {
    let site = Site::of(extent.product()?)?;
    let mut count = Count::default();
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| name.contains(&extent.only)) {
        count.add(name, scenario(&site));
    }
    Ok(count)
}
