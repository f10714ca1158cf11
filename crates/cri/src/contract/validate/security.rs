//! Users, namespaces, profiles and capabilities.

use kernel::capability::Capability as Known;

use super::text::{self, Verdict, absolute, inside, known, present, shown};
use super::{Error, Validate};
use crate::contract::v1::security_profile::ProfileType;
use crate::contract::v1::{
    Capability, IdMapping, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy, UserNamespace,
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
        id("run_as_user", &self.run_as_user)?;
        group("run_as_user", &self.run_as_group, self.run_as_user.is_some())?;
        groups(&self.supplemental_groups, self.supplemental_groups_policy)?;
        profile("seccomp", &self.seccomp, seccomp)?;
        profile("apparmor", &self.apparmor, apparmor)?;
        old_profile("seccomp_profile_path", &self.seccomp_profile_path, seccomp)
    }
}

impl Validate for LinuxContainerSecurityContext {
    #[expect(deprecated, reason = "the old notation still comes from old callers")]
    fn validate(&self) -> Verdict {
        inside("capabilities", &self.capabilities)?;
        inside("namespace_options", &self.namespace_options)?;
        inside("selinux_options", &self.selinux_options)?;
        id("run_as_user", &self.run_as_user)?;
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
        profile("seccomp", &self.seccomp, seccomp)?;
        profile("apparmor", &self.apparmor, apparmor)?;
        old_profile("seccomp_profile_path", &self.seccomp_profile_path, seccomp)?;
        old_profile("apparmor_profile", &self.apparmor_profile, apparmor)
    }
}

fn id(field: &str, value: &Option<Int64Value>) -> Verdict {
    match value {
        Some(id) if !(0..=LAST_ID).contains(&id.value) => {
            Err(Error::invalid(field, format!("{} is no id; give 0 to {LAST_ID}", id.value)))
        }
        _ => Ok(()),
    }
}

fn group(user: &str, value: &Option<Int64Value>, has_user: bool) -> Verdict {
    match value {
        Some(group) if !has_user => {
            let rule = format!("{} needs a user; set {user}, too", group.value);
            Err(Error::invalid("run_as_group", rule))
        }
        _ => id("run_as_group", value),
    }
}

fn groups(groups: &[i64], policy: i32) -> Verdict {
    if let Some((at, group)) = groups.iter().enumerate().find(|(_, group)| !(0..=LAST_ID).contains(*group)) {
        let rule = format!("{group} is no id; give 0 to {LAST_ID}");
        return Err(Error::invalid(format!("supplemental_groups[{at}]"), rule));
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
        }
        Ok(())
    }
}

/// What a profile on the node is named by.
type Reference = fn(&str, &str) -> Verdict;

/// A file; the prefix of the old notation is let pass, as other runtimes do.
fn seccomp(field: &str, reference: &str) -> Verdict {
    absolute(field, reference.strip_prefix("localhost/").unwrap_or(reference))
}

/// A profile's name.
fn apparmor(field: &str, reference: &str) -> Verdict {
    present(field, reference)?;
    text::line(field, reference)
}

fn profile(field: &str, profile: &Option<SecurityProfile>, reference: Reference) -> Verdict {
    let Some(profile) = profile else { return Ok(()) };
    let inner = format!("{field}.localhost_ref");
    let kind = known::<ProfileType>(&format!("{field}.profile_type"), profile.profile_type)?;
    if kind == ProfileType::Localhost {
        return reference(&inner, &profile.localhost_ref);
    }
    if profile.localhost_ref.is_empty() {
        return Ok(());
    }
    let rule =
        format!("{} is set though profile_type is {}", shown(&profile.localhost_ref), kind.as_str_name());
    Err(Error::invalid(inner, format!("{rule}; leave it out or set that to Localhost")))
}

fn old_profile(field: &str, value: &str, reference: Reference) -> Verdict {
    match value.strip_prefix("localhost/") {
        Some(name) => reference(field, name),
        None if matches!(value, "" | "unconfined" | "runtime/default" | "docker/default") => Ok(()),
        None => {
            let rule = "is no profile; write runtime/default, unconfined or localhost/ and what it is";
            Err(Error::invalid(field, format!("{} {rule}", shown(value))))
        }
    }
}

impl Validate for Capability {
    fn validate(&self) -> Verdict {
        let lists = [
            ("add_capabilities", &self.add_capabilities),
            ("drop_capabilities", &self.drop_capabilities),
            ("add_ambient_capabilities", &self.add_ambient_capabilities),
        ];
        for (field, names) in lists {
            let is_known =
                |name: &str| name.eq_ignore_ascii_case("all") || Known::from_loose_name(name).is_some();
            if let Some((at, name)) = names.iter().enumerate().find(|(_, name)| !is_known(name)) {
                let rule = format!("{} is no capability; write ALL or a name as in NET_ADMIN", shown(name));
                return Err(Error::invalid(format!("{field}[{at}]"), rule));
            }
        }
        Ok(())
    }
}
