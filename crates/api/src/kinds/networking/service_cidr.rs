//! ServiceCIDR.

use super::GROUP;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Fields, Kind, check, table};
use crate::kinds::idle;
use crate::kinds::shown::{self, Shown};
use crate::resource::{Column, Part};
use serde_json::{Value, json};

pub(super) fn kind() -> Kind {
    Kind::new(GROUP, "v1", "ServiceCIDR", "servicecidrs", "io.k8s.api.networking.v1.ServiceCIDR")
        .cluster_scoped()
        .without_generation()
        .parts(&[Part::Status])
        .default(|object| {
            object.make(&["spec"]);
        })
        .prepare_create(|object| drop(object.0.insert("status".to_owned(), json!({}))))
        .validate(|object| errors_of(&cidrs(object)))
        .validate_update(validate_update)
        .warnings(idle::warnings)
        .table(columns, row)
}

fn cidrs(object: &Object) -> Vec<&str> {
    object.spec().map(|spec| spec.texts("cidrs").collect()).unwrap_or_default()
}

fn path() -> Path {
    Path::new("spec").child("cidrs")
}

fn errors_of(cidrs: &[&str]) -> FieldErrors {
    let path = path();
    match cidrs {
        [] => return vec![FieldError::required(&path, "at least one CIDR required")],
        [_] | [_, _] => {}
        _ => {
            let shown = Shown::new().field("CIDRs", Some(&json!(cidrs))).end();
            return vec![shown::invalid(&path, shown, "may only hold up to 2 values")];
        }
    }
    let mut errors = FieldErrors::new();
    for (index, text) in cidrs.iter().enumerate() {
        let path = path.index(index);
        let wrong = names::cidr(&path, text, true, &[]);
        let well_formed = wrong.is_empty();
        errors.extend(wrong);
        if let Some(range) = names::parse_cidr(text).filter(|range| well_formed && range.canonical() != *text)
        {
            let detail = format!("must be in canonical form ({:?})", range.canonical());
            errors.push(FieldError::invalid(&path, *text, detail));
        }
    }
    let families: Vec<bool> = cidrs
        .iter()
        .filter_map(|text| names::parse_cidr(text))
        .map(|range| range.network().is_ipv4())
        .collect();
    if matches!(families[..], [one, other] if one == other) {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(&path, json!(cidrs), detail));
    }
    errors
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    if part == Part::Status {
        return FieldErrors::new();
    }
    let (new, old, path) = (cidrs(object), cidrs(old), path());
    let changed = |index: usize| FieldError::invalid(&path.index(index), new[index], check::IMMUTABLE);
    if new.len() == old.len() {
        return (0..new.len()).filter(|index| new[*index] != old[*index]).map(changed).collect();
    }
    if let ([first, _], [kept]) = (&new[..], &old[..]) {
        let mut errors: FieldErrors = (first != kept).then(|| changed(0)).into_iter().collect();
        errors.extend(errors_of(&new));
        return errors;
    }
    vec![FieldError::invalid(&path, json!(new), check::IMMUTABLE)]
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("CIDRs", "string", "The ranges of addresses."), table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    vec![object.name().into(), cidrs(object).join(",").into(), table::age_of(object, now)]
}
