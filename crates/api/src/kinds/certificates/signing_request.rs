//! CertificateSigningRequest.

use super::{conditions, pem};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, Kind, check, table};
use crate::kinds::names::signer;
use crate::resource::{Asker, Column, Part};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

const LEGACY: &str = "kubernetes.io/legacy-unknown";
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.certificates.v1.CertificateSigningRequest";
    let plural = "certificatesigningrequests";
    Kind::new("certificates.k8s.io", "v1", "CertificateSigningRequest", plural, type_name)
        .cluster_scoped()
        .short(&["csr"])
        .without_generation()
        .named(|_, _| Vec::new())
        .parts(&[Part::Status, Part::Approval])
        .prepare_create(prepare_create)
        .signed_by(signed_by)
        .prepare_update(prepare_update)
        .validate(|object| validate(object, None))
        .validate_update(validate_update)
        .table(columns, row)
        .selectable(&["spec.signerName"])
}

fn prepare_create(object: &mut Object) {
    object.0.insert("status".to_owned(), json!({}));
    let spec = object.make(&["spec"]);
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
}

/// Who asks is the server's to say.
fn signed_by(object: &mut Object, asker: &Asker) {
    let spec = object.make(&["spec"]);
    for (field, text) in [("username", &asker.user), ("uid", &asker.uid)] {
        if !text.is_empty() {
            spec.insert(field.to_owned(), text.as_str().into());
        }
    }
    if !asker.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(asker.groups));
    }
    if !asker.extra.is_empty() {
        let extra: Map<String, Value> =
            asker.extra.iter().map(|(key, values)| (key.clone(), json!(values))).collect();
        spec.insert("extra".to_owned(), extra.into());
    }
}

/// What is asked for never changes; each part of the answer is given where it belongs.
fn prepare_update(part: Part, object: &mut Object, old: &Object) {
    let keep = |object: &mut Object, field: &str| match old.0.get(field) {
        Some(value) => drop(object.0.insert(field.to_owned(), value.clone())),
        None => drop(object.0.remove(field)),
    };
    keep(object, "spec");
    match part {
        Part::Status => {
            conditions::keep_approval(object, old);
            conditions::date(object, old);
        }
        Part::Approval => {
            conditions::date(object, old);
            let told = object.make(&["status"]).remove("conditions");
            keep(object, "status");
            let status = object.make(&["status"]);
            match told {
                Some(told) => drop(status.insert("conditions".to_owned(), told)),
                None => drop(status.remove("conditions")),
            }
        }
        _ => keep(object, "status"),
    }
}

fn usages(object: &Object) -> Vec<&str> {
    object.spec().map(|spec| spec.texts("usages").collect()).unwrap_or_default()
}

fn certificate(object: &Object) -> &str {
    object.text(&["status", "certificate"])
}

fn validate(object: &Object, old: Option<&Object>) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    if let Err(cause) = pem::request(spec.text("request")) {
        let shown = spec.field("request").cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&path.child("request"), shown, cause));
    }
    usage_errors(&mut errors, &usages(object), old.map(usages).as_deref(), &path.child("usages"));
    let (name, at) = (spec.text("signerName"), path.child("signerName"));
    if name == LEGACY && old.is_none_or(|old| old.spec().text("signerName") != LEGACY) {
        errors.push(FieldError::invalid(
            &at,
            name,
            "the legacy signerName is not allowed via this API version",
        ));
    } else {
        errors.extend(signer(&at, name));
    }
    if let Some(seconds) = spec.int("expirationSeconds").filter(|seconds| *seconds < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(&path.child("expirationSeconds"), seconds, detail));
    }
    conditions::errors(&mut errors, object, old, &Path::new("status").child("conditions"));
    let same = old.is_some_and(|old| {
        certificate(old) == certificate(object) || pem::certificates(certificate(old)).is_err()
    });
    if let Err(cause) =
        pem::certificates(certificate(object)).or_else(|cause| if same { Ok(()) } else { Err(cause) })
    {
        let at = Path::new("status").child("certificate");
        errors.push(FieldError::invalid(&at, "<certificate data>", cause));
    }
    errors
}

fn usage_errors(errors: &mut FieldErrors, usages: &[&str], old: Option<&[&str]>, path: &Path) {
    if usages.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let twice = |usages: &[&str]| usages.iter().collect::<HashSet<_>>().len() < usages.len();
    let unknown_kept = old.is_some_and(|old| old.iter().any(|usage| !USAGES.contains(usage)));
    for (index, usage) in usages.iter().enumerate().filter(|_| !unknown_kept) {
        check::one_of(errors, &path.index(index), usage, USAGES);
    }
    let mut seen = HashSet::new();
    for (index, usage) in usages.iter().enumerate().filter(|_| !old.is_some_and(twice)) {
        if !seen.insert(usage) {
            errors.push(FieldError::duplicate(&path.index(index), *usage));
        }
    }
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = validate(object, Some(old));
    let path = Path::new("status");
    let approval = part == Part::Approval;
    conditions::change_errors(&mut errors, object, old, approval, &path.child("conditions"));
    if certificate(object) != certificate(old) {
        let at = path.child("certificate");
        if part != Part::Status {
            errors.push(FieldError::forbidden(&at, "updates may not set certificate content"));
        } else if !certificate(old).is_empty() {
            errors.push(FieldError::forbidden(&at, "updates may not modify existing certificate content"));
        }
    }
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        table::age(),
        column("SignerName", "string", "Who should sign."),
        column("Requestor", "string", "Who asks."),
        column("RequestedDuration", "string", "For how long."),
        column("Condition", "string", "How it was answered."),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let signer = spec.maybe("signerName").filter(|name| !name.is_empty());
    let duration = spec.int("expirationSeconds").map(table::duration);
    let mut answer = match (conditions::has(object, "Denied"), conditions::has(object, "Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if conditions::has(object, "Failed") {
        answer.push_str(",Failed");
    }
    if !certificate(object).is_empty() {
        answer.push_str(",Issued");
    }
    vec![
        object.name().into(),
        table::age_of(object, now),
        signer.unwrap_or("<none>").into(),
        spec.text("username").into(),
        duration.unwrap_or_else(|| "<none>".to_owned()).into(),
        answer.into(),
    ]
}
