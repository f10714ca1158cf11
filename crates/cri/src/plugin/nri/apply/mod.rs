//! What plugins want, put into a container's configuration.

mod limits;
mod linux;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use oci_runtime::contract as oci;
use serde::de::DeserializeOwned;

pub(crate) use limits::{known_to_cri, limits};

use super::wire::{ContainerAdjustment, Hook, Hooks, KeyValue, Mount, PosixRlimit, removal};
use crate::contract::Error;

/// Changes `spec` as `wanted`. CDI devices are left: they are whoever's who knows them.
pub(super) fn apply(wanted: &ContainerAdjustment, spec: &mut oci::Spec) -> Result<(), Error> {
    map(&wanted.annotations, &mut spec.annotations, |value| Ok(value.clone()))?;
    let process = spec.process.get_or_insert_default();
    env(&wanted.env, &mut process.env);
    if !wanted.args.is_empty() {
        process.args.clone_from(&wanted.args);
    }
    rlimits(&wanted.rlimits, &mut process.rlimits)?;
    if let Some(hooks) = &wanted.hooks {
        add_hooks(hooks, spec.hooks.get_or_insert_default());
    }
    if let Some(linux) = &wanted.linux {
        linux::apply(linux, spec)?;
    }
    mounts(&wanted.mounts, spec)
}

/// What a plugin wants cannot be: where, and why.
fn refused(field: &str, why: impl std::fmt::Display) -> Error {
    Error::internal(format!("cannot do what an NRI plugin wants: {field}: {why}"))
}

/// A word of the runtime specification.
fn word<T: DeserializeOwned>(text: &str, field: &str) -> Result<T, Error> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|e| refused(field, e))
}

/// Removals, then what is set.
fn map<V, W>(
    wanted: &BTreeMap<String, V>,
    into: &mut BTreeMap<String, W>,
    convert: impl Fn(&V) -> Result<W, Error>,
) -> Result<(), Error> {
    into.retain(|key, _| !wanted.contains_key(&format!("-{key}")));
    for (key, value) in wanted.iter().filter(|(key, _)| removal(key).is_none()) {
        into.insert(key.clone(), convert(value)?);
    }
    Ok(())
}

fn env(wanted: &[KeyValue], into: &mut Vec<String>) {
    fn key(line: &str) -> &str {
        line.split_once('=').map_or(line, |(key, _)| key)
    }
    for variable in wanted {
        if let Some(gone) = removal(&variable.key) {
            into.retain(|line| key(line) != gone);
            continue;
        }
        let line = format!("{}={}", variable.key, variable.value);
        match into.iter_mut().find(|line| key(line) == variable.key) {
            Some(old) => *old = line,
            None => into.push(line),
        }
    }
}

fn rlimits(wanted: &[PosixRlimit], into: &mut Vec<oci::Rlimit>) -> Result<(), Error> {
    for limit in wanted {
        let kind = word(&limit.kind, "rlimits.type")?;
        into.retain(|old| old.kind != kind);
        into.push(oci::Rlimit { kind, hard: limit.hard, soft: limit.soft });
    }
    Ok(())
}

fn add_hooks(wanted: &Hooks, into: &mut oci::Hooks) {
    let hook = |hook: &Hook| oci::Hook {
        path: hook.path.clone(),
        args: hook.args.clone(),
        env: hook.env.clone(),
        timeout: hook.timeout,
    };
    for (into, wanted) in [
        (&mut into.prestart, &wanted.prestart),
        (&mut into.create_runtime, &wanted.create_runtime),
        (&mut into.create_container, &wanted.create_container),
        (&mut into.start_container, &wanted.start_container),
        (&mut into.poststart, &wanted.poststart),
        (&mut into.poststop, &wanted.poststop),
    ] {
        into.extend(wanted.iter().map(hook));
    }
}

fn mounts(wanted: &[Mount], spec: &mut oci::Spec) -> Result<(), Error> {
    for mount in wanted {
        let gone = removal(&mount.destination);
        let destination = gone.unwrap_or(&mount.destination);
        if !destination.starts_with('/') {
            return Err(refused("mounts.destination", format!("{destination:?} is no absolute path")));
        }
        spec.mounts.retain(|old| old.destination != destination);
        if gone.is_some() {
            continue;
        }
        propagate(mount, spec);
        spec.mounts.push(oci::Mount {
            destination: mount.destination.clone(),
            kind: mount.kind.clone(),
            source: mount.source.clone(),
            options: mount.options.clone(),
            ..oci::Mount::default()
        });
    }
    if !wanted.is_empty() {
        // What is above comes first.
        spec.mounts.sort_by_key(|mount| mount.destination.split('/').filter(|part| !part.is_empty()).count());
    }
    Ok(())
}

/// A mount that takes part in the host's mounts needs a root that does.
fn propagate(mount: &Mount, spec: &mut oci::Spec) {
    use oci::RootfsPropagation::{Rshared, Rslave, Shared, Slave};
    let root = &mut spec.linux.get_or_insert_default().rootfs_propagation;
    let has = |words: [&str; 2]| mount.options.iter().any(|option| words.contains(&option.as_str()));
    if has(["shared", "rshared"]) && !matches!(root, Some(Shared | Rshared)) {
        *root = Some(Rshared);
    } else if has(["slave", "rslave"]) && !matches!(root, Some(Shared | Rshared | Slave | Rslave)) {
        *root = Some(Rslave);
    }
}
