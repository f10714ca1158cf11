//! `split.smi-spec.io`: weights of the Services behind a Service. v1alpha1 to v1alpha4.

use std::collections::BTreeSet;

use serde_json::Value;

use super::finding::Reason;
use super::meta::{Meta, Name, is_name};
use super::part::{Field, Notes, Part};

/// TrafficSplit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficSplit {
    /// Its name.
    pub meta: Meta,
    /// The Service that clients ask for, in the split's namespace; `None` where that cannot be told.
    pub apex: Option<String>,
    /// Who answers.
    pub backends: Vec<Backend>,
    /// Which requests it is about: those of any of these HTTPRouteGroups. `None` is all traffic.
    pub matches: Option<Vec<(String, String)>>,
}

/// A Service with a share of the traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its name, in the split's namespace.
    pub service: String,
    /// Its share, relative to the other backends'; thousandths of what is written, so that `500m` is whole.
    pub weight: u64,
    /// Where it stands in the object.
    pub field: String,
}

impl TrafficSplit {
    /// The apex with its namespace.
    #[must_use]
    pub fn service(&self) -> Option<Name> {
        Some(Name::new(&self.meta.name.namespace, self.apex.as_deref()?))
    }

    pub(super) fn read(meta: Meta, value: &Value, notes: &mut Notes) -> Self {
        let mut split = Self { meta, apex: None, backends: Vec::new(), matches: None };
        let Some(spec) = Part::whole(value).and_then(|whole| whole.part("spec", notes)) else {
            let advice = "must be there; this object does nothing without it";
            notes.say(Reason::Missing, "spec", "", advice);
            return split;
        };
        spec.only(&["service", "backends", "matches"], notes);
        split.apex = service(&spec, &split.meta, notes);
        let mut names = BTreeSet::new();
        for item in spec.list("backends", notes) {
            let Some(part) = item.part(notes) else { continue };
            part.only(&["service", "weight"], notes);
            let (name, weight) = (service(&part, &split.meta, notes), weight(&part, notes));
            let (Some(service), Some(weight)) = (name, weight) else { continue };
            if !names.insert(service.clone()) {
                let advice = "is there twice, and has the sum of both weights; write it once";
                notes.say(Reason::Tolerated, part.at("service"), format!("{service:?}"), advice);
            }
            split.backends.push(Backend { service, weight, field: item.path.clone() });
        }
        if split.backends.is_empty() {
            let advice = "the apex answers itself; name at least one backend";
            notes.say(Reason::Missing, spec.at("backends"), "", advice);
        }
        split.matches = spec.get("matches").and_then(|field| groups(&field, notes));
        split
    }
}

/// A Service by its name, or by that with its domain, as clients use it.
fn service(part: &Part<'_>, meta: &Meta, notes: &mut Notes) -> Option<String> {
    let text = part.required("service", notes)?;
    let field = part.at("service");
    let (name, domain) = text.split_once('.').unwrap_or((text, ""));
    if !is_name(name) {
        let advice = "is no name of a Service; what it belongs to was left out";
        notes.say(Reason::InvalidValue, field, format!("{text:?}"), advice);
        return None;
    }
    if !domain.is_empty() {
        let mut labels = domain.trim_end_matches('.').splitn(3, '.');
        let (namespace, svc) = (labels.next().unwrap_or_default(), labels.next());
        if namespace != meta.name.namespace || svc.is_some_and(|svc| svc != "svc") {
            let advice = format!(
                "a split reaches Services of its own namespace, {}, alone; what it belongs to was left out",
                meta.name.namespace
            );
            notes.say(Reason::InvalidValue, field, format!("{text:?}"), advice);
            return None;
        }
    }
    Some(name.to_owned())
}

/// A whole number by the text, a number by the CRD, a quantity in v1alpha1.
fn weight(part: &Part<'_>, notes: &mut Notes) -> Option<u64> {
    let Some(field) = part.get("weight") else {
        let advice = "must be there; the backend was left out";
        notes.say(Reason::Missing, part.at("weight"), "", advice);
        return None;
    };
    let text = match field.value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let weight = thousandths(&text);
    match weight {
        None => {
            let advice = "is no weight, and the backend was left out; write a whole number from 0 up";
            notes.say(Reason::InvalidValue, &field.path, field.value.to_string(), advice);
        }
        Some(_) if field.value.as_u64().is_none() => {
            let advice = "was read as the quantity that v1alpha1 had; write a whole number";
            notes.say(Reason::Tolerated, &field.path, field.value.to_string(), advice);
        }
        Some(_) => {}
    }
    weight
}

/// A quantity of Kubernetes in thousandths, at most a thousand million of it; parts of a thousandth count as one.
fn thousandths(text: &str) -> Option<u64> {
    const MOST: f64 = 1e9;
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" => 1.0,
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "Ki" => 1024.0,
        "Mi" => 1024.0 * 1024.0,
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            10_f64.powi(power.clamp(-30, 30))
        }
    };
    let number: f64 = number.parse().ok()?;
    let value = number * factor;
    if !(0.0..=MOST).contains(&value) {
        return None;
    }
    // Rounded before it is raised, since 0.3 is a little more than itself.
    let exact = value * 1000.0;
    let whole =
        if (exact - exact.round()).abs() < 1e-6 * exact.max(1e-3) { exact.round() } else { exact.ceil() };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 1e12")]
    let whole = whole as u64;
    Some(whole)
}

/// Nothing where the list is empty; a list of what is none is a list of no group, so that the split is about no request.
fn groups(field: &Field<'_>, notes: &mut Notes) -> Option<Vec<(String, String)>> {
    let items = field.items(notes);
    if items.is_empty() && field.value.is_array() {
        return None;
    }
    let mut groups = Vec::new();
    for item in items {
        let Some(part) = item.part(notes) else { continue };
        part.only(&["kind", "name", "apiGroup"], notes);
        let kind = part.required("kind", notes);
        let name = part.name("name", notes);
        match (kind, name) {
            (Some("HTTPRouteGroup"), Some(name)) => groups.push((name, item.path.clone())),
            (Some(other), _) if other != "HTTPRouteGroup" => {
                let advice = "was left out; only an HTTPRouteGroup can be matched";
                notes.say(Reason::InvalidValue, part.at("kind"), format!("{other:?}"), advice);
            }
            _ => {}
        }
    }
    Some(groups)
}

#[cfg(test)]
mod tests {
    use super::thousandths;

    #[test]
    fn weights_are_quantities() {
        let cases = [
            ("1", Some(1000)),
            ("0", Some(0)),
            ("500m", Some(500)),
            ("0.5", Some(500)),
            ("0.3", Some(300)),
            ("1k", Some(1_000_000)),
            ("1e3", Some(1_000_000)),
            ("1u", Some(1)),
            ("-1", None),
            ("", None),
            ("NaN", None),
            ("inf", None),
            ("1x", None),
            ("1..2", None),
            ("99999999999", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(thousandths(text), wanted, "{text}");
        }
    }
}
