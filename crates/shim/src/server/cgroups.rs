//! Where a container's processes are counted and limited: a cgroup of its own making, or a unit of systemd's.

use std::path::Path;

use kernel::cgroup::{Cgroup, Limits};
use oci_runtime::Created;
use oci_runtime::contract::Spec;
use oci_runtime::systemd::{self, Scope, Unit};

use super::connection::Refusal;
use super::container::refusal;
use crate::protocol::Code;

#[derive(Debug)]
pub(super) enum Place {
    /// That of this process.
    Here,
    /// A cgroup that is there.
    Group(Cgroup),
    /// A unit: a scope comes to be with its first process.
    Unit(Unit, Option<Cgroup>),
}

impl Place {
    /// What `linux.cgroupsPath` asks for: nothing, a path, or `slice:prefix:name`.
    pub(super) fn of(spec: &Spec, id: &str) -> Result<Self, Refusal> {
        let path = spec.linux.as_ref().map_or("", |l| l.cgroups_path.as_str());
        if path.is_empty() {
            return Ok(Self::Here);
        }
        if !path.starts_with('/') && path.matches(':').count() == 2 {
            return Ok(Self::Unit(Unit::parse(path, id, false).map_err(refusal)?, None));
        }
        let cgroup = Cgroup::at(Path::new(path));
        Ok(Self::Group(cgroup.map_err(|e| Refusal::new(Code::InvalidArgument, e.to_string()))?))
    }

    pub(super) fn cgroup(&self) -> Option<&Cgroup> {
        match self {
            Self::Here => None,
            Self::Group(cgroup) => Some(cgroup),
            Self::Unit(_, cgroup) => cgroup.as_ref(),
        }
    }

    /// It is a unit of systemd's.
    pub(super) fn is_unit(&self) -> bool {
        matches!(self, Self::Unit(..))
    }

    /// Somebody else has made it.
    pub(super) fn found(&mut self) {
        if let Self::Unit(unit, cgroup) = self {
            *cgroup = Cgroup::at(&unit.cgroup()).ok();
        }
    }

    /// Its path below the hierarchies' roots.
    pub(super) fn path(&self) -> String {
        self.cgroup().map_or_else(String::new, |c| c.path().display().to_string())
    }

    /// Makes what can be made before there is a process; returns the names of limits that nothing holds. After an error
    /// there is nothing that was not there before.
    pub(super) fn make(&self, limits: &Limits) -> Result<Vec<&'static str>, Refusal> {
        match self {
            Self::Group(cgroup) => {
                let was_there = cgroup.exists();
                let made = cgroup.create().and_then(|()| cgroup.apply(limits));
                if made.is_err() && !was_there {
                    let _ = kernel::cgroup::destroy(cgroup.path());
                }
                made.map_err(Refusal::internal)
            }
            Self::Here | Self::Unit(..) => Ok(Vec::new()),
        }
    }

    /// Connects to systemd, where that is to be asked.
    pub(super) fn prepare(&self, id: &str, spec: &Spec) -> Result<Option<Scope>, Refusal> {
        let Self::Unit(unit, _) = self else { return Ok(None) };
        let description = format!("container {id}");
        Scope::prepare(unit.clone(), false, &description, &spec.annotations).map(Some).map_err(refusal)
    }

    /// Puts a process that is held into its unit, and lets it go on.
    pub(super) fn place(
        &mut self,
        scope: Scope,
        created: &mut Created,
        limits: &Limits,
    ) -> Result<Vec<&'static str>, Refusal> {
        let (cgroup, missing) = match scope.place(created.pid(), limits) {
            Err(oci_runtime::Error::Systemd(error)) if error.is_taken() => {
                // It is another's: whoever takes back what this container had must not end that.
                *self = Self::Here;
                return Err(Refusal::new(Code::AlreadyExists, error.to_string()));
            }
            Err(error) => {
                // However far it came.
                self.destroy();
                return Err(refusal(error));
            }
            Ok(placed) => placed,
        };
        if let Self::Unit(_, known) = self {
            *known = Some(cgroup);
        }
        created.release().map_err(refusal)?;
        Ok(missing)
    }

    /// Changes limits.
    pub(super) fn update(&self, limits: &Limits) -> Result<Vec<&'static str>, Refusal> {
        match self {
            Self::Unit(unit, Some(cgroup)) => {
                systemd::update(&unit.name, false, cgroup, limits).map_err(refusal)
            }
            Self::Group(cgroup) => cgroup.apply(limits).map_err(Refusal::internal),
            Self::Here | Self::Unit(_, None) => {
                Err(Refusal::new(Code::FailedPrecondition, "the container has no cgroup of its own"))
            }
        }
    }

    /// Ends what is in it and takes it away. Best effort: whoever made the container has a record of it and hears of
    /// errors.
    pub(super) fn destroy(&mut self) {
        match self {
            Self::Here => {}
            Self::Group(cgroup) => drop(kernel::cgroup::destroy(cgroup.path())),
            Self::Unit(unit, cgroup) => {
                drop(systemd::remove(&unit.name, false, cgroup.as_ref().map(Cgroup::path)));
                *cgroup = None;
            }
        }
    }

    /// Takes away what systemd remembers of it; a cgroup of our own making is its record's.
    pub(super) fn forget(&mut self) {
        if matches!(self, Self::Unit(..)) {
            self.destroy();
        }
    }

    /// A new one in place of the old, for the next run: a cgroup that was killed takes no newborn process.
    pub(super) fn renew(&mut self, limits: &Limits) -> Result<(), Refusal> {
        match self {
            Self::Here => Ok(()),
            Self::Group(cgroup) => {
                cgroup.kill().and_then(|()| cgroup.remove()).map_err(Refusal::internal)?;
                self.make(limits).map(drop)
            }
            Self::Unit(unit, cgroup) => {
                let path = cgroup.as_ref().map(Cgroup::path);
                systemd::remove(&unit.name, false, path).map_err(refusal)?;
                *cgroup = None;
                Ok(())
            }
        }
    }
}

/// Limits that nothing on this machine holds, as warnings.
pub(super) fn warnings(missing: &[&str]) -> Vec<String> {
    let warn = |name: &&str| format!("cannot limit {name}: no cgroup controller of this machine does");
    missing.iter().map(warn).collect()
}
