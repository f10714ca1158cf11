//! `conformance NAME --suite PATH`: an upstream suite that you built, run against our runtime, compared with
//! `docs/conformance/NAME.txt`, or with `--vm` with `NAME-v2.txt`, so that counts do not rot.

mod api;
mod bounded;
mod caller;
mod e2e;
mod gateway;
mod guest;
mod kubelet;
mod mesh;
mod outcome;
mod plugins;
mod pods;
mod volumes;
mod walk;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::Result;
use crate::packages;
use crate::program::{built, call, cargo, released, root};
use outcome::{Difference, Outcomes};

const DRIVER: &str = include_str!("driver.py");

/// A suite that this can drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// opencontainers/runtime-tools, its validation files
    RuntimeTools,
    /// youki's contest
    Contest,
    /// runc's integration tests
    Bats,
    /// containernetworking/plugins, each plugin's own tests
    Cni,
    /// kubernetes-sigs/cri-tools, critest with NRI, against `sextant node`
    Critest,
    /// kubernetes-sigs/gateway-api: its standard definitions, examples and invalid examples, against `sextant api`
    GatewayApi,
    /// kubernetes-sigs/gateway-api, its tests of meshes, against `sextant up` with `sextant mesh`
    GatewayMesh,
    /// kubernetes-csi/csi-test, csi-sanity, against `sextant csi-driver`
    CsiSanity,
    /// kubernetes-csi/csi-driver-host-path through a volume's whole life, with `sextant api`, `control` and `csi register`
    CsiCaller,
    /// The same driver, serving claims of pods that `sextant agent` runs on `sextant node`
    CsiAgent,
    /// A kubelet whose pods use volumes of `sextant csi-driver`, below `sextant api` and below kube-apiserver
    CsiKubelet,
    /// Kubernetes' own e2e.test, what of it needs no pod to run, against `sextant api`
    E2e,
}

impl Suite {
    /// What our runtime is called when it runs: runc's tests are of a program that is called runc.
    fn program(self) -> &'static str {
        match self {
            Self::RuntimeTools | Self::Contest => "sextant-oci",
            Self::Bats => "runc",
            Self::Cni => "sextant-cni",
            Self::Critest
            | Self::GatewayApi
            | Self::GatewayMesh
            | Self::CsiSanity
            | Self::CsiCaller
            | Self::CsiAgent
            | Self::CsiKubelet
            | Self::E2e => "sextant",
        }
    }

    /// The driver's word.
    fn word(self) -> &'static str {
        match self {
            Self::RuntimeTools => "runtime-tools",
            Self::Contest => "contest",
            Self::Bats => "bats",
            Self::Cni => "cni",
            Self::Critest => "critest",
            Self::GatewayApi => "gateway-api",
            Self::GatewayMesh => "gateway-mesh",
            Self::CsiSanity => "csi-sanity",
            Self::CsiCaller => "csi-caller",
            Self::CsiAgent => "csi-agent",
            Self::CsiKubelet => "csi-kubelet",
            Self::E2e => "e2e",
        }
    }
}

/// Runs an upstream suite and compares with what docs/conformance says.
#[derive(Debug, Args)]
pub(crate) struct Conformance {
    /// Which suite
    #[arg(value_enum)]
    name: Suite,
    /// Where suites were built: docs/conformance/README.md says what lies where
    #[arg(long, value_name = "DIR")]
    suite: PathBuf,
    /// Another runtime (for cni a directory of other plugins, for critest, gateway-api, gateway-mesh, csi-caller, csi-agent, csi-kubelet and e2e another sextant), to see what it does
    #[arg(long, value_name = "PROGRAM")]
    runtime: Option<PathBuf>,
    /// Only these tests, groups or files
    items: Vec<String>,
    /// Which tree of cgroups the suite sees: v1, host, v2
    #[arg(long, default_value = "v1")]
    cgroup: String,
    /// In QEMU, on Debian's cloud kernel with systemd and cgroup v2 alone
    #[arg(long, conflicts_with = "cgroup")]
    vm: bool,
    /// Where raw output is kept
    #[arg(long, value_name = "DIR", default_value = "target/conformance")]
    out: PathBuf,
    /// Write docs/conformance/NAME.txt anew; explanations that are there stay
    #[arg(long)]
    update: bool,
}

pub(crate) fn run(args: &Conformance) -> Result<()> {
    packages::install(&["python3", "bats", "jq", "iproute2", "uidmap"])?;
    let runtime = match (&args.runtime, args.name) {
        (Some(runtime), _) => runtime.clone(),
        (None, Suite::Cni) => plugins::ours(&args.out)?,
        (None, name) if name.program() == "sextant" => released()?,
        (None, name) => ours(&args.out, name.program())?,
    };
    let name = format!("{}{}", args.name.word(), if args.vm { "-v2" } else { "" });
    let out = args.out.join(&name);
    std::fs::create_dir_all(&out)?;
    match (args.name, args.vm) {
        (Suite::Cni, _) => plugins::run(args, &runtime, &out)?,
        (Suite::CsiSanity, true) => bounded::run(args, &runtime, &out)?,
        (_, true) => guest::run(args, &runtime, &out)?,
        (Suite::Critest, false) => pods::run(args, &runtime, &out)?,
        (Suite::GatewayApi, false) => gateway::run(args, &runtime, &out)?,
        (Suite::GatewayMesh, false) => mesh::run(args, &runtime, &out)?,
        (Suite::CsiSanity, false) => volumes::run(args, &runtime, &out)?,
        (Suite::CsiCaller, false) => caller::run(args, caller::Which::Volumes, &runtime, &out)?,
        (Suite::CsiAgent, false) => caller::run(args, caller::Which::Pods, &runtime, &out)?,
        (Suite::CsiKubelet, false) => kubelet::run(args, &runtime, &out)?,
        (Suite::E2e, false) => e2e::run(args, &runtime, &out)?,
        (_, false) => here(args, &runtime, &out)?,
    }
    let found = Outcomes::read(&std::fs::read_to_string(out.join("results.txt"))?)?;
    let book = root().join("docs/conformance").join(format!("{name}.txt"));
    let known = match std::fs::read_to_string(&book) {
        Ok(text) => Outcomes::read(&text)?,
        Err(_) => Outcomes::default(),
    };
    if args.update {
        std::fs::write(&book, found.explained_by(&known).to_string())?;
        println!("written: {}", book.display());
        return Ok(());
    }
    judge(&found, &known, args.items.is_empty())
}

/// On this machine, in namespaces.
fn here(args: &Conformance, runtime: &Path, out: &Path) -> Result<()> {
    let mut driver = Command::new("/usr/bin/python3");
    driver.args(["-c", DRIVER, args.name.word()]).arg(std::path::absolute(runtime)?).arg(out);
    driver.args(["--cgroup", &args.cgroup]).args(&args.items);
    driver.env("SUITES", std::path::absolute(&args.suite)?);
    call(&mut driver)
}

fn judge(found: &Outcomes, known: &Outcomes, whole: bool) -> Result<()> {
    let differences = found.differences(known, whole);
    for difference in &differences {
        println!("{difference}");
    }
    let worse = differences.iter().filter(|d| matches!(d, Difference::Worse { .. })).count();
    match (worse, differences.len()) {
        (0, 0) => println!("as docs/conformance says"),
        (0, _) => println!("better than docs/conformance says: run it with --update"),
        (n, _) => return Err(format!("{n} tests are worse than docs/conformance says").into()),
    }
    Ok(())
}

/// The small build under a name that makes it the runtime.
fn ours(out: &Path, name: &str) -> Result<PathBuf> {
    cargo(["build", "--profile", "shim", "--locked", "--package", "shim"])?;
    let bin = out.join("bin");
    std::fs::create_dir_all(&bin)?;
    let runtime = bin.join(name);
    std::fs::copy(built("shim")?.join("sextant-shim"), &runtime)?;
    Ok(runtime)
}
