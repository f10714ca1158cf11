//! Options of pods for Windows, and what each operating system cannot have.

use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields};
use serde_json::{Map, Value};

/// What is wrong with the options for Windows of a security context.
pub(super) fn check_options(errors: &mut FieldErrors, at: &Path, options: Option<&Value>) {
    const SPEC_MAX_KIB: usize = 64;
    let Some(options) = options else { return };
    if let Some(name) = options.maybe("gmsaCredentialSpecName") {
        errors.malformed(at, "gmsaCredentialSpecName", name, names::dns_subdomain(name, false));
    }
    if let Some(spec) = options.maybe("gmsaCredentialSpec") {
        let path = at.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.invalid(&path, spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.len() > SPEC_MAX_KIB * 1024 {
            errors.invalid(&path, spec, format!("gmsaCredentialSpec size must be under {SPEC_MAX_KIB} KiB"));
        }
    }
    if let Some(name) = options.maybe("runAsUserName") {
        for rule in user_name(name) {
            errors.invalid(&at.child("runAsUserName"), name, rule);
        }
    }
}

/// What is wrong with `domain\user`.
fn user_name(name: &str) -> Vec<&'static str> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string"];
    }
    if name.bytes().any(|byte| byte.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters"];
    }
    let mut parts = name.split('\\');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if third.is_some() {
        return vec!["runAsUserName cannot contain more than one backslash"];
    }
    let (domain, user) = match second {
        Some(user) => (Some(first), user),
        None => (None, first),
    };
    let mut rules = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= 256) {
        rules.push("runAsUserName's Domain length must be under 256 characters");
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns(domain)) {
        rules.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    match user.len() {
        0 => rules.push("runAsUserName's User cannot be empty"),
        1..=104 => {}
        _ => rules.push("runAsUserName's User length must not be longer than 104 characters"),
    }
    if !user.is_empty() && user.bytes().all(|byte| matches!(byte, b'.' | b' ')) {
        rules.push("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        rules.push(r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#);
    }
    rules
}

fn is_net_bios(domain: &str) -> bool {
    let refused = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    (1..=15).contains(&domain.chars().count()) && !domain.contains(refused) && !domain.starts_with('.')
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let ends = !label.starts_with('-') && !label.ends_with('-');
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && ends && inner
    })
}

/// Containers that are processes of the host: all of a pod or none.
pub(super) fn check_host_process(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    let of = |owner: Option<&Value>| {
        owner.field("securityContext").field("windowsOptions").and_then(|options| options.flag("hostProcess"))
    };
    let pod = spec.field("securityContext").field("windowsOptions").flag("hostProcess");
    let (mut all, mut host) = (0, 0);
    for (at, container) in super::all_containers(path, spec) {
        all += 1;
        let own = of(Some(container));
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let rule = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let at = at.child("securityContext").child("windowsOptions").child("hostProcess");
            errors.invalid(&at, own, rule);
        }
        if own.or(pod) == Some(true) {
            host += 1;
        }
    }
    if host == 0 {
        return;
    }
    if host != all {
        let rule =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(path, "", rule);
    }
    if !spec.is("hostNetwork") {
        let rule = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&path.child("hostNetwork"), false, rule);
    }
}

/// `os`, and what a pod that names one cannot have.
pub(super) fn check_os(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    let Some(os) = spec.field("os") else { return };
    match os.text("name") {
        "" => errors.required(&path.child("os").child("name"), ""),
        "linux" => check_linux(errors, path, spec),
        "windows" => check_windows(errors, path, spec),
        other => errors.not_supported(&path.child("os"), other, &["linux", "windows"]),
    }
}

fn check_linux(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    const RULE: &str = "windows options cannot be set for a linux pod";
    if spec.field("securityContext").has("windowsOptions") {
        errors.forbidden(&path.child("securityContext").child("windowsOptions"), RULE);
    }
    for (at, container) in super::all_containers(path, spec) {
        if container.field("securityContext").has("windowsOptions") {
            errors.forbidden(&at.child("securityContext").child("windowsOptions"), RULE);
        }
    }
}

fn check_windows(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    const RULE: &str = "cannot be set for a windows pod";
    /// Fields of the spec stand among those of the context: Kubernetes keeps them together.
    const POD: &[(&str, bool)] = &[
        ("appArmorProfile", true),
        ("seLinuxOptions", true),
        ("hostUsers", false),
        ("hostPID", false),
        ("hostIPC", false),
        ("seccompProfile", true),
        ("fsGroup", true),
        ("fsGroupChangePolicy", true),
        ("sysctls", true),
        ("shareProcessNamespace", false),
        ("runAsUser", true),
        ("runAsGroup", true),
        ("supplementalGroups", true),
        ("supplementalGroupsPolicy", true),
        ("seLinuxChangePolicy", true),
    ];
    const CONTAINER: &[&str] = &[
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for (field, in_context) in POD {
        let value = if *in_context { spec.field("securityContext").field(field) } else { spec.field(field) };
        let set = match value {
            Some(Value::Bool(value)) => *value || matches!(*field, "hostUsers" | "shareProcessNamespace"),
            Some(Value::Array(list)) => !list.is_empty(),
            other => other.is_some(),
        };
        if set {
            let at = if *in_context { path.child("securityContext") } else { path.clone() };
            errors.forbidden(&at.child(field), RULE);
        }
    }
    for (at, container) in super::all_containers(path, spec) {
        for field in CONTAINER.iter().filter(|field| container.field("securityContext").has(field)) {
            errors.forbidden(&at.child("securityContext").child(field), RULE);
        }
    }
}
