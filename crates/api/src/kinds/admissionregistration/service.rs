//! A service that a webhook is asked at.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::Fields;
use serde_json::{Map, Value};

/// What is wrong with a reference to a service.
pub(super) fn errors(errors: &mut FieldErrors, service: &Map<String, Value>, path: &Path) {
    // Kubernetes tells of the one where the other is missing.
    for (field, told) in [("namespace", "name"), ("name", "namespace")] {
        if service.text(field).is_empty() {
            errors.push(FieldError::required(&path.child(told), ""));
        }
    }
    let port = service.int("port").unwrap_or(0);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(&path.child("port"), port, detail));
    }
    let Some(text) = service.maybe("path").filter(|text| !matches!(*text, "" | "/")) else { return };
    let at = path.child("path");
    let mut refuse = |detail: String| errors.push(FieldError::invalid(&at, text, detail));
    if text == "//" {
        refuse("segment[0] may not be empty".to_owned());
        return;
    }
    if !text.starts_with('/') {
        refuse("must start with a '/'".to_owned());
    }
    let mut rest = text.chars();
    rest.next();
    let rest = rest.as_str();
    for (index, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            refuse(format!("segment[{index}] may not be empty"));
            continue;
        }
        for cause in names::dns_subdomain(segment, false) {
            refuse(format!("segment[{index}]: {cause}"));
        }
    }
}
