//! PersistentVolume.

use super::claim;
use super::pod::defaults::{disks, round_up};
use super::pod::resources::quantity;
use super::pod::volumes::{self, cloud};
use super::scheduling;
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Defaults, Errors, Fields, Kind, check, diff, internal, table};
use crate::resource::{Column, Part};
use serde_json::{Map, Value};

const RECLAIM: &[&str] = &["Delete", "Recycle", "Retain"];

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "PersistentVolume", "persistentvolumes", "io.k8s.api.core.v1.PersistentVolume")
        .cluster_scoped()
        .short(&["pv"])
        .without_generation()
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(|object| {
            let time = super::now();
            object.0.insert(
                "status".to_owned(),
                serde_json::json!({ "phase": "Pending", "lastPhaseTransitionTime": time }),
            );
        })
        .prepare_update(prepare_update)
        .validate(validate)
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
        .selectable(&["name"])
        .selected(|object, _| object.name().to_owned())
}

fn default(object: &mut Object) {
    object.make(&["status"]).fill_text("phase", "Pending");
    let spec = object.make(&["spec"]);
    spec.fill_text("persistentVolumeReclaimPolicy", "Retain");
    spec.fill("volumeMode", "Filesystem");
    if let Some(capacity) = spec.within("capacity") {
        round_up(capacity);
    }
    if let Some(path) = spec.within("hostPath") {
        path.fill("type", "");
    }
    disks(spec);
}

/// The time of the last change of the phase is told.
fn prepare_update(part: Part, object: &mut Object, old: &Object) {
    if part != Part::Status {
        return;
    }
    const TIME: &str = "lastPhaseTransitionTime";
    let same = object.text(&["status", "phase"]) == old.text(&["status", "phase"]);
    let (told, kept) = (object.text(&["status", TIME]), old.text(&["status", TIME]));
    let time = match (same, told.is_empty()) {
        (true, true) => kept.to_owned(),
        (false, _) if told.is_empty() || told == kept => super::now(),
        _ => told.to_owned(),
    };
    if !time.is_empty() {
        object.make(&["status"]).insert(TIME.to_owned(), time.into());
    }
}

type SourceCheck = fn(&mut FieldErrors, &Path, &Value, &str);

/// Each type of source in Kubernetes' order: its field, what it is called where it is told, and its check.
const SOURCES: &[(&str, &str, SourceCheck)] = &[
    ("hostPath", "hostPath", |errors, at, source, _| volumes::host_path(errors, at, source)),
    ("gcePersistentDisk", "persistentDisk", |errors, at, source, _| cloud::gce(errors, at, source)),
    ("awsElasticBlockStore", "awsElasticBlockStore", |errors, at, source, _| cloud::aws(errors, at, source)),
    ("glusterfs", "glusterfs", |errors, at, source, _| {
        cloud::glusterfs(errors, at, source);
        if let Some(namespace) = source.maybe("endpointsNamespace") {
            let details = if namespace.is_empty() {
                vec!["if the endpointnamespace is set, it must be a valid namespace name".to_owned()]
            } else {
                names::dns_label(namespace, false)
            };
            errors.malformed(at, "endpointsNamespace", namespace, details);
        }
    }),
    ("flocker", "flocker", |errors, at, source, _| cloud::flocker(errors, at, source)),
    ("nfs", "nfs", |errors, at, source, _| cloud::nfs(errors, at, source)),
    ("rbd", "rbd", |errors, at, source, _| cloud::rbd(errors, at, source)),
    ("quobyte", "quobyte", |errors, at, source, _| cloud::quobyte(errors, at, source)),
    ("cephfs", "cephfs", |errors, at, source, _| cloud::cephfs(errors, at, source)),
    ("iscsi", "iscsi", |errors, at, source, name| {
        if volumes::one_colon_too_long(name, source) {
            let portal = source.text("targetPortal");
            errors.invalid(&at.child("targetportal"), portal, cloud::ISCSI_TOO_LONG);
        }
        cloud::iscsi(errors, at, source, "must be valid format");
        cloud::secret(errors, at, source, &["name"]);
    }),
    ("cinder", "cinder", |errors, at, source, _| {
        errors.needs(at, source, "volumeID");
        cloud::secret(errors, at, source, &["name", "namespace"]);
    }),
    ("fc", "fc", |errors, at, source, _| cloud::fc(errors, at, source)),
    ("flexVolume", "flexVolume", |errors, at, source, _| cloud::flex(errors, at, source)),
    ("azureFile", "azureFile", |errors, at, source, _| {
        cloud::azure_file(errors, at, source);
        if source.maybe("secretNamespace") == Some("") {
            errors.required(&at.child("secretNamespace"), "");
        }
    }),
    ("vsphereVolume", "vsphereVolume", |errors, at, source, _| errors.needs(at, source, "volumePath")),
    ("photonPersistentDisk", "photonPersistentDisk", |errors, at, source, _| {
        errors.needs(at, source, "pdID")
    }),
    ("portworxVolume", "portworxVolume", |errors, at, source, _| errors.needs(at, source, "volumeID")),
    ("azureDisk", "azureDisk", |errors, at, source, _| cloud::azure_disk(errors, at, source)),
    ("scaleIO", "scaleIO", |errors, at, source, _| cloud::scale_io(errors, at, source)),
    ("local", "local", |errors, at, source, _| {
        let path = source.text("path");
        errors.needs(at, source, "path");
        volumes::no_backsteps(errors, &at.child("path"), path);
    }),
    ("storageos", "storageos", |errors, at, source, _| {
        cloud::storage_os(errors, at, source);
        if let Some(secret) = source.field("secretRef") {
            errors.needs(&at.child("secretRef"), secret, "namespace");
        }
    }),
    ("csi", "csi", |errors, at, source, _| csi(errors, at, source)),
];

fn csi(errors: &mut FieldErrors, at: &Path, source: &Value) {
    const SECRETS: &[&str] = &[
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ];
    volumes::driver_name(errors, &at.child("driver"), source.text("driver"));
    errors.needs(at, source, "volumeHandle");
    for field in SECRETS {
        let Some(secret) = source.field(field) else { continue };
        let at = at.child(field);
        let (name, namespace) = (secret.text("name"), secret.text("namespace"));
        errors.needs(&at, secret, "name");
        if !name.is_empty() {
            errors.malformed(&at, "name", name, names::dns_subdomain(name, false));
        }
        errors.needs(&at, secret, "namespace");
        if !namespace.is_empty() {
            errors.malformed(&at, "namespace", namespace, names::dns_label(namespace, false));
        }
    }
}

/// What is wrong with the spec of a volume that an attachment has in itself.
#[must_use]
pub fn validate_inline_spec(value: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let empty = Map::new();
    spec_errors(&mut errors, path, value.as_object().unwrap_or(&empty), "", true);
    errors
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let empty = Map::new();
    spec_errors(&mut errors, &Path::new("spec"), object.spec().unwrap_or(&empty), object.name(), false);
    errors
}

fn spec_errors(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>, name: &str, inline: bool) {
    if inline {
        for (field, set) in [
            ("claimRef", spec.has("claimRef")),
            ("capacity", spec.map("capacity").is_some_and(|map| !map.is_empty())),
        ] {
            if set {
                errors.forbidden(&path.child(field), "may not be specified in the context of inline volumes");
            }
        }
        if !spec.has("csi") {
            errors.required(&path.child("csi"), "has to be specified in the context of inline volumes");
        }
    }
    if spec.list("accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    claim::access_modes(errors, path, spec);
    if !inline {
        capacity(errors, &path.child("capacity"), spec);
    }
    let policy = spec.text("persistentVolumeReclaimPolicy");
    if inline && !matches!(policy, "" | "Retain") {
        let rule = "may only be Retain in the context of inline volumes";
        errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), rule);
    } else if !inline && !policy.is_empty() {
        check::one_of(errors, &path.child("persistentVolumeReclaimPolicy"), policy, RECLAIM);
    }
    let affinity = affinity(errors, &path.child("nodeAffinity"), spec, inline);
    sources(errors, path, spec, name, affinity);
    rest(errors, path, spec, inline);
}

fn capacity(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    let capacity = spec.map("capacity");
    if capacity.is_none_or(Map::is_empty) {
        errors.required(path, "");
    }
    if capacity.is_none_or(|all| !all.has("storage") || all.len() > 1) {
        let shown = capacity.map_or(Value::Null, |all| all.clone().into());
        errors.push(FieldError::not_supported(path, shown, &["storage"]));
    }
    for (name, value) in capacity.into_iter().flatten() {
        let at = path.key(name);
        let Some(amount) = quantity(value) else { continue };
        if amount.is_negative() {
            errors.invalid(&at, amount.value(), "must be a valid resource quantity");
        }
        if amount.is_zero() || amount.is_negative() {
            errors.invalid(&at, amount.to_string(), "must be greater than zero");
        }
    }
}

/// Whether there is a node affinity.
fn affinity(errors: &mut FieldErrors, at: &Path, spec: &Map<String, Value>, inline: bool) -> bool {
    let Some(affinity) = spec.field("nodeAffinity") else { return false };
    if inline {
        errors.forbidden(at, "may not be specified in the context of inline volumes");
        return false;
    }
    match affinity.field("required") {
        Some(required) => scheduling::node_selector(errors, &at.child("required"), required),
        None => errors.required(&at.child("required"), "must specify required node constraints"),
    }
    true
}

fn sources(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>, name: &str, affinity: bool) {
    let mut found = false;
    for (field, told, check) in SOURCES {
        let Some(source) = spec.field(field) else { continue };
        // Kubernetes forgets to count this one.
        if found && *field != "flexVolume" {
            let told = if *field == "cephfs" { "cephFS" } else { field };
            errors.forbidden(&path.child(told), "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        check(errors, &path.child(told), source, name);
        if *field == "local" && !affinity {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
    }
    if !found {
        errors.required(path, "must specify a volume type");
    }
}

fn rest(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>, inline: bool) {
    let host_path = spec.field("hostPath").maybe("path");
    if let ("Recycle", Some(folder)) = (spec.text("persistentVolumeReclaimPolicy"), host_path) {
        let clean: Vec<&str> = folder.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if folder.starts_with('/') && clean.is_empty() {
            let rule = "may not be 'recycle' for a hostPath mount of '/'";
            errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), rule);
        }
    }
    let class = spec.text("storageClassName");
    if inline && !class.is_empty() {
        let rule = "may not be specified in the context of inline volumes";
        errors.forbidden(&path.child("storageClassName"), rule);
    } else if !class.is_empty() {
        errors.malformed(path, "storageClassName", class, names::dns_subdomain(class, false));
    }
    if !inline {
        errors.choice(path, spec, "volumeMode", claim::VOLUME_MODES, false);
    } else if spec.maybe("volumeMode").is_some_and(|mode| mode != "Filesystem") {
        let rule = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.forbidden(&path.child("volumeMode"), rule);
    }
    if let Some(class) = spec.maybe("volumeAttributesClassName") {
        if class.is_empty() {
            errors.required(&path.child("volumeAttributesClassName"), "an empty string is disallowed");
        } else {
            errors.malformed(path, "volumeAttributesClassName", class, names::dns_subdomain(class, false));
        }
        if !spec.has("csi") {
            errors.required(&path.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

/// The source of a volume alone.
fn source_of(spec: Option<&Map<String, Value>>) -> Map<String, Value> {
    let fields =
        SOURCES.iter().filter_map(|(field, ..)| Some(((*field).to_owned(), spec.field(field)?.clone())));
    fields.collect()
}

fn validate_update(part: Part, new: &Object, old: &Object) -> FieldErrors {
    const FORM: &str = "PersistentVolumeSource";
    const SECRET: &str = "controllerExpandSecretRef";
    if part == Part::Status {
        return FieldErrors::new();
    }
    let mut errors = validate(new);
    // What is wrong with the new object is told of the update too.
    errors.extend(validate(new));
    let (is, was) = (new.spec(), old.spec());
    let (mut new_source, old_source) = (source_of(is), source_of(was));
    // The secret for expansion may be added.
    if old_source.has("csi") && !old_source.field("csi").has(SECRET) {
        new_source.within("csi").and_then(|csi| csi.remove(SECRET));
    }
    let (new_source, old_source) = (Value::from(new_source), Value::from(old_source));
    if !internal::same(FORM, &new_source, &old_source) {
        let changes =
            diff::unified(&internal::pretty(FORM, &old_source), &internal::pretty(FORM, &new_source));
        let rule = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
        errors.forbidden(&Path::new("spec").child("persistentvolumesource"), rule);
    }
    check::immutable(&mut errors, &Path::new("volumeMode"), is.field("volumeMode"), was.field("volumeMode"));
    if was.has("nodeAffinity") && is.field("nodeAffinity") != was.field("nodeAffinity") {
        let shown = is.field("nodeAffinity").unwrap_or(&Value::Null);
        let rule = format!("{}, except for updating from beta label to GA", check::IMMUTABLE);
        errors.invalid_inside(&Path::new("nodeAffinity"), "*VolumeNodeAffinity", shown, rule);
    }
    let class = "volumeAttributesClassName";
    if was.has(class) && !is.has(class) {
        errors.forbidden(&Path::new("spec").child(class), "update from non-nil value to nil is forbidden");
    }
    errors
}

fn warnings(object: &Object, _old: Option<&Object>) -> Vec<String> {
    const OLD: &[(&str, &str)] = &[
        ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
        ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let mut warnings = Vec::new();
    if object.strings("annotations").has(OLD_CLASS) {
        warnings.push(
            "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \
             \"storageClassName\" attribute instead"
                .to_owned(),
        );
    }
    if object.spec().text("persistentVolumeReclaimPolicy") == "Recycle" {
        warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
             approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    let required = object.spec().field("nodeAffinity").field("required");
    for (index, term) in required.list("nodeSelectorTerms").iter().enumerate() {
        let at =
            Path::new("spec").child("nodeAffinity").child("required").child("nodeSelectorTerms").index(index);
        super::pod::node_term_warnings(&mut warnings, &at, term);
    }
    for (field, message) in OLD.iter().filter(|(field, _)| object.spec().has(field)) {
        let told = if *field == "storageos" { "storageOS" } else { field };
        warnings.push(format!("spec.{told}: {message}"));
    }
    warnings
}

/// `RWO,ROX`: the short names of modes, each once and in their own order.
pub(super) fn short_modes(modes: &[Value]) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |name: &str| modes.iter().any(|mode| mode.as_str() == Some(name));
    let short: Vec<&str> = NAMES.iter().filter(|(name, _)| has(name)).map(|(_, short)| *short).collect();
    short.join(",")
}

/// The annotation that named the class before there was a field.
pub(super) const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The class, from the annotation that was there before the field.
pub(super) fn class(object: &Object) -> &str {
    match object.strings("annotations").text(OLD_CLASS) {
        "" => object.spec().text("storageClassName"),
        class => class,
    }
}

fn columns() -> Vec<Column> {
    let (column, wide) = (table::column, table::wide);
    vec![
        table::name(),
        column("Capacity", "string", "PersistentVolumeSpec.capacity"),
        column("Access Modes", "string", "PersistentVolumeSpec.accessModes"),
        column("Reclaim Policy", "string", "PersistentVolumeSpec.persistentVolumeReclaimPolicy"),
        column("Status", "string", "PersistentVolumeStatus.phase"),
        column("Claim", "string", "PersistentVolumeSpec.claimRef"),
        column("StorageClass", "string", "StorageClass of the pv"),
        column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pv"),
        column("Reason", "string", "PersistentVolumeStatus.reason"),
        table::age(),
        wide("VolumeMode", "string", "PersistentVolumeSpec.volumeMode"),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let empty = Map::new();
    let spec = object.spec().unwrap_or(&empty);
    let size = spec.field("capacity").field("storage").and_then(quantity).unwrap_or_default();
    let claim = spec
        .field("claimRef")
        .map_or_else(String::new, |claim| format!("{}/{}", claim.text("namespace"), claim.text("name")));
    let phase = if object.is_terminating() { "Terminating" } else { object.text(&["status", "phase"]) };
    vec![
        object.name().into(),
        size.to_string().into(),
        short_modes(spec.list("accessModes")).into(),
        spec.text("persistentVolumeReclaimPolicy").into(),
        phase.into(),
        claim.into(),
        class(object).into(),
        spec.maybe("volumeAttributesClassName").unwrap_or("<unset>").into(),
        object.text(&["status", "reason"]).into(),
        table::age_of(object, now),
        spec.maybe("volumeMode").unwrap_or("<unset>").into(),
    ]
}
