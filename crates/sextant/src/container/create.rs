use std::fs;
use std::os::unix::fs::DirBuilderExt;

use ledger::{Effect, Owner, OwnerId, Record as _};
use oci_image::store::{Details, Store};

use super::record::{NetworkRecord, write_whole};
use super::spec::Wishes;
use super::{Options, Record, Restart, ids, mounts, network, spec};
use crate::cli::RunArgs;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::output::short;

/// Makes a container that does not run yet, and returns it locked. Until its record is written, everything it made is
/// undone by whoever finds it.
pub(crate) fn create(
    instance: &Instance,
    store: &Store,
    args: &RunArgs,
    options: &Options,
    image: &Details,
) -> Result<(Record, Owner)> {
    network::check_ports(&options.ports)?;
    let id = ids::new_id()?;
    let name = args.name.clone().unwrap_or_else(|| ids::made_up_name(&id));
    ids::check_name(&name).map_err(|e| e.with_code(125))?;
    let asked = mounts::plan(instance, args)?;
    // Whoever collects unused layers waits for this.
    let _hold = store.hold()?;
    let mut layers = store.layer_paths(&image.config)?;
    layers.reverse();
    let mode = match args.network.strip_prefix("container:") {
        Some(other) => format!("container:{}", super::find(instance, other)?.id),
        None => args.network.clone(),
    };
    // A network that does not exist is said before anything is made.
    network::Mode::of(instance, &mode)?;
    let hostname = match (&args.hostname, mode.as_str()) {
        (Some(given), _) => given.clone(),
        (None, "host") => host_name(),
        (None, _) => short(&id).to_owned(),
    };
    args.hostname.as_deref().map_or(Ok(()), check_hostname)?;
    if !options.ports.is_empty() && (matches!(&*mode, "none" | "host") || mode.starts_with("container:")) {
        return Err(Failure::new(format!(
            "cannot use --publish with --network {}: only a network of the container's own has ports to publish",
            args.network
        ))
        .with_code(125));
    }
    let wishes = Wishes {
        instance,
        id: &id,
        args,
        options,
        image: &image.config,
        layers: &layers,
        hostname: &hostname,
        asked: &asked,
    };
    let spec = spec::build(&wishes)?;
    oci_runtime::contract::validate(&spec)?;
    let stop_signal = match (options.stop_signal, &image.config.config.stop_signal) {
        (Some(signal), _) => signal,
        (None, Some(text)) => kernel::signal::parse(text).unwrap_or(libc_sigterm()),
        (None, None) => libc_sigterm(),
    };
    let record = Record {
        name: name.clone(),
        image: args.image.clone(),
        image_id: image.id.to_string(),
        layers: image.config.rootfs.diff_ids.iter().rev().map(ToString::to_string).collect(),
        created: now(),
        command: spec.process.as_ref().map(|p| p.args.clone()).unwrap_or_default(),
        labels: image
            .config
            .config
            .labels
            .iter()
            .chain(&options.labels)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        network: NetworkRecord { mode, hostname, ports: options.ports.clone() },
        restart: options.restart.unwrap_or(Restart::No),
        remove: args.rm,
        terminal: args.tty,
        stdin: args.interactive,
        stop_signal,
        stop_timeout: args
            .stop_timeout
            .or(image.config.config.stop_timeout.map(|t| t.max(0) as u64))
            .unwrap_or(10),
        volumes: asked.volumes.clone(),
        id,
    };
    let mut owner = instance.ledger.owner(&OwnerId::new(record.id.clone())?)?;
    match write(instance, &record, &spec, &mut owner) {
        Ok(()) => Ok((record, owner)),
        Err(failure) => {
            let left = owner.undo_all();
            Err(left.into_iter().fold(failure, |failure, error| Failure::new(format!("{failure}; {error}"))))
        }
    }
}

/// What the kernel and the files about names take: 64 letters, digits, dots and dashes.
fn check_hostname(name: &str) -> Result<()> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if (1..=64).contains(&name.len()) && name.chars().all(known) && !name.starts_with('-') {
        return Ok(());
    }
    Err(Failure::new(format!("cannot use --hostname {name:?}: give at most 64 letters, digits, '.' and '-'"))
        .with_code(125))
}

fn libc_sigterm() -> i32 {
    rustix::process::Signal::TERM.as_raw()
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn write(
    instance: &Instance,
    record: &Record,
    spec: &oci_runtime::contract::Spec,
    owner: &mut Owner,
) -> Result<()> {
    let state = instance.state_dir(&record.id);
    owner.record(Effect::Tree { path: state.clone() })?;
    for dir in [state.clone(), state.join("upper"), state.join("work")] {
        let mode = if dir.ends_with("upper") { 0o755 } else { 0o700 };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&dir)
            .context(|| format!("create {}", dir.display()))?;
    }
    claim_name(instance, record, owner)?;
    let config = serde_json::to_vec(spec).context(|| "write the configuration".into())?;
    write_whole(&state.join("config.json"), &config)?;
    record.write(instance)
}

/// A name is a symbolic link to its container's id, which only one can make.
///
/// Here the effect comes first and its record after: recorded before, a name that turns out to be another's would be
/// taken from that one by the undoing. A link without its container (this process killed in between) is dead and
/// anybody's.
fn claim_name(instance: &Instance, record: &Record, owner: &mut Owner) -> Result<()> {
    let dir = instance.data.join("names");
    fs::create_dir_all(&dir).context(|| format!("create {}", dir.display()))?;
    let path = dir.join(&record.name);
    // Two who find the same dead link would each remove it, and the second the first one's new link.
    let claims = fs::File::open(&dir).context(|| format!("open {}", dir.display()))?;
    claims.lock().context(|| format!("lock {}", dir.display()))?;
    loop {
        match std::os::unix::fs::symlink(&record.id, &path) {
            Ok(()) => break,
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).context(|| format!("write {}", path.display())),
        }
        let Ok(holder) = fs::read_link(&path) else { continue };
        if instance.data.join("containers").join(&holder).exists() {
            return Err(taken(instance, &record.name));
        }
        fs::remove_file(&path).context(|| format!("remove {}", path.display()))?;
    }
    owner.record(Effect::File { path })?;
    Ok(())
}

fn taken(instance: &Instance, name: &str) -> Failure {
    let by = super::find(instance, name)
        .map_or_else(|_| "another container".into(), |r| format!("container {}", short(&r.id)));
    Failure::new(format!(
        "the name {name:?} is taken by {by}: give another, or remove that one (sextant rm {name})"
    ))
    .with_code(125)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root, as an instance does.
    #[test]
    fn a_dead_link_is_taken_over_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::open(&dir.path().join("data"), &dir.path().join("run")).unwrap();
        let names = instance.data.join("names");
        fs::create_dir_all(&names).unwrap();
        for round in 0..50 {
            let name = format!("name-{round}");
            std::os::unix::fs::symlink("dead", names.join(&name)).unwrap();
            let all_there = std::sync::Barrier::new(4);
            let claims: Vec<bool> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|n| {
                        let (instance, name, all_there) = (&instance, &name, &all_there);
                        scope.spawn(move || {
                            let id = format!("{round:032x}{n:032x}");
                            let record: Record = serde_json::from_value(serde_json::json!({
                                "id": id, "name": name, "image": "", "imageId": "", "layers": [], "created": 0,
                                "command": [], "labels": {}, "restart": "no", "remove": false, "terminal": false,
                                "network": {"mode": "none", "hostname": "", "ports": []}, "stdin": false,
                                "stopSignal": 15, "stopTimeout": 1, "volumes": [],
                            }))
                            .unwrap();
                            let mut owner = instance.ledger.owner(&OwnerId::new(id).unwrap()).unwrap();
                            let state = instance.state_dir(&record.id);
                            owner.record(Effect::Tree { path: state.clone() }).unwrap();
                            fs::create_dir_all(state).unwrap();
                            all_there.wait();
                            claim_name(instance, &record, &mut owner).is_ok()
                        })
                    })
                    .collect();
                threads.into_iter().map(|t| t.join().unwrap()).collect()
            });
            assert_eq!(claims.iter().filter(|won| **won).count(), 1, "{claims:?}");
        }
    }
}
