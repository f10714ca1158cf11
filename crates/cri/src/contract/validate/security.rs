//! Users, namespaces, profiles and capabilities.

use kernel::capability::{CapSet, Capability as Known};

use super::text::{self, Verdict, absolute, inside, known, present, shown};
use super::{Error, Validate, profile};
use crate::contract::v1::{
    Capability, IdMapping, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, SeLinuxOption, SupplementalGroupsPolicy, UserNamespace,
};

/// The last uid and gid: what the specifications allow, half of the kernel's.
const LAST_ID: i64 = i32::MAX as i64;

impl Validate for LinuxSandboxSecurityContext {
    #[expect(deprecated, reason = "the old notation still comes from old callers")]
    fn validate(&self) -> Verdict {
        if let Some(options) = &self.namespace_options {
            options.validate().map_err(|e| e.within("namespace_options"))?;
            if options.pid() == NamespaceMode::Target {
                let rule = "TARGET is for containers; a pod has no container to share processes with yet";
                return Err(Error::invalid("namespace_options.pid", rule));
            }
        }
        inside("selinux_options", &self.selinux_options)?;
        set_id("run_as_user", &self.run_as_user)?;
        group("run_as_user", &self.run_as_group, self.run_as_user.is_some())?;
        groups(&self.supplemental_groups, self.supplemental_groups_policy)?;
        profile::seccomp(self.seccomp.as_ref(), &self.seccomp_profile_path)?;
        profile::apparmor(self.apparmor.as_ref(), "").map(drop)
    }
}

impl Validate for LinuxContainerSecurityContext {
    #[expect(deprecated, reason = "the old notation still comes from old callers")]
    fn validate(&self) -> Verdict {
        inside("capabilities", &self.capabilities)?;
        inside("namespace_options", &self.namespace_options)?;
        inside("selinux_options", &self.selinux_options)?;
        set_id("run_as_user", &self.run_as_user)?;
        text::line("run_as_username", &self.run_as_username)?;
        let by_name = !self.run_as_username.is_empty();
        if by_name && self.run_as_user.is_some() {
            let rule = format!("{} contradicts run_as_user; set one of them", shown(&self.run_as_username));
            return Err(Error::invalid("run_as_username", rule));
        }
        group("run_as_user or run_as_username", &self.run_as_group, by_name || self.run_as_user.is_some())?;
        groups(&self.supplemental_groups, self.supplemental_groups_policy)?;
        text::each_text("masked_paths", &self.masked_paths, absolute)?;
        text::each_text("readonly_paths", &self.readonly_paths, absolute)?;
        profile::seccomp(self.seccomp.as_ref(), &self.seccomp_profile_path)?;
        profile::apparmor(self.apparmor.as_ref(), &self.apparmor_profile).map(drop)
    }
}

/// The kernel's number of a user or a group.
pub(crate) fn id(field: &str, value: i64) -> Result<u32, Error> {
    let is_id = (0..=LAST_ID).contains(&value);
    let number = u32::try_from(value).ok().filter(|_| is_id);
    number.ok_or_else(|| Error::invalid(field, format!("{value} is no id; give 0 to {LAST_ID}")))
}

fn set_id(field: &str, value: &Option<Int64Value>) -> Verdict {
    value.as_ref().map_or(Ok(()), |value| id(field, value.value).map(drop))
}

fn group(user: &str, value: &Option<Int64Value>, has_user: bool) -> Verdict {
    match value {
        Some(group) if !has_user => {
            let rule = format!("{} needs a user; set {user}, too", group.value);
            Err(Error::invalid("run_as_group", rule))
        }
        _ => set_id("run_as_group", value),
    }
}

fn groups(groups: &[i64], policy: i32) -> Verdict {
    for (at, group) in groups.iter().enumerate() {
        id("", *group).map_err(|e| e.within(&format!("supplemental_groups[{at}]")))?;
    }
    known::<SupplementalGroupsPolicy>("supplemental_groups_policy", policy).map(drop)
}

impl Validate for NamespaceOption {
    fn validate(&self) -> Verdict {
        for (field, number) in [("network", self.network), ("ipc", self.ipc)] {
            let mode = known::<NamespaceMode>(field, number)?;
            if !matches!(mode, NamespaceMode::Pod | NamespaceMode::Node) {
                let rule = format!(
                    "{} is not possible, a pod has one of these; ask for POD or NODE",
                    mode.as_str_name()
                );
                return Err(Error::invalid(field, rule));
            }
        }
        let is_target = known::<NamespaceMode>("pid", self.pid)? == NamespaceMode::Target;
        if is_target {
            present("target_id", &self.target_id)?;
        } else if !self.target_id.is_empty() {
            let rule =
                format!("{} is no one's target; set pid to TARGET or leave it out", shown(&self.target_id));
            return Err(Error::invalid("target_id", rule));
        }
        inside("userns_options", &self.userns_options)
    }
}

impl Validate for UserNamespace {
    fn validate(&self) -> Verdict {
        let mode = known::<NamespaceMode>("mode", self.mode)?;
        for (field, mappings) in [("uids", &self.uids), ("gids", &self.gids)] {
            match mode {
                NamespaceMode::Pod => one_range(field, mappings)?,
                NamespaceMode::Node if mappings.is_empty() => {}
                NamespaceMode::Node => {
                    let rule =
                        "maps ids though the user namespace is the host's; leave it out or set mode to POD";
                    return Err(Error::invalid(field, rule));
                }
                NamespaceMode::Container | NamespaceMode::Target => {
                    let rule = format!("{} is not possible; ask for POD or NODE", mode.as_str_name());
                    return Err(Error::invalid("mode", rule));
                }
            }
        }
        Ok(())
    }
}

/// One range that begins with the container's root.
fn one_range(field: &str, mappings: &[IdMapping]) -> Verdict {
    let [mapping] = mappings else {
        let rule = format!("has {} ranges; give one, from the container's 0 on", mappings.len());
        return Err(Error::invalid(field, rule));
    };
    mapping.validate().map_err(|e| e.within(&format!("{field}[0]")))?;
    if mapping.container_id != 0 {
        let rule = format!("{} leaves the container's root unmapped; begin with 0", mapping.container_id);
        return Err(Error::invalid(format!("{field}[0].container_id"), rule));
    }
    Ok(())
}

impl Validate for IdMapping {
    fn validate(&self) -> Verdict {
        if self.length == 0 {
            return Err(Error::invalid("length", "is 0; map one id at least"));
        }
        for (field, first) in [("host_id", self.host_id), ("container_id", self.container_id)] {
            // The last number of all is the kernel's own, for "no id".
            if first.checked_add(self.length).is_none() {
                let rule =
                    format!("{first} and {} ids from there on are more than there are ids", self.length);
                return Err(Error::invalid(field, rule));
            }
        }
        Ok(())
    }
}

impl Validate for SeLinuxOption {
    fn validate(&self) -> Verdict {
        for (field, value) in
            [("user", &self.user), ("role", &self.role), ("type", &self.r#type), ("level", &self.level)]
        {
            if !value.is_empty() {
                text::word(field, value)?;
            }
            if field != "level" && value.contains(':') {
                let rule = "is more than one part of a label; a level alone has a ':'";
                return Err(Error::invalid(field, format!("{} {rule}", shown(value))));
            }
        }
        Ok(())
    }
}

impl Validate for Capability {
    fn validate(&self) -> Verdict {
        capabilities("add_capabilities", &self.add_capabilities)?;
        capabilities("drop_capabilities", &self.drop_capabilities)?;
        match capabilities("add_ambient_capabilities", &self.add_ambient_capabilities)? {
            (false, _) => Ok(()),
            (true, _) => {
                let rule = "has ALL in it, which are not all a container's; name each";
                Err(Error::invalid("add_ambient_capabilities", rule))
            }
        }
    }
}

/// Whether `ALL` is in a list of capabilities, and the set of the others.
pub(crate) fn capabilities(field: &str, names: &[String]) -> Result<(bool, CapSet), Error> {
    let (mut all, mut set) = (false, CapSet::EMPTY);
    for (at, name) in names.iter().enumerate() {
        match Known::from_loose_name(name) {
            Some(capability) => set.insert(capability),
            None if name.eq_ignore_ascii_case("all") => all = true,
            None => {
                let rule = format!("{} is no capability; write ALL or a name as in NET_ADMIN", shown(name));
                return Err(Error::invalid(format!("{field}[{at}]"), rule));
            }
        }
    }
    Ok((all, set))
}
