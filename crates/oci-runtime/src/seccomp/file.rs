//! Profiles in files, as Docker, containerd and podman take them: the rules of `config.json`, and beside them what depends
//! on the container's capabilities, the machine and its kernel.

use kernel::arch::Arch;
use kernel::capability::{CapSet, Capability};
use serde::Deserialize;

use crate::contract::seccomp::{self as oci, Action, Arg, Flag, Seccomp, Syscall};
use crate::contract::{self, check_seccomp, document};

/// What a profile's rules may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// The capabilities in the container's bounding set.
    pub capabilities: CapSet,
    /// The machine.
    pub native: Arch,
    /// The kernel's version, as in `6.1`.
    pub kernel: (u32, u32),
}

/// Why a file is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not JSON, or a field does not have the type it has to.
    #[error(transparent)]
    Read(contract::Error),
    /// A field breaks a rule.
    #[error("{field} is {value}: {rule}")]
    Invalid {
        /// The field's path.
        field: String,
        /// Its value, as JSON would show it.
        value: String,
        /// The rule, and what to do to keep it.
        rule: String,
    },
}

impl Circumstances {
    /// Those of a container with these capabilities on this machine.
    pub fn here(capabilities: CapSet) -> Self {
        let release = rustix::system::uname();
        let kernel = version(&release.release().to_string_lossy()).unwrap_or_default();
        Self { capabilities, native: Arch::NATIVE, kernel }
    }
}

/// A profile's file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: Action,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<oci::Arch>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<Flag>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: oci::Arch,
    sub_architectures: Option<Vec<oci::Arch>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: Action,
    errno_ret: Option<u32>,
    args: Option<Vec<Arg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

/// When a rule counts. A condition that is not known could make the rule mean anything, so it is refused.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// The profile that a file's text is for a container in these circumstances.
///
/// # Errors
/// Which field is not what a profile has, or breaks a rule of the runtime specification.
///
/// ```
/// use kernel::capability::CapSet;
/// use oci_runtime::seccomp::{Circumstances, read_profile};
/// let text = br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
///     {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
///     {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}]}"#;
/// let rules = |capabilities| read_profile(text, &Circumstances::here(capabilities)).unwrap().syscalls.len();
/// assert_eq!((rules(CapSet::EMPTY), rules(CapSet::ALL)), (1, 2));
/// ```
pub fn read_profile(text: &[u8], circumstances: &Circumstances) -> Result<Seccomp, ProfileError> {
    let file: File = document(text, "the profile").map_err(ProfileError::Read)?;
    let architectures = architectures(file.architectures, file.arch_map, circumstances.native)?;
    let mut counts = Vec::new();
    let mut syscalls = Vec::new();
    for (index, rule) in file.syscalls.unwrap_or_default().into_iter().enumerate() {
        let field = format!("syscalls[{index}]");
        counts.push(rule.counts(&field, circumstances)?);
        syscalls.push(rule.into_syscall(&field)?);
    }
    let mut profile = Seccomp {
        default_action: file.default_action,
        default_errno_ret: file.default_errno_ret,
        architectures,
        flags: file.flags,
        listener_path: file.listener_path.unwrap_or_default(),
        listener_metadata: file.listener_metadata.unwrap_or_default(),
        syscalls,
    };
    // All of it, and only then what counts: a mistake is told wherever the container runs, at its place in the file.
    check_seccomp(&profile).map_err(in_file)?;
    let mut counts = counts.into_iter();
    profile.syscalls.retain(|_| counts.next().unwrap_or(true));
    Ok(profile)
}

fn in_file(error: contract::Error) -> ProfileError {
    match error {
        contract::Error::Invalid { field, value, rule } => {
            let field = field.strip_prefix("linux.seccomp.").map(str::to_owned).unwrap_or(field);
            ProfileError::Invalid { field, value, rule }
        }
        other => ProfileError::Read(other),
    }
}

/// The list, or what the map has for this machine.
fn architectures(
    list: Option<Vec<oci::Arch>>,
    map: Option<Vec<ArchMap>>,
    native: Arch,
) -> Result<Vec<oci::Arch>, ProfileError> {
    let (list, map) = (list.unwrap_or_default(), map.unwrap_or_default());
    if !list.is_empty() && !map.is_empty() {
        return Err(invalid("archMap", "given", "is another way to say architectures: give one of the two"));
    }
    if map.is_empty() {
        return Ok(list);
    }
    let own = map.into_iter().find(|entry| super::known(entry.architecture) == Some(native));
    Ok(own.map_or_else(Vec::new, |entry| {
        std::iter::once(entry.architecture).chain(entry.sub_architectures.unwrap_or_default()).collect()
    }))
}

impl Rule {
    fn counts(&self, field: &str, circumstances: &Circumstances) -> Result<bool, ProfileError> {
        if let Some(filter) = &self.excludes {
            let field = format!("{field}.excludes");
            let capabilities = filter.capabilities(&field)?;
            let any = |set: CapSet| !(set & circumstances.capabilities).is_empty();
            if capabilities.is_some_and(any)
                || filter.names(circumstances.native) == Some(true)
                || filter.kernel(&field)?.is_some_and(|least| circumstances.kernel >= least)
            {
                return Ok(false);
            }
        }
        let Some(filter) = &self.includes else { return Ok(true) };
        let field = format!("{field}.includes");
        let capabilities = filter.capabilities(&field)?;
        let all = |set: CapSet| set & circumstances.capabilities == set;
        Ok(capabilities.is_none_or(all)
            && filter.names(circumstances.native) != Some(false)
            && filter.kernel(&field)?.is_none_or(|least| circumstances.kernel >= least))
    }

    fn into_syscall(self, field: &str) -> Result<Syscall, ProfileError> {
        let names = match (self.name.filter(|name| !name.is_empty()), self.names.unwrap_or_default()) {
            (Some(name), names) if names.is_empty() => vec![name],
            (None, names) => names,
            (Some(name), _) => {
                let rule = "is the old form of names: give one of the two";
                return Err(invalid(&format!("{field}.name"), &name, rule));
            }
        };
        let args = self.args.unwrap_or_default();
        Ok(Syscall { names, action: self.action, errno_ret: self.errno_ret, args })
    }
}

impl Filter {
    /// The capabilities it names, if it names any. One that no kernel has is nobody's.
    fn capabilities(&self, field: &str) -> Result<Option<CapSet>, ProfileError> {
        let names = self.caps.as_deref().unwrap_or_default();
        let parse = |(index, name): (usize, &String)| {
            let rule = "is no capability: see capabilities(7)";
            Capability::from_loose_name(name)
                .ok_or_else(|| invalid(&format!("{field}.caps[{index}]"), name, rule))
        };
        let set = names.iter().enumerate().map(parse).collect::<Result<CapSet, _>>()?;
        Ok((!names.is_empty()).then_some(set))
    }

    /// Whether it names the machine, if it names any; by Go's names.
    fn names(&self, native: Arch) -> Option<bool> {
        let names = self.arches.as_deref().filter(|names| !names.is_empty())?;
        let own = match native {
            Arch::X86_64 => "amd64",
            Arch::X86 => "386",
            Arch::X32 => "x32",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
        };
        Some(names.iter().any(|name| name == own))
    }

    fn kernel(&self, field: &str) -> Result<Option<(u32, u32)>, ProfileError> {
        let Some(text) = self.min_kernel.as_deref().filter(|text| !text.is_empty()) else { return Ok(None) };
        let rule = "is no version of a kernel: write it as in 4.8";
        version(text).map(Some).ok_or_else(|| invalid(&format!("{field}.minKernel"), text, rule))
    }
}

/// The first two numbers of a version: `6.1` of `6.1.0-13-amd64`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some((major, minor[..digits].parse().ok()?))
}

fn invalid(field: &str, value: &str, rule: &str) -> ProfileError {
    ProfileError::Invalid { field: field.to_owned(), value: format!("{value:?}"), rule: rule.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, capabilities: CapSet, kernel: (u32, u32)) -> Result<Seccomp, ProfileError> {
        read_profile(text.as_bytes(), &Circumstances { capabilities, native: Arch::X86_64, kernel })
    }

    fn names(rules: &str, capabilities: CapSet) -> Vec<String> {
        let text = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {rules}}}"#);
        let profile = read(&text, capabilities, (5, 10)).unwrap();
        profile.syscalls.into_iter().flat_map(|rule| rule.names).collect()
    }

    #[test]
    fn rules_depend_on_capabilities_machines_and_kernels() {
        let rules = r#"[
            {"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
            {"names": ["b"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}},
            {"names": ["c"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["d"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"], "caps": null}},
            {"names": ["e"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
            {"names": ["f"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.11"}},
            {"names": ["g"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}, "excludes": {}},
            {"name": "h", "action": "SCMP_ACT_ALLOW", "args": null, "comment": "old"}]"#;
        let admin = CapSet::of(&[Capability::SysAdmin]);
        let both = CapSet::of(&[Capability::SysAdmin, Capability::Bpf]);
        assert_eq!(names(rules, CapSet::EMPTY), ["b", "d", "g", "h"]);
        assert_eq!(names(rules, admin), ["d", "g", "h"]);
        assert_eq!(names(rules, both), ["a", "d", "g", "h"]);
    }

    #[test]
    fn the_map_has_this_machines_architectures() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}]}"#;
        let profile = read(text, CapSet::EMPTY, (6, 1)).unwrap();
        assert_eq!(profile.architectures, [oci::Arch::X86_64, oci::Arch::X86, oci::Arch::X32]);
    }

    #[test]
    fn mistakes_are_named_where_they_are() {
        let rule = |text: &str| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                    {{"names": ["x"], "action": "SCMP_ACT_ALLOW", "excludes": {{"caps": ["CAP_CHOWN"]}}}}, {text}]}}"#
            )
        };
        let all = r#""names": ["y"], "action": "SCMP_ACT_ALLOW""#;
        for (text, named) in [
            ("{".to_owned(), "cannot read the profile"),
            (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#.to_owned(), "cannot read the profile: defaultAction"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
                    "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#
                    .to_owned(),
                "archMap is",
            ),
            (rule(r#"{"names": [], "action": "SCMP_ACT_ALLOW"}"#), "syscalls[1].names is []"),
            (rule(&format!(r#"{{"name": "z", {all}}}"#)), "syscalls[1].name is \"z\""),
            (
                rule(&format!(r#"{{{all}, "includes": {{"caps": ["FLY"]}}}}"#)),
                "syscalls[1].includes.caps[0] is",
            ),
            (
                rule(&format!(r#"{{{all}, "excludes": {{"minKernel": "new"}}}}"#)),
                "syscalls[1].excludes.minKernel is",
            ),
            (rule(&format!(r#"{{{all}, "includes": {{"moon": "full"}}}}"#)), "syscalls[1].includes"),
        ] {
            let error = read(&text, CapSet::of(&[Capability::Chown]), (6, 1)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}: {named}");
        }
    }

    #[test]
    fn versions() {
        assert_eq!(version("6.18.44"), Some((6, 18)));
        assert_eq!(version("6.1-rc2"), Some((6, 1)));
        assert_eq!((version("6"), version("x.1"), version("6.x")), (None, None, None));
    }
}
