//! What processes may: security contexts of pods and containers, sysctls, profiles.

use super::volumes::descending;
use super::windows;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const PROFILES: &[&str] = &["Localhost", "RuntimeDefault", "Unconfined"];

/// What is wrong with the security context of a container.
pub(super) fn check_container(errors: &mut FieldErrors, at: &Path, context: &Value, host_users: bool) {
    ids(errors, at, context, &["runAsUser", "runAsGroup"]);
    if let Some(mount) = context.maybe("procMount") {
        errors.choice(at, context, "procMount", &["Default", "Unmasked"], false);
        if host_users && mount == "Unmasked" {
            errors.invalid(&at.child("procMount"), mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(errors, &at.child("seccompProfile"), context.field("seccompProfile"));
    if context.flag("allowPrivilegeEscalation") == Some(false) {
        if context.is("privileged") {
            let rule = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.invalid_inside(at, "SecurityContext", context, rule);
        }
        for _ in context.field("capabilities").texts("add").filter(|name| *name == "CAP_SYS_ADMIN") {
            let rule = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.invalid_inside(at, "SecurityContext", context, rule);
        }
    }
    windows::check_options(errors, &at.child("windowsOptions"), context.field("windowsOptions"));
    apparmor(errors, &at.child("appArmorProfile"), context.field("appArmorProfile"));
}

fn ids(errors: &mut FieldErrors, at: &Path, context: &Value, fields: &[&str]) {
    for field in fields {
        let Some(id) = context.int(field) else { continue };
        for detail in names::numeric_id(id) {
            errors.invalid(&at.child(field), id, detail);
        }
    }
}

/// What is wrong with the security context of a pod.
pub(super) fn check_pod(errors: &mut FieldErrors, at: &Path, context: &Value, spec: &Map<String, Value>) {
    ids(errors, at, context, &["fsGroup", "runAsUser", "runAsGroup"]);
    for (index, group) in context.list("supplementalGroups").iter().enumerate() {
        let group = group.as_i64().unwrap_or(0);
        for detail in names::numeric_id(group) {
            errors.invalid(&at.child("supplementalGroups").index(index), group, detail);
        }
    }
    if spec.is("shareProcessNamespace") && spec.is("hostPID") {
        let rule = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&at.child("shareProcessNamespace"), true, rule);
    }
    sysctls(errors, &at.child("sysctls"), context.list("sysctls"), spec);
    errors.choice(at, context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"], false);
    seccomp(errors, &at.child("seccompProfile"), context.field("seccompProfile"));
    windows::check_options(errors, &at.child("windowsOptions"), context.field("windowsOptions"));
    apparmor(errors, &at.child("appArmorProfile"), context.field("appArmorProfile"));
    errors.choice(at, context, "supplementalGroupsPolicy", &["Merge", "Strict"], false);
    // Other policies need a switch of Kubernetes that is off.
    errors.choice(at, context, "seLinuxChangePolicy", &["Recursive"], false);
}

fn sysctls(errors: &mut FieldErrors, path: &Path, sysctls: &[Value], spec: &Map<String, Value>) {
    const FORM: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut names = BTreeSet::new();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let name = sysctl.text("name");
        let at = path.index(index).child("name");
        if name.is_empty() {
            errors.required(&at, "");
        } else if !is_sysctl(name) {
            errors.invalid(&at, name, format!("must have at most 253 characters and match regex {FORM}"));
        } else if names.contains(name) {
            errors.duplicate(&at, name);
        }
        names.insert(name);
        let (net, ipc) = sysctl_namespaces(name);
        if net && spec.is("hostNetwork") {
            errors.invalid(&at, name, "may not be specified when 'hostNetwork' is true");
        } else if ipc && spec.is("hostIPC") {
            errors.invalid(&at, name, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let ends =
            |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let inner =
            |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(inner)
    };
    name.len() <= 253 && name.split(['.', '/']).all(part)
}

/// Whether a sysctl belongs to the network namespace, and whether to the IPC namespace.
fn sysctl_namespaces(name: &str) -> (bool, bool) {
    // With slashes as separators dots are part of a name: `net/ipv4/conf/eth0.1`.
    let dotted = match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    };
    let base = dotted.split('*').next().unwrap_or_default();
    let ipc = matches!(
        base,
        "kernel.sem"
            | "kernel.shmall"
            | "kernel.shmmax"
            | "kernel.shmmni"
            | "kernel.shm_rmid_forced"
            | "kernel.shm"
            | "kernel.msgmax"
            | "kernel.msgmnb"
            | "kernel.msgmni"
            | "kernel.msg"
    );
    (base.starts_with("net."), ipc || base.starts_with("fs.mqueue."))
}

fn seccomp(errors: &mut FieldErrors, at: &Path, profile: Option<&Value>) {
    let Some(profile) = profile else { return };
    match profile.text("type") {
        "" => errors.required(&at.child("type"), "type is required when seccompProfile is set"),
        kind if PROFILES.contains(&kind) => {}
        kind => errors.not_supported(&at.child("type"), kind, PROFILES),
    }
    let path = at.child("localhostProfile");
    match (profile.text("type") == "Localhost", profile.maybe("localhostProfile")) {
        (true, None) => errors.required(&path, "must be set when seccomp type is Localhost"),
        (true, Some(file)) => descending(errors, &path, file),
        (false, Some(_)) => {
            let rule = "can only be set when seccomp type is Localhost";
            errors.invalid_inside(&path, "SeccompProfile", profile, rule);
        }
        (false, None) => {}
    }
}

fn apparmor(errors: &mut FieldErrors, at: &Path, profile: Option<&Value>) {
    const PATH_MAX: usize = 4095;
    let Some(profile) = profile else { return };
    let path = at.child("localhostProfile");
    let file = profile.maybe("localhostProfile");
    match profile.text("type") {
        "Localhost" => {
            let Some(file) = file else {
                errors.required(&path, "must be set when AppArmor type is Localhost");
                return;
            };
            if file.trim() != file {
                errors.invalid(&path, file, "must not be padded with whitespace");
            } else if file.is_empty() {
                errors.required(&path, "must be set when AppArmor type is Localhost");
            }
            if file.len() > PATH_MAX {
                errors.push(FieldError::too_long(&path, PATH_MAX));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if let Some(file) = file {
                errors.invalid(&path, file, "can only be set when AppArmor type is Localhost");
            }
        }
        "" => errors.required(&at.child("type"), "type is required when appArmorProfile is set"),
        kind => errors.not_supported(&at.child("type"), kind, PROFILES),
    }
}

/// What a pod with users of its own cannot share with the host.
pub(super) fn check_host_users(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    const RULE: &str = "when `hostUsers` is false";
    if spec.flag("hostUsers") != Some(false) {
        return;
    }
    for (field, told) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.is(field) {
            errors.forbidden(&path.child(told), RULE);
        }
    }
    for (at, container) in super::all_containers(path, spec) {
        if !container.list("volumeDevices").is_empty() {
            errors.forbidden(&at.child("volumeDevices"), RULE);
        }
    }
}
