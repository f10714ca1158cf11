//! Names that only some kinds have: paths after a domain, fully qualified names, names of signers.

use super::base::check;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;

/// `acme.io/foo`: a domain, a slash and a path of HTTP.
pub(super) fn domain_prefixed_path(path: &Path, value: &str) -> FieldErrors {
    if value.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let Some((host, rest)) =
        value.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return vec![FieldError::invalid(path, value, detail)];
    };
    let mut errors: FieldErrors = check::invalid(path, host, names::dns_subdomain(host, false)).collect();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(allowed) {
        let detail = names::form("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]);
        errors.push(FieldError::invalid(path, rest, detail));
    }
    errors
}

/// A DNS name of at least `least` labels.
pub(super) fn fully_qualified(path: &Path, value: &str, least: usize) -> FieldErrors {
    if value.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let wrong = names::dns_subdomain(value, false);
    if !wrong.is_empty() {
        return vec![FieldError::invalid(path, value, wrong.join(","))];
    }
    if value.split('.').count() < least {
        let number = if least == 2 { "two" } else { "three" };
        let detail = format!("should be a domain with at least {number} segments separated by dots");
        return vec![FieldError::invalid(path, value, detail)];
    }
    FieldErrors::new()
}

/// The name of a signer of certificates: `example.com/signer-name`.
pub(super) fn signer(path: &Path, value: &str) -> FieldErrors {
    if value.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let parts: Vec<&str> = value.split('/').collect();
    let [domain, name] = parts[..] else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![FieldError::invalid(path, value, detail)];
    };
    let mut errors = FieldErrors::new();
    if domain.len() > names::SUBDOMAIN_MAX {
        errors.push(FieldError::too_long(path, names::SUBDOMAIN_MAX));
    }
    first_bad_label(&mut errors, path, domain, |label| names::dns_label(label, false));
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, domain, detail));
    }
    first_bad_label(&mut errors, path, name, |label| names::dns_subdomain(label, false));
    let longest = 2 * names::SUBDOMAIN_MAX + names::LABEL_MAX + 2;
    if value.len() > longest {
        errors.push(FieldError::too_long(path, longest));
    }
    errors
}

fn first_bad_label(errors: &mut FieldErrors, path: &Path, part: &str, wrong: fn(&str) -> Vec<String>) {
    let found = part.split('.').map(|label| (label, wrong(label))).find(|(_, wrong)| !wrong.is_empty());
    if let Some((label, wrong)) = found {
        let told = wrong.into_iter().map(|cause| format!("validating label {label:?}: {cause}")).collect();
        errors.extend(check::invalid(path, part, told));
    }
}

/// The name of a CSI driver: a DNS subdomain of at most 63 bytes in which case does not matter.
pub(super) fn csi_driver(path: &Path, value: &str) -> FieldErrors {
    if value.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = FieldErrors::new();
    if value.len() > names::LABEL_MAX {
        errors.push(FieldError::too_long(path, names::LABEL_MAX));
    }
    errors.extend(check::invalid(path, value, names::dns_subdomain(&value.to_lowercase(), false)));
    errors
}

/// A name that stands in a path and has to be there.
pub(super) fn path_segment(path: &Path, value: &str) -> FieldErrors {
    if value.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    check::invalid(path, value, names::path_segment(value, false)).collect()
}
