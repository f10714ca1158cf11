//! NetworkPolicy.

use super::GROUP;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::idle;
use crate::kinds::inside::Inside;
use crate::resource::{Column, Part};
use serde_json::{Map, Value};

/// Both directions, with the field that lists the others there.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.networking.v1.NetworkPolicy";
    Kind::new(GROUP, "v1", "NetworkPolicy", "networkpolicies", type_name)
        .short(&["netpol"])
        .default(default)
        .validate(|object| validate(object, &[]))
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    spec.inside("podSelector");
    for (direction, _) in DIRECTIONS {
        for rule in spec.each(direction) {
            rule.each("ports").for_each(|port| port.fill("protocol", "TCP"));
        }
    }
    if spec.list("policyTypes").is_empty() {
        let mut types = vec![Value::from("Ingress")];
        if !spec.list("egress").is_empty() {
            types.push("Egress".into());
        }
        spec.insert("policyTypes".to_owned(), types.into());
    }
}

/// Each peer with its path.
fn peers(object: &Object) -> impl Iterator<Item = (Path, &Value)> {
    DIRECTIONS.into_iter().flat_map(|(direction, others)| {
        let rules = object.spec().items(direction);
        rules.iter().enumerate().flat_map(move |(at, rule)| {
            let path = Path::new("spec").child(direction).index(at).child(others);
            rule.list(others).iter().enumerate().map(move |(at, peer)| (path.index(at), peer))
        })
    })
}

/// `old`: ranges that were there before and stay as they are.
fn validate(object: &Object, old: &[&str]) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    if let Some(selector) = spec.under("podSelector") {
        check::label_selector(&mut errors, &path.child("podSelector"), selector);
    }
    for (direction, others) in DIRECTIONS {
        let rules = spec.items(direction);
        for (index, rule) in rules.iter().enumerate() {
            let path = path.child(direction).index(index);
            for (index, port) in rule.list("ports").iter().enumerate() {
                port_errors(&mut errors, port, &path.child("ports").index(index));
            }
            for (index, peer) in rule.list(others).iter().enumerate() {
                peer_errors(&mut errors, peer, old, &path.child(others).index(index));
            }
        }
    }
    let types = spec.items("policyTypes");
    let at = path.child("policyTypes");
    if types.len() > 2 {
        errors.push(FieldError::invalid(&at, types.to_vec(), "may not specify more than two policyTypes"));
        return errors;
    }
    for (index, kind) in types.iter().enumerate() {
        let kind = kind.as_str().unwrap_or_default();
        check::one_of(&mut errors, &at.index(index), kind, &["Ingress", "Egress"]);
    }
    errors
}

fn port_errors(errors: &mut FieldErrors, rule: &Value, path: &Path) {
    if let Some(protocol) = rule.maybe("protocol") {
        check::one_of(errors, &path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]);
    }
    let (end, end_at) = (rule.int("endPort"), path.child("endPort"));
    let mut refuse_end = |detail: &str| {
        errors.extend(end.map(|end| FieldError::invalid(&end_at, end, detail)));
    };
    match rule.field("port") {
        None => refuse_end("may not be specified when `port` is not specified"),
        Some(Value::String(_)) => {
            refuse_end("may not be specified when `port` is non-numeric");
            check::port(errors, &path.child("port"), rule.field("port"));
        }
        Some(port) => {
            check::port(errors, &path.child("port"), Some(port));
            let Some(end) = end else { return };
            if port.as_i64().is_some_and(|port| end < port) {
                let detail = "must be greater than or equal to `port`";
                errors.push(FieldError::invalid(&end_at, port.clone(), detail));
            }
            let wrong = names::port_number(end).into_iter();
            errors.extend(wrong.map(|detail| FieldError::invalid(&end_at, end, detail)));
        }
    }
}

fn peer_errors(errors: &mut FieldErrors, peer: &Value, old: &[&str], path: &Path) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if let Some(selector) = peer.map(field) {
            count += 1;
            check::label_selector(errors, &path.child(field), selector);
        }
    }
    let block = peer.map("ipBlock");
    if let Some(block) = block {
        count += 1;
        block_errors(errors, block, old, &path.child("ipBlock"));
    }
    if count == 0 {
        errors.push(FieldError::required(path, "must specify a peer"));
    } else if count > 1 && block.is_some() {
        errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
    }
}

fn block_errors(errors: &mut FieldErrors, block: &Map<String, Value>, old: &[&str], path: &Path) {
    let (text, at) = (block.text("cidr"), path.child("cidr"));
    if text.is_empty() {
        errors.push(FieldError::required(&at, ""));
        return;
    }
    errors.extend(names::cidr(&at, text, true, old));
    let Some(range) = names::parse_cidr(text) else { return };
    for (index, text) in block.texts("except").enumerate() {
        let at = path.child("except").index(index);
        errors.extend(names::cidr(&at, text, true, old));
        let Some(except) = names::parse_cidr(text) else { continue };
        if !range.contains(except.network()) || range.prefix >= except.prefix {
            errors.push(FieldError::invalid(&at, text, "must be a strict subset of `cidr`"));
        }
    }
}

fn ranges(peer: &Value) -> impl Iterator<Item = &str> {
    let block = peer.map("ipBlock");
    block.into_iter().flat_map(|block| block.maybe("cidr").into_iter().chain(block.texts("except")))
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let kept: Vec<&str> = peers(old).flat_map(|(_, peer)| ranges(peer)).collect();
    validate(object, &kept)
}

fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    let ranges = peers(object).flat_map(|(path, peer)| {
        let path = path.child("ipBlock");
        let block = peer.map("ipBlock");
        let range = block.maybe("cidr").map(|text| names::cidr_warnings(&path.child("cidr"), text));
        let except = block.items("except").iter().enumerate();
        let except: Vec<String> = except
            .flat_map(|(index, text)| {
                let path = path.child("except").index(index);
                names::cidr_warnings(&path, text.as_str().unwrap_or_default())
            })
            .collect();
        range.unwrap_or_default().into_iter().chain(except)
    });
    idle::warnings(object, old).into_iter().chain(ranges).collect()
}

fn columns() -> Vec<Column> {
    let selector = table::column("Pod-Selector", "string", "To which pods it applies.");
    vec![table::name(), selector, table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let selector = table::selector(object.spec().under("podSelector"));
    vec![object.name().into(), selector.into(), table::age_of(object, now)]
}
