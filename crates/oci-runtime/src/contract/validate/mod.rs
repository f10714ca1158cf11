//! The rules of the specification that types cannot say, in the order of the document.
//!
//! The first field that breaks one is named, with its value and what to do. Nothing here looks at the machine:
//! what depends on it (is there such a controller, such a device) is found out by whoever needs it.

mod linux;
mod mappings;
mod process;
mod resources;
mod seccomp;
mod sysctl;
mod warning;

use serde::Serialize;

use super::{Error, Hooks, Mount, NamespaceType, Spec};

pub(crate) use seccomp::check as check_seccomp;
pub use sysctl::{sysctl_path, sysctl_scope};
pub use warning::warnings;

/// The outcome of a rule.
type Verdict = Result<(), Error>;

/// Checks a configuration against every rule of the specification.
///
/// # Errors
/// [`Error::Invalid`] names the first field that breaks a rule.
///
/// ```
/// use oci_runtime::contract::{parse, validate};
/// let spec = parse(br#"{"ociVersion": "1.3.0", "root": {"path": "r"}, "process": {"cwd": "srv", "args": ["a"]}}"#);
/// assert_eq!(validate(&spec.unwrap()).unwrap_err().field(), "process.cwd");
/// ```
pub fn validate(spec: &Spec) -> Verdict {
    version(&spec.oci_version)?;
    match &spec.root {
        None => return Err(broken("root", &(), "Linux containers have a root; set root.path")),
        Some(root) => path("root.path", &root.path)?,
    }
    if let Some(process) = &spec.process {
        process::check(process, "process")?;
    }
    names(spec)?;
    for (i, mount) in spec.mounts.iter().enumerate() {
        check_mount(spec, mount, &format!("mounts[{i}]"))?;
    }
    spec.hooks.as_ref().map_or(Ok(()), hooks)?;
    if spec.annotations.contains_key("") {
        return Err(broken("annotations", &"", "a key must not be empty; give it a name or remove it"));
    }
    spec.linux.as_ref().map_or(Ok(()), |linux| linux::check(spec, linux))
}

/// Checks the resources of an `update`, whose document is `linux.resources` alone.
///
/// # Errors
/// As [`validate`].
pub fn validate_resources(resources: &super::Resources) -> Verdict {
    resources::check(resources)
}

/// Checks the process of an `exec`, whose document is a process alone.
///
/// # Errors
/// As [`validate`].
pub fn validate_process(process: &super::Process) -> Verdict {
    process::check(process, "process")
}

/// The version is SemVer 2.0 and one of 1.x.
fn version(version: &str) -> Verdict {
    let (version_core, build) = version.split_once('+').map_or((version, None), |(core, b)| (core, Some(b)));
    let (core, pre) = version_core.split_once('-').map_or((version_core, None), |(core, p)| (core, Some(p)));
    let number = |n: &str| {
        n.bytes().all(|b| b.is_ascii_digit()) && (n == "0" || (!n.starts_with('0') && !n.is_empty()))
    };
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let tail = |t: Option<&str>| t.is_none_or(|t| t.split('.').all(word));
    let semver = core.split('.').count() == 3 && core.split('.').all(number) && tail(pre) && tail(build);
    if semver && core.starts_with("1.") {
        return Ok(());
    }
    Err(broken("ociVersion", version, "must be a semantic version 1.x.y; this runtime speaks 1.0.0 to 1.3.0"))
}

/// Host and domain name need a namespace to be in.
fn names(spec: &Spec) -> Verdict {
    for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        if name.is_empty() {
            continue;
        }
        if !has(spec, NamespaceType::Uts) {
            return Err(broken(
                field,
                name,
                "needs a uts namespace; add one to linux.namespaces or remove it",
            ));
        }
        if name.len() > 64 || name.contains('\0') {
            return Err(broken(
                field,
                name,
                "the kernel takes at most 64 bytes, none of them zero; shorten it",
            ));
        }
    }
    Ok(())
}

fn check_mount(spec: &Spec, mount: &Mount, field: &str) -> Verdict {
    path(&format!("{field}.destination"), &mount.destination)?;
    text(&format!("{field}.source"), &mount.source)?;
    text(&format!("{field}.type"), &mount.kind)?;
    for option in &mount.options {
        text(&format!("{field}.options"), option)?;
    }
    let propagation = |o: &String| {
        matches!(o.trim_start_matches('r'), "private" | "slave" | "unbindable" | "shared") || o == "remount"
    };
    if mount.kind.is_empty() && !mount.is_bind() && !mount.options.iter().any(propagation) {
        let rule = "a mount that is no bind mount has a type; name it, or add the option \"bind\"";
        return Err(broken(&format!("{field}.type"), "", rule));
    }
    if mount.is_bind() && mount.source.is_empty() {
        return Err(broken(&format!("{field}.source"), "", "a bind mount has a source; give its path"));
    }
    let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
    if mapped {
        let rule = "uidMappings and gidMappings come together; give both or none";
        if mount.uid_mappings.is_empty() {
            return Err(broken(&format!("{field}.uidMappings"), &mount.uid_mappings, rule));
        }
        if mount.gid_mappings.is_empty() {
            return Err(broken(&format!("{field}.gidMappings"), &mount.gid_mappings, rule));
        }
        mappings::check(&format!("{field}.uidMappings"), &mount.uid_mappings)?;
        mappings::check(&format!("{field}.gidMappings"), &mount.gid_mappings)?;
    } else if (mount.has("idmap") || mount.has("ridmap")) && !has(spec, NamespaceType::User) {
        let rule =
            "idmap without uidMappings takes the container's, which has no user namespace; give mappings";
        return Err(broken(&format!("{field}.options"), &mount.options, rule));
    }
    Ok(())
}

fn hooks(hooks: &Hooks) -> Verdict {
    for (kind, list) in hooks.kinds() {
        for (i, hook) in list.iter().enumerate() {
            let field = format!("hooks.{kind}[{i}]");
            absolute(&format!("{field}.path"), &hook.path)?;
            for (name, values) in [("args", &hook.args), ("env", &hook.env)] {
                values.iter().try_for_each(|value| text(&format!("{field}.{name}"), value))?;
            }
            if hook.timeout.is_some_and(|timeout| timeout <= 0) {
                let rule = "must be more than 0 seconds; remove it for no timeout";
                return Err(broken(&format!("{field}.timeout"), &hook.timeout, rule));
            }
        }
    }
    Ok(())
}

/// Does the container make or join a namespace of this type?
fn has(spec: &Spec, kind: NamespaceType) -> bool {
    spec.linux.as_ref().is_some_and(|linux| linux.namespace(kind).is_some())
}

/// The error for a field that breaks a rule.
fn broken<T: Serialize + ?Sized>(field: &str, value: &T, rule: impl Into<String>) -> Error {
    let mut value = serde_json::to_string(value).unwrap_or_default();
    if let Some((cut, _)) = value.char_indices().nth(160) {
        value.truncate(cut);
        value.push_str("...");
    }
    Error::Invalid { field: field.to_owned(), value, rule: rule.into() }
}

/// A string that the kernel will get has no zero byte in it.
fn text(field: &str, value: &str) -> Verdict {
    if value.contains('\0') {
        return Err(broken(field, value, "has a zero byte, at which the kernel would cut it; remove it"));
    }
    Ok(())
}

fn path(field: &str, value: &str) -> Verdict {
    if value.is_empty() {
        return Err(broken(field, value, "must be a path; name one"));
    }
    text(field, value)
}

fn absolute(field: &str, value: &str) -> Verdict {
    path(field, value)?;
    if value.starts_with('/') {
        return Ok(());
    }
    Err(broken(field, value, "must be an absolute path; start it with /"))
}

/// A list of CPUs or memory nodes: `0-3,7`.
fn id_list(field: &str, list: &str) -> Verdict {
    let number = |n: &str| n.parse::<u16>().ok().filter(|_| n.bytes().all(|b| b.is_ascii_digit()));
    let range = |part: &str| match part.split_once('-') {
        None => number(part).is_some(),
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
    };
    if list.is_empty() || list.split(',').all(|part| range(part.trim())) {
        return Ok(());
    }
    Err(broken(field, list, "must be a list of numbers and ranges; write it as in 0-3,7"))
}
