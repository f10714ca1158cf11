//! A container's unit from its start to its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kernel::cgroup::{Cgroup, Layout, Limits, layout};

use super::{Error, Property, Systemd, Unit, from_annotations, of_limits, of_unit, unit};
use crate::Result;

/// A unit that is to be started for a process that is held (see [`Setup::held`](crate::Setup::held)).
#[derive(Debug)]
pub struct Scope {
    unit: Unit,
    user: bool,
    manager: Systemd,
    asked: Vec<Property>,
    layout: Layout,
    description: String,
}

impl Scope {
    /// Connects to systemd (of the machine, or the `user`'s own), whose answers come while the container's process is
    /// made. `annotations` are the container's: some are properties. `description` is to be nobody else's.
    pub fn prepare(
        unit: Unit,
        user: bool,
        description: &str,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let asked = from_annotations(annotations)?;
        let own = asked.iter().rfind(|property| property.name == "Description");
        let description = own.and_then(|own| own.value.as_text()).unwrap_or(description).to_owned();
        let manager = Systemd::connect(&unit.name, user)?;
        Ok(Self { unit, user, manager, asked, layout: layout()?, description })
    }

    /// What the unit will be described as, by which it can be told from somebody else's (see [`is_own`]).
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Starts the unit with the process `pid` in it, and writes the limits that systemd has no property for. Returns
    /// the cgroup, and the names of limits that no hierarchy holds.
    ///
    /// On an error, [`remove`] takes back what has come to be; but not if the unit is somebody else's
    /// ([`Error::is_taken`]).
    pub fn place(mut self, pid: i32, limits: &Limits) -> Result<(Cgroup, Vec<&'static str>)> {
        let limits = &within_reach(limits, self.user);
        let mut properties = of_unit(&self.unit, &self.description, pid, self.layout);
        properties.extend(of_limits(limits, self.layout, version(&mut self.manager, limits)?));
        // What somebody asks for by name has the last word.
        properties.append(&mut self.asked);
        self.manager.start(&properties)?;
        let cgroup = Cgroup::at(&self.path(pid)?)?;
        // What systemd does not know it has not made: most hierarchies of v1, and some controllers.
        let foreign = !limits.huge_pages.is_empty() || !limits.rdma.is_empty();
        if foreign || self.unit.is_slice() || self.layout != Layout::Unified {
            cgroup.create()?;
        }
        if self.unit.is_slice() {
            cgroup.add(pid)?;
        } else {
            cgroup.add_to_v1(pid)?;
        }
        let missing = cgroup.apply(limits)?;
        Ok((cgroup, missing))
    }

    /// Where the unit's cgroup is. Of a scope the process in it tells.
    fn path(&mut self, pid: i32) -> Result<PathBuf> {
        if self.unit.is_slice() {
            let manager = if self.user { self.manager.property("ControlGroup")? } else { String::new() };
            return Ok(Path::new(manager.trim_matches('/')).join(self.unit.cgroup()));
        }
        let path = unit::cgroup_of(pid)?;
        if path.file_name() == self.unit.cgroup().file_name() {
            return Ok(path);
        }
        let act = format!("start unit {}", self.unit.name);
        let found = format!("process {pid} is in cgroup /{} still", path.display());
        Err(Error::Answer { act, found }.into())
    }
}

/// Changes limits of a unit that is there.
pub fn update(unit: &str, user: bool, cgroup: &Cgroup, limits: &Limits) -> Result<Vec<&'static str>> {
    let mut limits = within_reach(limits, user);
    if limits.cpu_period.is_some() && limits.cpu_quota.is_none_or(|quota| quota == 0) {
        // systemd keeps a share of the time, which a new period leaves as it is: the quota would change.
        limits.cpu_quota = cgroup.cpu_quota();
    }
    let limits = &limits;
    let layout = layout()?;
    let mut manager = Systemd::connect(unit, user)?;
    let version = version(&mut manager, limits)?;
    let properties = of_limits(limits, layout, version);
    // On v1 systemd takes all devices away before it gives some: nobody is to run in between.
    let pause = layout != Layout::Unified && !limits.devices.is_empty() && !cgroup.is_frozen();
    if pause {
        cgroup.freeze(true)?;
    }
    let applied =
        manager.set(&properties).map_err(crate::Error::from).and_then(|()| Ok(cgroup.apply(limits)?));
    if pause {
        cgroup.freeze(false)?;
    }
    applied
}

/// Whether no unit is there that has another description. Where it is not known whether [`Scope::place`] was ever
/// answered, this tells whose the unit is.
pub fn is_own(unit: &str, user: bool, description: &str) -> Result<bool> {
    Ok(Systemd::connect(unit, user)?.description()?.is_none_or(|found| found == description))
}

/// Ends what is in the unit and takes it away, with its cgroup if that is known. All is tried; what is not there is
/// fine. The inverse of [`Scope::place`], however far that came.
///
/// # Errors
/// What went wrong with the cgroup, or else with systemd: where that cannot be reached ([`Error::is_unreachable`]), the
/// cgroup that was given is gone nevertheless, and a scope without one is dead to systemd.
pub fn remove(unit: &str, user: bool, cgroup: Option<&Path>) -> Result<()> {
    let manager = Systemd::connect(unit, user);
    let cgroup = cgroup.map(Cgroup::at).transpose()?;
    // Asked by systemd they would have 90 s to end.
    let killed = cgroup.as_ref().map_or(Ok(()), Cgroup::kill);
    let stopped = manager.and_then(|mut manager| manager.stop());
    let destroyed = cgroup.map_or(Ok(()), |cgroup| kernel::cgroup::destroy(cgroup.path()));
    killed?;
    destroyed?;
    Ok(stopped?)
}

/// A user may have no say over devices beyond the files' own permissions.
fn within_reach(limits: &Limits, user: bool) -> Limits {
    let devices = if user { Vec::new() } else { limits.devices.clone() };
    Limits { devices, ..limits.clone() }
}

/// Asked only where something depends on it: it is a round trip.
fn version(manager: &mut Systemd, limits: &Limits) -> Result<Option<u32>> {
    Ok(if limits.cpu_idle == Some(true) { Some(manager.version()?) } else { None })
}
