//! Sources that are disks and network file systems of others.

use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields};
use serde_json::Value;

pub(in crate::kinds::core) const ISCSI_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be \
                                                         under 64 characters if iscsi.initiatorName is specified.";

fn partition(errors: &mut FieldErrors, at: &Path, source: &Value) {
    if let Some(number) = source.int("partition").filter(|number| !(0..=255).contains(number)) {
        errors.invalid(&at.child("partition"), number, names::between(1, 255));
    }
}

pub(in crate::kinds::core) fn gce(errors: &mut FieldErrors, at: &Path, source: &Value) {
    errors.needs(at, source, "pdName");
    partition(errors, at, source);
}

pub(in crate::kinds::core) fn aws(errors: &mut FieldErrors, at: &Path, source: &Value) {
    errors.needs(at, source, "volumeID");
    partition(errors, at, source);
}

pub(in crate::kinds::core) fn nfs(errors: &mut FieldErrors, at: &Path, source: &Value) {
    errors.needs(at, source, "server");
    errors.needs(at, source, "path");
    let path = source.text("path");
    if !path.starts_with('/') {
        errors.invalid(&at.child("path"), path, "must be an absolute path");
    }
}

/// Whether name and portal are too long for the initiator that is named.
pub(in crate::kinds::core) fn one_colon_too_long(name: &str, source: &Value) -> bool {
    source.has("initiatorName") && name.len() + 1 + source.text("targetPortal").len() > 64
}

/// What is wrong with an iSCSI source; `prefixes` is told where a name begins with none of the three.
pub(in crate::kinds::core) fn iscsi(errors: &mut FieldErrors, at: &Path, source: &Value, prefixes: &str) {
    errors.needs(at, source, "targetPortal");
    let name = source.text("iqn");
    if name.is_empty() {
        errors.required(&at.child("iqn"), "");
    } else if let Some(rule) = iscsi_name(name, prefixes) {
        errors.invalid(&at.child("iqn"), name, rule);
    }
    if let Some(lun) = source.int("lun").filter(|lun| !(0..=255).contains(lun)) {
        errors.invalid(&at.child("lun"), lun, names::between(0, 255));
    }
    if (source.is("chapAuthDiscovery") || source.is("chapAuthSession")) && !source.has("secretRef") {
        errors.required(&at.child("secretRef"), "");
    }
    if let Some(initiator) = source.maybe("initiatorName")
        && let Some(rule) = iscsi_name(initiator, prefixes)
    {
        errors.invalid(&at.child("initiatorname"), initiator, rule);
    }
}

fn iscsi_name<'a>(name: &str, prefixes: &'a str) -> Option<&'a str> {
    let hex = |rest: &str, length: usize| {
        let mut rest = rest.chars();
        rest.next().is_some()
            && rest.as_str().len() == length
            && rest.all(|digit| digit.is_ascii_alphanumeric())
    };
    let fits = match name.get(..3) {
        Some("iqn") => is_iqn(&name[3..]),
        Some("eui") => hex(&name[3..], 16),
        Some("naa") => hex(&name[3..], 32),
        _ => return Some(prefixes),
    };
    (!fits).then_some("must be valid format")
}

/// `.2026-11.com.example:disk`.
fn is_iqn(rest: &str) -> bool {
    let digits =
        |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((date, rest)) = rest.strip_prefix('.').and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let Some((year, month)) = date.split_once('-') else { return false };
    let Some((domain, unit)) = rest.split_once(':') else { return false };
    let unit_fits = |unit: &str| {
        !unit.is_empty()
            && !unit.contains([',', ';', '*', '&', '$', '|'])
            && !unit.contains(char::is_whitespace)
    };
    digits(year, 4)
        && digits(month, 2)
        && !domain.is_empty()
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        && unit_fits(unit)
}

pub(in crate::kinds::core) fn glusterfs(errors: &mut FieldErrors, at: &Path, source: &Value) {
    errors.needs(at, source, "endpoints");
    errors.needs(at, source, "path");
}

pub(in crate::kinds::core) fn flocker(errors: &mut FieldErrors, at: &Path, source: &Value) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.required(at, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        errors.invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously");
    }
    if name.contains('/') {
        errors.invalid(&at.child("datasetName"), name, "must not contain '/'");
    }
}

fn monitors(errors: &mut FieldErrors, at: &Path, source: &Value) {
    if source.list("monitors").is_empty() {
        errors.required(&at.child("monitors"), "");
    }
}

pub(in crate::kinds::core) fn rbd(errors: &mut FieldErrors, at: &Path, source: &Value) {
    monitors(errors, at, source);
    errors.needs(at, source, "image");
}

pub(in crate::kinds::core) fn cephfs(errors: &mut FieldErrors, at: &Path, source: &Value) {
    monitors(errors, at, source);
}

pub(in crate::kinds::core) fn cinder(errors: &mut FieldErrors, at: &Path, source: &Value) {
    errors.needs(at, source, "volumeID");
    secret(errors, at, source, &["name"]);
}

/// A secret that is named needs `fields`.
pub(in crate::kinds::core) fn secret(errors: &mut FieldErrors, at: &Path, source: &Value, fields: &[&str]) {
    if let Some(secret) = source.field("secretRef") {
        for field in fields {
            errors.needs(&at.child("secretRef"), secret, field);
        }
    }
}

pub(in crate::kinds::core) fn quobyte(errors: &mut FieldErrors, at: &Path, source: &Value) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.text("registry");
    if registry.is_empty() {
        errors.required(&at.child("registry"), PAIRS);
    } else if source.text("tenant").len() >= 65 {
        errors.required(&at.child("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_and_port(pair)) {
            errors.invalid(&at.child("registry"), registry, PAIRS);
        }
    }
    errors.needs(at, source, "volume");
}

fn is_host_and_port(pair: &str) -> bool {
    let Some((host, _)) = pair.rsplit_once(':') else { return false };
    match host.strip_prefix('[') {
        Some(rest) => rest.ends_with(']'),
        None => !host.contains([':', '[', ']']),
    }
}

pub(in crate::kinds::core) fn fc(errors: &mut FieldErrors, at: &Path, source: &Value) {
    let (targets, wwids) = (source.list("targetWWNs"), source.list("wwids"));
    let path = at.child("targetWWNs");
    if targets.is_empty() && wwids.is_empty() {
        errors.required(&path, "must specify either targetWWNs or wwids, but not both");
    }
    if !targets.is_empty() && !wwids.is_empty() {
        errors.invalid(&path, targets.to_vec(), "targetWWNs and wwids can not be specified simultaneously");
    }
    if !targets.is_empty() {
        match source.int("lun") {
            None => errors.required(&at.child("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.invalid(&at.child("lun"), lun, names::between(0, 255));
            }
            Some(_) => {}
        }
    }
}

pub(in crate::kinds::core) fn flex(errors: &mut FieldErrors, at: &Path, source: &Value) {
    errors.needs(at, source, "driver");
    for (key, _) in source.entries("options") {
        let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace);
        let dotted = format!(".{}", namespace.to_lowercase());
        if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
            let rule = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&at.child("options").key(key), key, rule);
        }
    }
}

pub(in crate::kinds::core) fn azure_file(errors: &mut FieldErrors, at: &Path, source: &Value) {
    errors.needs(at, source, "secretName");
    errors.needs(at, source, "shareName");
}

pub(in crate::kinds::core) fn azure_disk(errors: &mut FieldErrors, at: &Path, source: &Value) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    errors.needs(at, source, "diskName");
    errors.needs(at, source, "diskURI");
    errors.choice(at, source, "cachingMode", &["None", "ReadOnly", "ReadWrite"], false);
    errors.choice(at, source, "kind", &["Dedicated", "Managed", "Shared"], false);
    let disk = source.text("diskURI");
    match source.maybe("kind") {
        Some("Managed") if !disk.starts_with("/subscriptions/") => {
            errors.not_supported(&at.child("diskURI"), disk, &[MANAGED]);
        }
        Some(kind) if kind != "Managed" && !disk.starts_with("https://") => {
            errors.not_supported(&at.child("diskURI"), disk, &[BLOB]);
        }
        _ => {}
    }
}

pub(in crate::kinds::core) fn storage_os(errors: &mut FieldErrors, at: &Path, source: &Value) {
    let (name, namespace) = (source.text("volumeName"), source.text("volumeNamespace"));
    if name.is_empty() {
        errors.required(&at.child("volumeName"), "");
    } else {
        errors.malformed(at, "volumeName", name, names::dns_label(name, false));
    }
    if !namespace.is_empty() {
        errors.malformed(at, "volumeNamespace", namespace, names::dns_label(namespace, false));
    }
    secret(errors, at, source, &["name"]);
}

pub(in crate::kinds::core) fn scale_io(errors: &mut FieldErrors, at: &Path, source: &Value) {
    for field in ["gateway", "system", "volumeName"] {
        errors.needs(at, source, field);
    }
}
