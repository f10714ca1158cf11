//! From an image's configuration and a person's wishes to a runtime configuration.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use kernel::capability::{CapSet, Capability};
use oci_image::contract::ImageConfig;
use oci_runtime::contract::{DeviceCgroup, Mount, NamespaceType, Spec};
use oci_runtime::default_spec;

use super::{Options, limits, mounts};
use crate::cli::RunArgs;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// What a configuration is made from.
pub(super) struct Wishes<'a> {
    pub(super) instance: &'a Instance,
    pub(super) id: &'a str,
    pub(super) args: &'a RunArgs,
    pub(super) options: &'a Options,
    pub(super) image: &'a ImageConfig,
    /// The unpacked layers, the topmost first.
    pub(super) layers: &'a [PathBuf],
    pub(super) hostname: &'a str,
    pub(super) asked: &'a mounts::Asked,
}

/// The configuration. The path of the network namespace is filled in at each start.
pub(super) fn build(wishes: &Wishes<'_>) -> Result<Spec> {
    let Wishes { args, options, image, .. } = wishes;
    let mut spec = default_spec::container();
    let layers = open_all(wishes.layers)?;
    let user = args.user.as_deref().unwrap_or(&image.config.user);
    let (user, home) = super::user::resolve(user, &layers)?;
    let capabilities = capabilities(args)?;
    default_spec::set_capabilities(&mut spec, capabilities);
    let process = spec.process.get_or_insert_default();
    process.args = command(args, image)?;
    process.user = user;
    process.terminal = args.tty;
    process.cwd = match args.workdir.as_deref().unwrap_or(&image.config.working_dir) {
        "" => "/".into(),
        dir if dir.starts_with('/') => dir.to_owned(),
        dir => {
            return Err(
                Failure::new(format!("cannot use --workdir {dir:?}: give a path from /")).with_code(125)
            );
        }
    };
    process.env = environment(wishes, home.as_deref());
    process.rlimits = limits::rlimits(options)?;
    spec.hostname = wishes.hostname.to_owned();
    if let Some(root) = &mut spec.root {
        root.readonly = args.read_only;
    }
    shm(&mut spec.mounts, options.shm_size);
    add_mounts(&mut spec, wishes);
    let linux = spec.linux.get_or_insert_default();
    linux.cgroups_path = format!("/{}", wishes.instance.cgroup(wishes.id).display());
    limits::apply(linux.resources.get_or_insert_default(), options);
    if args.network == "host" {
        linux.namespaces.retain(|n| !matches!(n.kind, NamespaceType::Network | NamespaceType::Uts));
        spec.hostname = String::new();
    }
    if args.privileged {
        make_privileged(&mut spec);
    }
    Ok(spec)
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<OwnedFd>> {
    paths
        .iter()
        .map(|path| {
            fs::File::open(path).map(OwnedFd::from).context(|| format!("open the layer {}", path.display()))
        })
        .collect()
}

/// Docker's rule: a given entry point sets the image's command aside; given words replace the image's command.
fn command(args: &RunArgs, image: &ImageConfig) -> Result<Vec<String>> {
    let given = !args.command.is_empty();
    let entrypoint = match &args.entrypoint {
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None => image.config.entrypoint.clone().unwrap_or_default(),
    };
    let words = match (given, &args.entrypoint) {
        (true, _) => args.command.clone(),
        (false, Some(_)) => Vec::new(),
        (false, None) => image.config.cmd.clone().unwrap_or_default(),
    };
    let all = [entrypoint, words].concat();
    if all.is_empty() {
        return Err(Failure::new(format!(
            "cannot run {:?}: the image names no command; give one after the image's name",
            args.image
        ))
        .with_code(125));
    }
    Ok(all)
}

fn environment(wishes: &Wishes<'_>, home: Option<&str>) -> Vec<String> {
    let mut env: Vec<String> = Vec::new();
    let mut set = |word: String| {
        let name = word.split_once('=').map_or(&*word, |(n, _)| n).to_owned() + "=";
        env.retain(|e| !e.starts_with(&name));
        env.push(word);
    };
    set("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    set(format!("HOSTNAME={}", wishes.hostname));
    set(format!("HOME={}", home.unwrap_or("/")));
    if wishes.args.tty {
        set("TERM=xterm".into());
    }
    wishes.image.config.env.iter().chain(&wishes.options.env).for_each(|e| set(e.clone()));
    env
}

fn capabilities(args: &RunArgs) -> Result<CapSet> {
    let mut set = default_spec::CAPABILITIES;
    let parse = |name: &str| {
        Capability::from_loose_name(name).ok_or_else(|| {
            Failure::new(format!("no capability {name:?}: see capabilities(7), or give ALL")).with_code(125)
        })
    };
    let all = |names: &[String]| names.iter().any(|n| n.eq_ignore_ascii_case("all"));
    if all(&args.cap_add) || args.privileged {
        set = kernel::capability::supported();
    }
    if all(&args.cap_drop) {
        set = CapSet::EMPTY;
    }
    for name in args.cap_drop.iter().filter(|n| !n.eq_ignore_ascii_case("all")) {
        set.remove(parse(name)?);
    }
    for name in args.cap_add.iter().filter(|n| !n.eq_ignore_ascii_case("all")) {
        set.insert(parse(name)?);
    }
    Ok(set)
}

fn shm(mounts: &mut [Mount], size: u64) {
    if let Some(mount) = mounts.iter_mut().find(|m| m.destination == "/dev/shm") {
        mount.options.retain(|o| !o.starts_with("size="));
        mount.options.push(format!("size={size}"));
    }
}

/// A person's mounts replace those of the same place; a parent comes before what is below it.
fn add_mounts(spec: &mut Spec, wishes: &Wishes<'_>) {
    let bundle = wishes.instance.bundle_dir(wishes.id);
    let file = |name: &str| Mount {
        destination: format!("/etc/{name}"),
        kind: "bind".into(),
        source: bundle.join(name).display().to_string(),
        options: vec!["bind".into()],
        ..Mount::default()
    };
    let mut added: Vec<Mount> = ["hosts", "hostname", "resolv.conf"].map(file).to_vec();
    added.extend(wishes.asked.mounts.iter().cloned());
    let place = |m: &Mount| Path::new(&m.destination).components().collect::<PathBuf>();
    spec.mounts.retain(|m| !added.iter().any(|a| place(a) == place(m)));
    for (index, mount) in added.iter().enumerate() {
        if added[index + 1..].iter().all(|later| place(later) != place(mount)) {
            spec.mounts.push(mount.clone());
        }
    }
    // Stable: what is equally deep stays in the order it was given.
    let fixed = spec.mounts.len() - added.len().min(spec.mounts.len());
    spec.mounts[fixed..].sort_by_key(|m| place(m).components().count());
}

/// Everything the kernel gives: for programs that manage the machine.
fn make_privileged(spec: &mut Spec) {
    let linux = spec.linux.get_or_insert_default();
    linux.seccomp = None;
    linux.masked_paths.clear();
    linux.readonly_paths.clear();
    linux.resources.get_or_insert_default().devices =
        vec![DeviceCgroup { allow: true, access: "rwm".into(), ..DeviceCgroup::default() }];
    for mount in &mut spec.mounts {
        if mount.kind == "sysfs" || mount.kind == "cgroup" {
            mount.options.retain(|o| o != "ro");
        }
    }
}
