use serde_json::Value;

use super::{Sheet, conditions};
use crate::objects::Kind;

/// Anything: what the object has, then what became of it.
pub(super) fn describe(sheet: &mut Sheet, kind: &Kind, object: &Value) {
    sheet.field("API Version", &kind.api_version());
    sheet.field("Kind", &kind.name);
    for (key, below) in object.as_object().into_iter().flatten() {
        match (key.as_str(), below) {
            ("apiVersion" | "kind" | "metadata" | "status", _) => {}
            ("data", Value::Object(data)) if kind.name == "Secret" => {
                // What it has is nobody's who looks over a shoulder.
                let told: Vec<String> = data
                    .iter()
                    .map(|(name, value)| {
                        let length = value.as_str().map_or(0, str::len);
                        let padding = value
                            .as_str()
                            .map_or(0, |text| text.bytes().rev().take_while(|b| *b == b'=').count());
                        format!("{name}: {} bytes", (length / 4 * 3).saturating_sub(padding))
                    })
                    .collect();
                sheet.values("Data", &told);
            }
            (_, Value::Object(_) | Value::Array(_)) => {
                sheet.part(&capital(key), |sheet| sheet.tree(below));
            }
            (_, other) => sheet.field(&capital(key), other.as_str().unwrap_or(&other.to_string())),
        }
    }
    let mut status = object.get("status").cloned().unwrap_or_default();
    if let Some(map) = status.as_object_mut() {
        map.remove("conditions");
        if !map.is_empty() {
            sheet.part("Status", |sheet| sheet.tree(&status));
        }
    }
    conditions(sheet, object);
}

fn capital(key: &str) -> String {
    let mut letters = key.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
