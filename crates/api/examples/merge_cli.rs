//! Applies patches that are told as lines of JSON, for comparison with a real API server:
//!
//! `{"do": "json|merge|strategic|apply|record", "type": "io.k8s.api.core.v1.Pod", "live": {..}, "patch": {..}, "manager": {..},
//! "force": false, "without": [["status"]]}` is answered by the patched object or `{"status": {..}}`.

use api::contract::Object;
use api::merge::managed::{self, Manager, Operation, Owned};
use api::merge::{json_patch, merge_patch, strategic};
use api::schema;
use serde_json::{Value, json};
use std::io::{BufRead as _, Write as _};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?) {
            Ok(request) => answer(&request),
            Err(cause) => json!({"error": cause.to_string()}),
        };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(request: &Value) -> Value {
    let text = |name: &str| request[name].as_str().unwrap_or_default();
    let Some(schema) = schema::builtin(text("type")) else { return json!({"error": "no such type"}) };
    let (live, patch) = (&request["live"], &request["patch"]);
    let object = |value: &Value| Object::from_value(value.clone());
    let manager = &request["manager"];
    let manager = |operation| Manager {
        name: manager["name"].as_str().unwrap_or_default().to_owned(),
        operation,
        api_version: manager["apiVersion"].as_str().unwrap_or_default().to_owned(),
        subresource: manager["subresource"].as_str().unwrap_or_default().to_owned(),
        time: manager["time"].as_str().unwrap_or("2026-01-01T00:00:00Z").to_owned(),
    };
    let paths: Vec<Vec<&str>> = request["without"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|path| path.as_array().into_iter().flatten().filter_map(Value::as_str).collect())
        .collect();
    let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
    let owned = Owned::Without(&paths);
    let patched = match text("do") {
        "json" => json_patch::apply(live, patch),
        "merge" => merge_patch::apply(live, patch),
        "strategic" => strategic::apply(live, patch, schema),
        "apply" => {
            let config = object(patch).unwrap_or_default();
            let force = request["force"].as_bool().unwrap_or_default();
            let applied = managed::apply(
                object(live).as_ref(),
                &config,
                schema,
                &manager(Operation::Apply),
                force,
                owned,
            );
            applied.map(Object::into_value)
        }
        "record" => {
            let mut new = object(patch).unwrap_or_default();
            managed::record(object(live).as_ref(), &mut new, schema, &manager(Operation::Update), owned);
            Ok(new.into_value())
        }
        _ => return json!({"error": "nothing that can be done"}),
    };
    patched.unwrap_or_else(|status| json!({"status": status.to_value()}))
}
