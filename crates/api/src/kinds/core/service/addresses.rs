//! What is wrong with the addresses and families of a service.

use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const FIXED: &str = "may not change once set";

/// Whether it has no address of its own on purpose.
pub(super) fn is_headless(spec: &Map<String, Value>) -> bool {
    matches!(spec.list("clusterIPs"), [only] if only == "None")
}

/// `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`.
pub(super) fn check(
    errors: &mut FieldErrors,
    path: &Path,
    spec: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
) {
    if spec.text("type") == "ExternalName" {
        return;
    }
    let (single, list) = (spec.text("clusterIP"), spec.list("clusterIPs"));
    let at = path.child("clusterIPs");
    match list.first().and_then(Value::as_str) {
        None if !single.is_empty() => errors.required(&at, ""),
        Some(first) if !single.is_empty() && first != single => {
            errors.invalid(&at, list.to_vec(), "first value must match `clusterIP`");
        }
        Some(_) if single.is_empty() => {
            errors.invalid(&at, list.to_vec(), "must be empty when `clusterIP` is not specified");
        }
        _ => {}
    }
    families(errors, path, spec);
    if !well_formed(errors, &at, spec, old) {
        return;
    }
    let v4: Vec<bool> = spec.texts("clusterIPs").map(|ip| !ip.contains(':')).collect();
    if list.len() > 1 && (list.len() > 2 || v4.iter().collect::<BTreeSet<_>>().len() != 2) {
        errors.invalid(&at, list.to_vec(), "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    for (index, (family, ip)) in spec.texts("ipFamilies").zip(spec.texts("clusterIPs")).enumerate() {
        let wrong = (family == "IPv4" && !v4[index]) || (family == "IPv6" && v4[index]);
        if wrong {
            let rule = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&at.index(index), ip, rule);
        }
    }
}

fn families(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    let mut seen = BTreeSet::new();
    for (index, family) in spec.texts("ipFamilies").enumerate() {
        let at = path.child("ipFamilies").index(index);
        if !matches!(family, "IPv4" | "IPv6") {
            errors.not_supported(&at, family, &["IPv4", "IPv6"]);
        }
        if !seen.insert(family) {
            errors.duplicate(&at, family);
        }
    }
    let policies = &["PreferDualStack", "RequireDualStack", "SingleStack"];
    errors.choice(path, spec, "ipFamilyPolicy", policies, false);
}

/// Whether each address is one.
fn well_formed(
    errors: &mut FieldErrors,
    at: &Path,
    spec: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
) -> bool {
    let list = spec.list("clusterIPs");
    let kept: Vec<&str> = old.texts("clusterIPs").collect();
    let mut all = true;
    for (index, ip) in spec.texts("clusterIPs").enumerate() {
        if index == 0 && ip == "None" {
            if list.len() > 1 {
                all = false;
                errors.invalid(at, list.to_vec(), "'None' must be the first and only value");
            }
            continue;
        }
        let found = names::ip_of_old(&at.index(index), ip, true, &kept);
        all &= found.is_empty();
        errors.extend(found);
    }
    if list.len() > 2 {
        errors.invalid(at, list.to_vec(), "may only hold up to 2 values");
    }
    all
}

/// What may change of addresses and families.
pub(super) fn check_update(errors: &mut FieldErrors, new: &Object, old: &Object) {
    let empty = Map::new();
    let (new, old) = (new.spec().unwrap_or(&empty), old.spec().unwrap_or(&empty));
    if new.text("type") == "ExternalName" || old.text("type") == "ExternalName" {
        return;
    }
    let (is, was) = (is_headless(new), is_headless(old));
    if !(is && was) {
        addresses(errors, new, old);
    }
    if !is && !was {
        families_update(errors, new, old);
    }
}

fn addresses(errors: &mut FieldErrors, new: &Map<String, Value>, old: &Map<String, Value>) {
    let (is, was) = (new.list("clusterIPs"), old.list("clusterIPs"));
    let at = Path::new("spec").child("clusterIPs");
    let first_differs = !was.is_empty() && !is.is_empty() && is[0] != was[0];
    if was.len() == is.len() {
        for (index, _) in is.iter().zip(was).enumerate().filter(|(_, (is, was))| is != was) {
            errors.invalid(&at.index(index), is.to_vec(), FIXED);
        }
        return;
    }
    if is.is_empty() {
        errors.invalid(&at.index(0), Value::Null, "primary clusterIP can not be unset");
    }
    if first_differs {
        errors.invalid(&at.index(0), is.to_vec(), FIXED);
    }
    if was.len() > is.len() && is.len() == 1 {
        released(errors, new, "clusterIP");
    }
}

fn families_update(errors: &mut FieldErrors, new: &Map<String, Value>, old: &Map<String, Value>) {
    let (is, was) = (new.list("ipFamilies"), old.list("ipFamilies"));
    let at = Path::new("spec").child("ipFamilies").index(0);
    if was.len() == is.len() {
        for _ in is.iter().zip(was).filter(|(is, was)| is != was) {
            errors.invalid(&at, is.to_vec(), FIXED);
        }
        return;
    }
    let addresses = new.list("clusterIPs");
    if was.len() > is.len() && addresses.is_empty() {
        let shown = if is.is_empty() { Value::Null } else { is.to_vec().into() };
        errors.invalid(&at, shown, "primary ipFamily can not be unset");
    }
    if !was.is_empty() && !is.is_empty() && is[0] != was[0] {
        errors.invalid(&at, addresses.to_vec(), FIXED);
    }
    if was.len() > is.len() && is.len() == 1 {
        released(errors, new, "ipFamily");
    }
}

fn released(errors: &mut FieldErrors, new: &Map<String, Value>, what: &str) {
    if new.text("ipFamilyPolicy") != "SingleStack" {
        let shown = new.field("ipFamilyPolicy").cloned().unwrap_or(Value::Null);
        let rule = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.invalid(&Path::new("spec").child("ipFamilyPolicy"), shown, rule);
    }
}
