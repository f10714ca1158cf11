//! What several plugins want, as one: each sees what those before it wanted, and no two set the same.

mod keyed;
mod owners;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub(super) use owners::Owners;
pub(super) use resources::overlay;

use owners::Claim;

use super::wire::{
    Container, ContainerAdjustment, ContainerEviction, ContainerUpdate, Field, Hooks, KeyValue,
    LinuxContainer, LinuxContainerAdjustment, LinuxRdt, LinuxResources,
};
use crate::contract::Error;

/// What is wanted in all.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Of the container that is being created.
    pub(super) adjust: ContainerAdjustment,
    /// Of others, by id.
    pub(super) updates: BTreeMap<String, ContainerUpdate>,
    /// Those that are to end.
    pub(super) evictions: Vec<ContainerEviction>,
    pub(super) owners: Owners,
}

/// A plugin that asks something of a container.
pub(super) struct Asking<'a> {
    owners: &'a mut Owners,
    container: String,
    plugin: &'a str,
}

impl Asking<'_> {
    fn claim(&mut self, claims: &[Claim<'_>]) -> Result<(), Error> {
        self.owners.claim(&self.container, claims, self.plugin)
    }

    fn clear(&mut self, field: Field, key: Option<&str>) {
        self.owners.clear(&self.container, (field, key), self.plugin);
    }

    /// A value that one plugin sets, where it sets it.
    fn value<T: Clone>(
        &mut self,
        field: Field,
        asked: Option<T>,
        places: [Option<&mut Option<T>>; 2],
    ) -> Result<(), Error> {
        let Some(value) = asked else { return Ok(()) };
        self.claim(&[(field, None)])?;
        for place in places.into_iter().flatten() {
            *place = Some(value.clone());
        }
        Ok(())
    }
}

impl Collected {
    /// What `plugin` wants of `container`, which is being created. Plugins after it see the container so.
    pub(super) fn adjust(
        &mut self,
        plugin: &str,
        asked: ContainerAdjustment,
        container: &mut Container,
    ) -> Result<(), Error> {
        let ContainerAdjustment { annotations, mounts, env, hooks, linux, rlimits, cdi_devices, args } =
            asked;
        let mut asking = Asking { owners: &mut self.owners, container: container.id.clone(), plugin };
        let (asking, wanted) = (&mut asking, &mut self.adjust);
        keyed::map(
            asking,
            Field::Annotations,
            annotations,
            &mut container.annotations,
            &mut wanted.annotations,
        )?;
        keyed::list(
            asking,
            Field::Mounts,
            mounts,
            |m| &m.destination,
            &mut container.mounts,
            &mut wanted.mounts,
        )?;
        let mut seen: Vec<KeyValue> = container.env.iter().map(|line| variable(line)).collect();
        keyed::list(asking, Field::Env, env, |e| &e.key, &mut seen, &mut wanted.env)?;
        container.env = seen.into_iter().map(|e| format!("{}={}", e.key, e.value)).collect();
        adjust_args(asking, args, &mut container.args, &mut wanted.args)?;
        if let Some(hooks) = hooks.filter(|hooks| *hooks != Hooks::default()) {
            asking.owners.share(&asking.container, (Field::Hooks, None), plugin);
            append(container.hooks.get_or_insert_default(), &hooks);
            append(wanted.hooks.get_or_insert_default(), &hooks);
        }
        for limit in rlimits {
            asking.claim(&[(Field::Rlimits, Some(&limit.kind))])?;
            container.rlimits.retain(|old| old.kind != limit.kind);
            container.rlimits.push(limit.clone());
            wanted.rlimits.push(limit);
        }
        for device in cdi_devices {
            asking.claim(&[(Field::CdiDevices, Some(&device.name))])?;
            wanted.cdi_devices.push(device);
        }
        match linux {
            Some(linux) => adjust_linux(
                asking,
                linux,
                container.linux.get_or_insert_default(),
                wanted.linux.get_or_insert_default(),
            ),
            None => Ok(()),
        }
    }

    /// What `plugin` wants of other containers. `creating` is the one that cannot be changed so.
    pub(super) fn update(
        &mut self,
        plugin: &str,
        updates: Vec<ContainerUpdate>,
        creating: Option<&str>,
    ) -> Result<(), Error> {
        for update in updates {
            let id = update.container_id.clone();
            if creating == Some(&id) {
                return Err(Error::internal(format!(
                    "NRI plugin {plugin:?} wants container {id} updated while it is being created: it has to be \
                     adjusted"
                )));
            }
            let asked = update.linux.and_then(|linux| linux.resources).unwrap_or_default();
            let mut asking = Asking { owners: &mut self.owners, container: id.clone(), plugin };
            match asking.claim(&resources::claims(&asked)) {
                Err(_) if update.ignore_failure => continue,
                claimed => claimed?,
            }
            let known = self.updates.entry(id.clone()).or_insert_with(|| ContainerUpdate {
                container_id: id,
                linux: None,
                ignore_failure: update.ignore_failure,
            });
            known.ignore_failure &= update.ignore_failure;
            overlay(known.linux.get_or_insert_default().resources.get_or_insert_default(), &asked);
        }
        Ok(())
    }
}

fn variable(line: &str) -> KeyValue {
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    KeyValue { key: key.to_owned(), value: value.to_owned() }
}

/// An empty first argument says that another plugin's are replaced knowingly.
fn adjust_args(
    asking: &mut Asking<'_>,
    mut asked: Vec<String>,
    seen: &mut Vec<String>,
    wanted: &mut Vec<String>,
) -> Result<(), Error> {
    if asked.first().is_some_and(String::is_empty) {
        asking.clear(Field::Args, None);
        asked.remove(0);
    }
    if !asked.is_empty() {
        asking.claim(&[(Field::Args, None)])?;
        seen.clone_from(&asked);
        *wanted = asked;
    }
    Ok(())
}

fn append(into: &mut Hooks, from: &Hooks) {
    for (into, from) in [
        (&mut into.prestart, &from.prestart),
        (&mut into.create_runtime, &from.create_runtime),
        (&mut into.create_container, &from.create_container),
        (&mut into.start_container, &from.start_container),
        (&mut into.poststart, &from.poststart),
        (&mut into.poststop, &from.poststop),
    ] {
        into.extend(from.iter().cloned());
    }
}

fn adjust_linux(
    asking: &mut Asking<'_>,
    asked: LinuxContainerAdjustment,
    seen: &mut LinuxContainer,
    wanted: &mut LinuxContainerAdjustment,
) -> Result<(), Error> {
    keyed::list(asking, Field::Devices, asked.devices, |d| &d.path, &mut seen.devices, &mut wanted.devices)?;
    if let Some(limits) = asked.resources {
        asking.claim(&resources::claims(&limits))?;
        for into in [&mut seen.resources, &mut wanted.resources] {
            overlay(into.get_or_insert_default(), &limits);
        }
    }
    if !asked.cgroups_path.is_empty() {
        asking.claim(&[(Field::CgroupsPath, None)])?;
        seen.cgroups_path.clone_from(&asked.cgroups_path);
        wanted.cgroups_path = asked.cgroups_path;
    }
    let places = [Some(&mut seen.oom_score_adj), Some(&mut wanted.oom_score_adj)];
    asking.value(Field::OomScoreAdj, asked.oom_score_adj, places)?;
    let places = [Some(&mut seen.io_priority), Some(&mut wanted.io_priority)];
    asking.value(Field::IoPriority, asked.io_priority, places)?;
    let places = [Some(&mut seen.seccomp_policy), Some(&mut wanted.seccomp_policy)];
    asking.value(Field::SeccompPolicy, asked.seccomp_policy, places)?;
    let places = [Some(&mut seen.scheduler), Some(&mut wanted.scheduler)];
    asking.value(Field::Scheduler, asked.scheduler, places)?;
    asking.value(Field::MemoryPolicy, asked.memory_policy, [None, Some(&mut wanted.memory_policy)])?;
    keyed::list(
        asking,
        Field::Namespaces,
        asked.namespaces,
        |n| &n.kind,
        &mut seen.namespaces,
        &mut wanted.namespaces,
    )?;
    keyed::map(asking, Field::Sysctl, asked.sysctl, &mut seen.sysctl, &mut wanted.sysctl)?;
    keyed::map(asking, Field::NetDevices, asked.net_devices, &mut seen.net_devices, &mut wanted.net_devices)?;
    match asked.rdt {
        Some(rdt) => adjust_rdt(asking, rdt, [&mut seen.rdt, &mut wanted.rdt]),
        None => Ok(()),
    }
}

fn adjust_rdt(
    asking: &mut Asking<'_>,
    asked: LinuxRdt,
    places: [&mut Option<LinuxRdt>; 2],
) -> Result<(), Error> {
    if asked.remove {
        for field in [Field::RdtClosId, Field::RdtSchemata, Field::RdtEnableMonitoring] {
            asking.clear(field, None);
        }
    }
    let claims = [
        (asked.clos_id.is_some(), Field::RdtClosId),
        (asked.schemata.is_some(), Field::RdtSchemata),
        (asked.enable_monitoring.is_some(), Field::RdtEnableMonitoring),
    ];
    for (_, field) in claims.into_iter().filter(|(is_set, _)| *is_set) {
        asking.claim(&[(field, None)])?;
    }
    for place in places {
        let rdt = place.get_or_insert_default();
        if asked.remove {
            *rdt = LinuxRdt { remove: true, ..LinuxRdt::default() };
        }
        rdt.clos_id = asked.clos_id.clone().or(rdt.clos_id.take());
        rdt.schemata = asked.schemata.clone().or(rdt.schemata.take());
        rdt.enable_monitoring = asked.enable_monitoring.or(rdt.enable_monitoring);
    }
    Ok(())
}

/// What is wanted of the one container whose limits change: what was asked, and what plugins want over it.
pub(super) fn limits_of(collected: &Collected, id: &str, asked: &LinuxResources) -> LinuxResources {
    let mut limits = asked.clone();
    let linux = collected.updates.get(id).and_then(|update| update.linux.as_ref());
    if let Some(wanted) = linux.and_then(|linux| linux.resources.as_ref()) {
        overlay(&mut limits, wanted);
    }
    limits
}
