//! Arrows between crates point one way: sextant, wings, ledger, kernel (ARCHITECTURE.md).

use super::Finding;
use crate::Result;
use crate::program::{cargo_json, root};

/// Who may depend on whom, besides on crates that are not ours. Wings know each other only where the design says so:
/// the shim has the OCI runtime inside, the CRI wing serves over shim, images and networks.
const ALLOWED: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("grpc", &["kernel"]),
    ("ledger", &["kernel"]),
    ("oci-image", &["kernel", "ledger"]),
    ("oci-runtime", &["kernel", "ledger"]),
    ("cni", &["kernel", "ledger"]),
    ("csi", &["kernel", "ledger", "grpc"]),
    ("client", &[]),
    ("cron", &[]),
    // Its rooms for volumes, clouds and meshes call any plugin: the caller's side of those wings. Of a mesh it is who nodes call.
    ("control", &["client", "cron", "grpc", "csi", "cpi", "smi", "meshwire"]),
    ("streaming", &[]),
    ("cpi", &["kernel", "ledger", "grpc"]),
    ("smi", &["kernel", "ledger"]),
    // The plugin of that wing.
    ("mesh", &["kernel", "smi"]),
    // What its control plane and its nodes say to each other.
    ("meshwire", &["grpc", "smi"]),
    // A plugin of that wing, large enough for a crate of its own.
    ("aws", &["cpi"]),
    ("api", &["kernel", "ledger", "cron", "streaming"]),
    ("shim", &["kernel", "ledger", "oci-runtime"]),
    ("cri", &["kernel", "ledger", "grpc", "oci-image", "oci-runtime", "shim", "cni", "streaming"]),
    ("agent", &["kernel", "ledger", "client", "grpc", "cri", "csi", "streaming"]),
    ("announce", &["kernel"]),
    ("metal", &["cpi"]),
    ("routes", &["kernel"]),
    ("services", &["kernel", "ledger", "client"]),
    (
        "sextant",
        &[
            "kernel",
            "ledger",
            "grpc",
            "oci-image",
            "oci-runtime",
            "shim",
            "cri",
            "cni",
            "streaming",
            "csi",
            "client",
            "control",
            "cpi",
            "aws",
            "metal",
            "smi",
            "mesh",
            "meshwire",
            "api",
            "agent",
            "announce",
            "routes",
            "services",
        ],
    ),
    ("testkit", &["kernel", "ledger"]),
    // It asks our node and containerd for pods, and drivers for volumes, through the clients that any program may use, and is a cloud
    // provider as any program may be.
    ("xtask", &["kernel", "ledger", "testkit", "grpc", "cri", "csi", "cpi"]),
];

/// What any crate may use in its tests.
const IN_TESTS: &[&str] = &["testkit"];

pub(super) fn check() -> Result<Vec<Finding>> {
    let metadata = cargo_json(["metadata", "--no-deps", "--format-version", "1"])?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let ours: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(crate_name, _)| *crate_name == name) else {
            findings.push(Finding::new(name, "is not in the table of arrows (xtask/src/tidy/arrows.rs)"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for dependency in dependencies {
            let to = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"].as_str() == Some("dev") && IN_TESTS.contains(&to);
            if ours.contains(&to) && !in_tests && !allowed.contains(&to) {
                findings.push(Finding::new(name, format!("must not depend on {to}: arrows point one way")));
            }
        }
        let manifest = std::path::Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let text = std::fs::read_to_string(manifest)?;
        if !text.contains("[lints]\nworkspace = true") {
            let place = manifest.strip_prefix(root()).unwrap_or(manifest).display();
            findings.push(Finding::new(place, "must inherit the workspace's lints"));
        }
    }
    Ok(findings)
}
