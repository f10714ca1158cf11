//! What the specification allows and an operator should hear of.

use kernel::capability::Capability;

use super::super::{Capabilities, Spec};

/// Remarks about a valid configuration: deprecated forms, and capabilities that no kernel has.
pub fn warnings(spec: &Spec) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, mount) in spec.mounts.iter().enumerate().filter(|(_, mount)| !mount.destination.starts_with('/'))
    {
        let path = &mount.destination;
        warnings.push(format!(
            "mounts[{i}].destination is {path:?}: relative paths are deprecated; write \"/{path}\""
        ));
    }
    if let Some(capabilities) = spec.process.as_ref().and_then(|process| process.capabilities.as_ref()) {
        unknown_capabilities(capabilities, &mut warnings);
    }
    if spec.hooks.as_ref().is_some_and(|hooks| !hooks.prestart.is_empty()) {
        warnings.push("hooks.prestart is deprecated: use createRuntime".to_owned());
    }
    let resources = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    for (i, rule) in resources.iter().flat_map(|resources| resources.devices.iter().enumerate()) {
        if let Some(letter) = rule.access.chars().find(|letter| !matches!(letter, 'r' | 'w' | 'm')) {
            warnings.push(format!(
                "linux.resources.devices[{i}].access is {:?}: {letter:?} has no effect; give letters of r, w and m",
                rule.access
            ));
        }
    }
    let memory = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()?.memory);
    for (field, given) in [
        ("kernel", memory.is_some_and(|memory| memory.kernel.is_some())),
        ("kernelTCP", memory.is_some_and(|memory| memory.kernel_tcp.is_some())),
    ] {
        if given {
            warnings.push(format!(
                "linux.resources.memory.{field} has no effect: the kernel no longer has this limit"
            ));
        }
    }
    warnings
}

fn unknown_capabilities(sets: &Capabilities, warnings: &mut Vec<String>) {
    for (field, names) in [
        ("bounding", &sets.bounding),
        ("effective", &sets.effective),
        ("inheritable", &sets.inheritable),
        ("permitted", &sets.permitted),
        ("ambient", &sets.ambient),
    ] {
        for name in names.iter().filter(|name| Capability::from_name(name).is_none()) {
            warnings
                .push(format!("process.capabilities.{field} names {name:?}, which no kernel has: ignored"));
        }
    }
}
