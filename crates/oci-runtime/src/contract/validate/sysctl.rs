//! Rules for `linux.sysctl`: only parameters that a namespace of the container's own has may be set.

use super::super::{Linux, NamespaceType, Spec};
use super::{Verdict, broken, text};

pub(super) fn check(spec: &Spec, linux: &Linux) -> Verdict {
    for (name, value) in &linux.sysctl {
        let field = format!("linux.sysctl.{name}");
        text(&field, value)?;
        let path = sysctl_path(name);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            let rule = "is no name of a parameter; write it as in net.ipv4.ip_forward";
            return Err(broken("linux.sysctl", name, rule));
        }
        match scope(&path) {
            None => {
                let rule = "belongs to the whole machine, not to a namespace; set it on the host";
                return Err(broken(&field, value, rule));
            }
            Some(kind) if linux.namespace(kind).is_none() => {
                let kind = kind.as_str();
                let rule =
                    format!("needs a {kind} namespace; add {{\"type\": \"{kind}\"}} to linux.namespaces");
                return Err(broken(&field, value, rule));
            }
            Some(_) => {}
        }
        for (parameter, field_name, field_value) in [
            ("kernel/hostname", "hostname", &spec.hostname),
            ("kernel/domainname", "domainname", &spec.domainname),
        ] {
            if path == parameter && !field_value.is_empty() && field_value != value {
                return Err(broken(&field, value, format!("contradicts {field_name}; remove one of them")));
            }
        }
    }
    Ok(())
}

/// The file of a parameter, under `/proc/sys`. As sysctl(8) has it, the separator that comes first decides, and the
/// other character is then part of a name: `net/ipv4/conf/eth0.100/forwarding`.
///
/// A name that [`validate`](super::validate) accepted never climbs out.
pub fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']).map(|i| name.as_bytes()[i]) {
        Some(b'.') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// The type of the namespaces that have the parameter `name` each; `None` if it is the machine's, or no name of one.
pub fn sysctl_scope(name: &str) -> Option<NamespaceType> {
    let path = sysctl_path(name);
    let climbs = path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0');
    if climbs { None } else { scope(&path) }
}

fn scope(name: &str) -> Option<NamespaceType> {
    match name {
        "kernel/msgmax"
        | "kernel/msgmnb"
        | "kernel/msgmni"
        | "kernel/sem"
        | "kernel/shmall"
        | "kernel/shmmax"
        | "kernel/shmmni"
        | "kernel/shm_rmid_forced"
        | "kernel/msg_next_id"
        | "kernel/sem_next_id"
        | "kernel/shm_next_id"
        | "kernel/auto_msgmni" => Some(NamespaceType::Ipc),
        "kernel/hostname" | "kernel/domainname" => Some(NamespaceType::Uts),
        _ if name.starts_with("fs/mqueue/") => Some(NamespaceType::Ipc),
        _ if name.starts_with("net/") => Some(NamespaceType::Network),
        _ if name.starts_with("user/max_") => Some(NamespaceType::User),
        _ => None,
    }
}
