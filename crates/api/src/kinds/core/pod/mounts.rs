//! Where volumes appear in containers: mounts and block devices.

use super::volumes::{Volumes, descending};
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Errors, Fields};
use serde_json::Value;
use std::collections::BTreeSet;

/// What is wrong with the mounts and devices of a container.
pub(super) fn check(errors: &mut FieldErrors, path: &Path, container: &Value, volumes: &Volumes<'_>) {
    let (mounts, devices) = (container.list("volumeMounts"), container.list("volumeDevices"));
    if !mounts.is_empty() {
        check_mounts(errors, &path.child("volumeMounts"), container, devices, volumes);
    }
    if !devices.is_empty() {
        check_devices(errors, &path.child("volumeDevices"), mounts, devices, volumes);
    }
}

fn check_mounts(
    errors: &mut FieldErrors,
    path: &Path,
    container: &Value,
    devices: &[Value],
    volumes: &Volumes<'_>,
) {
    let mut points = BTreeSet::new();
    for (index, mount) in container.list("volumeMounts").iter().enumerate() {
        let at = path.index(index);
        let (name, point) = (mount.text("name"), mount.text("mountPath"));
        errors.needs(&at, mount, "name");
        if !volumes.iter().any(|(volume, _)| *volume == name) {
            errors.not_found(&at.child("name"), name);
        }
        errors.needs(&at, mount, "mountPath");
        if !points.insert(point) {
            errors.invalid(&at.child("mountPath"), point, "must be unique");
        }
        if devices.iter().any(|device| device.text("name") == name) {
            errors.invalid(&at.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| device.text("devicePath") == point) {
            let rule = "must not already exist as a path in volumeDevices";
            errors.invalid(&at.child("mountPath"), point, rule);
        }
        sub_paths(errors, path, &at, mount);
        if let Some(propagation) = mount.maybe("mountPropagation") {
            propagates(errors, &path.child("mountPropagation"), propagation, container);
        }
        if let Some(recursive) = mount.maybe("recursiveReadOnly") {
            read_only(errors, &path.child("recursiveReadOnly"), recursive, mount);
        }
    }
}

/// Kubernetes tells paths of sub paths without the index.
fn sub_paths(errors: &mut FieldErrors, path: &Path, at: &Path, mount: &Value) {
    let (plain, expanded) = (mount.text("subPath"), mount.text("subPathExpr"));
    if !plain.is_empty() {
        descending(errors, &path.child("subPath"), plain);
    }
    if !expanded.is_empty() {
        if !plain.is_empty() {
            let rule = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&at.child("subPathExpr"), expanded, rule);
        }
        descending(errors, &path.child("subPathExpr"), expanded);
    }
}

fn propagates(errors: &mut FieldErrors, path: &Path, propagation: &str, container: &Value) {
    const MODES: &[&str] = &["Bidirectional", "HostToContainer", "None"];
    if !MODES.contains(&propagation) {
        errors.not_supported(path, propagation, MODES);
    }
    if propagation == "Bidirectional" && !container.field("securityContext").is("privileged") {
        errors.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn read_only(errors: &mut FieldErrors, path: &Path, recursive: &str, mount: &Value) {
    match recursive {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.is("readOnly") {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if mount.maybe("mountPropagation").is_some_and(|mode| mode != "None") {
                let rule = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(path, rule);
            }
        }
        other => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

fn check_devices(
    errors: &mut FieldErrors,
    path: &Path,
    mounts: &[Value],
    devices: &[Value],
    volumes: &Volumes<'_>,
) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in devices.iter().enumerate() {
        let at = path.index(index);
        let (name, device_path) = (device.text("name"), device.text("devicePath"));
        let volume = volumes.iter().find(|(volume, _)| *volume == name).map(|(_, volume)| *volume);
        errors.needs(&at, device, "name");
        if !name.is_empty() && !names.insert(name) {
            errors.invalid(&at.child("name"), name, "must be unique");
        }
        match volume {
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => {
                let rule =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at.child("name"), name, rule);
            }
            Some(_) => {}
            None => errors.not_found(&at.child("name"), name),
        }
        errors.needs(&at, device, "devicePath");
        if paths.contains(device_path) {
            errors.invalid(&at.child("devicePath"), device_path, "must be unique");
        }
        if device_path.split('/').any(|part| part == "..") {
            errors.invalid(&at.child("devicePath"), device_path, "can not contain backsteps ('..')");
        } else {
            paths.insert(device_path);
        }
        if mounts.iter().any(|mount| mount.text("name") == name) {
            errors.invalid(&at.child("name"), name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == device_path) {
            let rule = "must not already exist as a path in volumeMounts";
            errors.invalid(&at.child("devicePath"), device_path, rule);
        }
    }
}
