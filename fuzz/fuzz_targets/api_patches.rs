//! Any JSON as an object and a patch of it, a line each: no panic, and an apply that is repeated changes nothing.

use api::contract::Object;
use api::merge::managed::{self, Manager, Operation, Owned};
use api::merge::{json_patch, merge_patch, strategic};
use serde_json::Value;

pub fn run(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let mut next = || serde_json::from_slice::<Value>(lines.next().unwrap_or_default());
    let (Ok(live), Ok(patch)) = (next(), next()) else { return };
    let schema = api::schema::builtin("io.k8s.api.core.v1.Pod").expect("pods are built in");
    let _ = json_patch::apply(&live, &patch);
    let _ = json_patch::unknown_fields(&patch);
    let _ = merge_patch::apply(&live, &patch);
    let _ = strategic::apply(&live, &patch, schema);
    let (Some(live), Some(config)) = (Object::from_value(live), Object::from_value(patch)) else { return };
    let manager = |operation| Manager {
        name: "fuzz".to_owned(),
        operation,
        api_version: "v1".to_owned(),
        subresource: String::new(),
        time: "2026-01-01T00:00:00Z".to_owned(),
    };
    let mut new = config.clone();
    managed::record(Some(&live), &mut new, schema, &manager(Operation::Update), Owned::All);
    let apply = manager(Operation::Apply);
    if let Ok(applied) =
        managed::apply(Some(&live), &config, schema, &apply, true, Owned::Without(&[&["status"]]))
    {
        let again =
            managed::apply(Some(&applied), &config, schema, &apply, false, Owned::Without(&[&["status"]]));
        assert!(again.is_ok());
    }
}
