//! The core group, `v1`.

pub mod claim;
mod config_map;
mod controller;
pub(super) mod endpoints;
pub(in crate::kinds) mod event;
mod limits;
mod namespace;
mod node;
pub mod pod;
mod resource_names;
mod scheduling;
mod secret;
pub mod service;
mod service_account;
mod transient;
pub mod volume;

use super::base::{Fields, Kind};
use crate::resource::Resource;
use serde_json::{Map, Value};

/// The resources of the core group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    let kinds = [
        transient::binding(),
        transient::component_status(),
        config_map::kind(),
        endpoints::kind(),
        event::kind(),
        limits::range(),
        namespace::kind(),
        node::kind(),
        claim::kind(),
        volume::kind(),
        pod::kind(),
        controller::template(),
        controller::controller(),
        limits::quota(),
        secret::kind(),
        service_account::kind(),
        service::kind(),
    ];
    kinds.map(Kind::resource).into()
}

/// A field that Kubernetes has twice, `one` for the time when there was one and `many`: the first of many is the one, and
/// where they differ the one holds. Items of `many` are objects with the field `item`, or the values themselves.
fn both_forms(fields: &mut Map<String, Value>, one: &str, many: &str, item: Option<&str>) {
    let first = fields.list(many).first().map(|first| match item {
        Some(item) => first.text(item).to_owned(),
        None => first.as_str().unwrap_or_default().to_owned(),
    });
    let single = fields.text(one).to_owned();
    match first {
        Some(first) if single.is_empty() && !first.is_empty() => {
            drop(fields.insert(one.to_owned(), first.into()))
        }
        Some(first) if first == single => {}
        _ if single.is_empty() => {}
        _ => {
            let value = match item {
                Some(item) => Value::Object(Map::from_iter([(item.to_owned(), single.into())])),
                None => single.into(),
            };
            fields.insert(many.to_owned(), vec![value].into());
        }
    }
}

/// Now, as times are written.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The size of all values of a ConfigMap or Secret, in bytes.
const DATA_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
