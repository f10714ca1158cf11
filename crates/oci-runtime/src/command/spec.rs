//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::failure::Failure;
use super::options::{Given, Rest, Words, switch, value};
use super::{Command, Context};
use crate::contract::{IdMapping, Linux, Namespace, NamespaceType, Rlimit, RlimitType, Spec};
use crate::default_spec;
use kernel::capability::{CapSet, Capability};

pub(super) static SPEC: Command = Command {
    name: "spec",
    usage: "",
    summary: "write a config.json to begin with",
    options: &[
        value("bundle", Some('b'), "DIR", "where to [.]"),
        switch("rootless", None, "for a user namespace of this user's, without root"),
        switch("help", Some('h'), "show this"),
    ],
    words: Words { least: 0, own: 0, rest: Rest::None },
    clones: false,
    run: spec,
};

fn spec(_: &Context, given: &Given) -> Result<u8, Failure> {
    let path = Path::new(given.get("bundle").unwrap_or(".")).join("config.json");
    let say = |e: std::io::Error| {
        let hint = if e.kind() == std::io::ErrorKind::AlreadyExists { " (remove it first)" } else { "" };
        Failure::new(format!("cannot write {}: {e}{hint}", path.display()))
    };
    let mut spec = beginning();
    if given.has("rootless") {
        make_rootless(&mut spec);
    }
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(
        &mut text,
        serde_json::ser::PrettyFormatter::with_indent(b"\t"),
    );
    spec.serialize(&mut serializer).map_err(|e| say(e.into()))?;
    text.push(b'\n');
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| file.write_all(&text)).map_err(say)?;
    Ok(0)
}

/// What runc's users expect to find and change: a shell on a terminal, few rights, a read-only root, no filter.
fn beginning() -> Spec {
    let mut spec = default_spec::container();
    let few = CapSet::of(&[Capability::AuditWrite, Capability::Kill, Capability::NetBindService]);
    default_spec::set_capabilities(&mut spec, few);
    spec.hostname = "sextant".to_owned();
    if let Some(root) = &mut spec.root {
        root.readonly = true;
    }
    if let Some(process) = &mut spec.process {
        process.terminal = true;
        process.env.push("TERM=xterm".to_owned());
        process.no_new_privileges = true;
        process.rlimits = vec![Rlimit { kind: RlimitType::RlimitNofile, hard: 1024, soft: 1024 }];
    }
    if let Some(linux) = &mut spec.linux {
        linux.seccomp = None;
        // As runc has it, whose users add one. What is mounted of v1 shows the container's own cgroups without it, too.
        if !matches!(kernel::cgroup::layout(), Ok(kernel::cgroup::Layout::Unified)) {
            linux.namespaces.retain(|namespace| namespace.kind != NamespaceType::Cgroup);
        }
    }
    spec
}

/// Without root: a user namespace in which this user is root, and nothing that takes more.
fn make_rootless(spec: &mut Spec) {
    let one = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1 }];
    let linux = spec.linux.get_or_insert_with(Linux::default);
    linux.namespaces.retain(|n| n.kind != NamespaceType::Network);
    linux.namespaces.push(Namespace { kind: NamespaceType::User, path: String::new() });
    linux.uid_mappings = one(rustix::process::geteuid().as_raw());
    linux.gid_mappings = one(rustix::process::getegid().as_raw());
    linux.resources = None;
    for mount in &mut spec.mounts {
        // Group 5 is not mapped, and sysfs belongs to a network namespace that is not ours.
        mount.options.retain(|option| !option.starts_with("gid="));
        if mount.destination == "/sys" {
            mount.kind = "none".to_owned();
            mount.source = "/sys".to_owned();
            // With all below: cgroups of this user may be mounted there (CVE-2023-25809).
            mount.options = ["rbind", "nosuid", "noexec", "nodev", "ro", "rro"].map(str::to_owned).to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_valid() {
        let mut spec = beginning();
        crate::contract::validate(&spec).unwrap();
        make_rootless(&mut spec);
        crate::contract::validate(&spec).unwrap();
    }
}
