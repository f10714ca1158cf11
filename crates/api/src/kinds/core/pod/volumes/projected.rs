//! Projected volumes: files of several sources in one folder.

use super::files::{downward_file, items, local_path, mode};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, check};
use serde_json::Value;
use std::collections::BTreeSet;

/// The paths that are taken already; the second one of the same is told.
struct Taken<'a> {
    paths: BTreeSet<&'a str>,
    at: &'a Path,
}

impl<'a> Taken<'a> {
    /// Takes `path`; `shown` is what Kubernetes shows of the second source.
    fn take(&mut self, errors: &mut FieldErrors, path: &'a str, shown: &str) {
        if !self.paths.insert(path) {
            errors.invalid(self.at, shown, "conflicting duplicate paths");
        }
    }

    fn take_items(&mut self, errors: &mut FieldErrors, source: &'a Value) {
        for item in source.list("items").iter().filter(|item| !item.text("path").is_empty()) {
            self.take(errors, item.text("path"), source.text("name"));
        }
    }
}

pub(super) fn check(errors: &mut FieldErrors, at: &Path, projected: &Value) {
    mode(errors, at, projected, "defaultMode");
    let mut taken = Taken { paths: BTreeSet::new(), at };
    for (index, source) in projected.list("sources").iter().enumerate() {
        let path = at.child("sources").index(index);
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            if let Some(keys) = source.field(kind) {
                count += 1;
                let path = path.child(kind);
                errors.needs(&path, keys, "name");
                items(errors, &path, keys);
                taken.take_items(errors, keys);
            }
        }
        if let Some(downward) = source.field("downwardAPI") {
            count += 1;
            for file in downward.list("items") {
                downward_file(errors, &path.child("downwardAPI"), file);
                let name = file.text("path");
                if !name.is_empty() {
                    taken.take(errors, name, name);
                }
            }
        }
        if let Some(token) = source.field("serviceAccountToken") {
            count += 1;
            account_token(errors, at, &path.child("serviceAccountToken"), token);
        }
        if let Some(bundle) = source.field("clusterTrustBundle") {
            count += 1;
            trust_bundle(errors, &path.child("clusterTrustBundle"), bundle);
            taken.take(errors, bundle.text("path"), bundle.text("path"));
        }
        if let Some(certificate) = source.field("podCertificate") {
            count += 1;
            pod_certificate(errors, &path.child("podCertificate"), certificate, &mut taken);
        }
        if count > 1 {
            errors.forbidden(&path, "may not specify more than 1 volume type per source");
        }
    }
}

fn account_token(errors: &mut FieldErrors, volume: &Path, at: &Path, token: &Value) {
    let seconds = token.int("expirationSeconds").unwrap_or(0);
    if seconds < 600 {
        errors.invalid(
            &at.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 10 minutes",
        );
    }
    if seconds > 1 << 32 {
        let rule = "may not specify a duration larger than 2^32 seconds";
        errors.invalid(&at.child("expirationSeconds"), seconds, rule);
    }
    // Kubernetes tells the path of the volume here.
    errors.needs(volume, token, "path");
    local_path(errors, &volume.child("path"), token.text("path"));
}

fn trust_bundle(errors: &mut FieldErrors, at: &Path, bundle: &Value) {
    match (bundle.maybe("name"), bundle.maybe("signerName")) {
        (Some(_), Some(_)) => {
            let rule = "only one of name and signerName may be used";
            errors.invalid_inside(at, "ClusterTrustBundleProjection", bundle, rule);
        }
        (Some(name), None) => {
            if name.is_empty() {
                errors.required(&at.child("name"), "must be a valid object name");
            }
            let details = bundle_name(name).into_iter();
            let details = details.map(|text| format!("not a valid clustertrustbundlename: {text}")).collect();
            errors.malformed(at, "name", name, details);
            if let Some(selector) = bundle.field("labelSelector") {
                let rule = "labelSelector must be unset if name is specified";
                errors.invalid(&at.child("labelSelector"), selector.clone(), rule);
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                errors.required(&at.child("signerName"), "must be a valid signer name");
            }
            signer_name(errors, &at.child("signerName"), signer);
            if let Some(selector) = bundle.map("labelSelector") {
                check::label_selector(errors, &at.child("labelSelector"), selector);
            }
        }
        (None, None) => errors.required(at, "either name or signerName must be specified"),
    }
    errors.needs(at, bundle, "path");
    local_path(errors, &at.child("path"), bundle.text("path"));
}

/// A bundle of a signer is named after it: `example.com:foo:name`; the signer is what stands before the last colon.
fn bundle_name(name: &str) -> Vec<String> {
    names::dns_subdomain(name.rsplit_once(':').map_or(name, |(_, last)| last), false)
}

/// A signer: a domain, a slash and a path of labels with dots.
pub fn signer_name(errors: &mut FieldErrors, path: &Path, signer: &str) {
    if signer.is_empty() {
        errors.required(path, "");
        return;
    }
    let Some((domain, rest)) = signer.split_once('/').filter(|(_, rest)| !rest.contains('/')) else {
        errors.invalid(
            path,
            signer,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
        return;
    };
    if domain.len() > names::SUBDOMAIN_MAX {
        errors.push(FieldError::too_long(path, names::SUBDOMAIN_MAX));
    }
    // One label that is wrong is enough to tell.
    let wrong = |part: &str, rule: fn(&str, bool) -> Vec<String>| {
        part.split('.')
            .map(|label| (label.to_owned(), rule(label, false)))
            .find(|(_, details)| !details.is_empty())
    };
    if let Some((label, details)) = wrong(domain, names::dns_label) {
        for detail in details {
            errors.invalid(path, domain, format!("validating label {label:?}: {detail}"));
        }
    }
    if !domain.contains('.') {
        errors.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    if let Some((label, details)) = wrong(rest, names::dns_subdomain) {
        for detail in details {
            errors.invalid(path, rest, format!("validating label {label:?}: {detail}"));
        }
    }
}

fn pod_certificate<'a>(errors: &mut FieldErrors, at: &Path, source: &'a Value, taken: &mut Taken<'a>) {
    const KEY_TYPES: &[&str] = &["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    const DAY: i64 = 24 * 60 * 60;
    let signer = source.text("signerName");
    signer_name(errors, &at.child("signerName"), signer);
    check::one_of(errors, &at.child("keyType"), source.text("keyType"), KEY_TYPES);
    if let Some(seconds) = source.int("maxExpirationSeconds") {
        let path = at.child("maxExpirationSeconds");
        if seconds < 3600 {
            errors.invalid(&path, seconds, "if provided, maxExpirationSeconds must be >= 3600");
        }
        let own = signer.split_once('/').is_some_and(|(host, _)| host.ends_with("kubernetes.io"));
        let most = if own { DAY } else { 91 * DAY };
        if seconds > most {
            errors.invalid(&path, seconds, format!("if provided, maxExpirationSeconds must be <= {most}"));
        }
    }
    let mut none = true;
    for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = source.text(field);
        if !path.is_empty() {
            none = false;
            local_path(errors, &at.child(field), path);
            taken.take(errors, path, path);
        }
    }
    if none {
        let rule = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(at, rule);
    }
}
