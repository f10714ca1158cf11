//! Whether two answers are equal but for what no two answers have in common.

use super::rig::Answer;
use serde_json::{Map, Value};

/// The first difference, or none.
pub(crate) fn difference(case: &Value, answer: &Answer) -> Option<String> {
    let status = case["status"].as_u64().unwrap();
    if status != u64::from(answer.status) {
        return Some(format!(
            "status {status} became {}: {}",
            answer.status,
            shortened(&answer.body.to_string())
        ));
    }
    let warnings: Vec<&str> =
        case["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let told: Vec<&str> = answer.warnings.iter().map(String::as_str).collect();
    if warnings != told {
        return Some(format!("warnings {warnings:?} became {told:?}"));
    }
    let mut expected = case["answer"].clone();
    let mut found = answer.body.clone();
    if expected["kind"] == "Table" {
        // What is in the table is not what there is here: its form is.
        for table in [&mut expected, &mut found] {
            table["rows"] = Value::Null;
        }
    }
    if expected["kind"] == "APIResourceList" {
        drop_hashes(&mut expected);
        drop_hashes(&mut found);
    }
    plain(&mut expected, "");
    plain(&mut found, "");
    first("", &expected, &found)
}

/// Hashes of storage are the business of migrations.
fn drop_hashes(list: &mut Value) {
    for resource in list["resources"].as_array_mut().into_iter().flatten() {
        resource.as_object_mut().unwrap().remove("storageVersionHash");
    }
}

fn first(path: &str, expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => first_of_maps(path, expected, found),
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let pairs = expected.iter().zip(found).enumerate();
            pairs
                .into_iter()
                .find_map(|(index, (expected, found))| first(&format!("{path}[{index}]"), expected, found))
        }
        _ if expected == found => None,
        _ => Some(format!(
            "{path}\n    was {}\n    is  {}",
            shortened(&expected.to_string()),
            shortened(&found.to_string())
        )),
    }
}

fn first_of_maps(path: &str, expected: &Map<String, Value>, found: &Map<String, Value>) -> Option<String> {
    for (name, value) in expected {
        let path = format!("{path}.{name}");
        match found.get(name) {
            None => return Some(format!("{path} is not there; it was {}", shortened(&value.to_string()))),
            Some(held) => {
                if let Some(difference) = first(&path, value, held) {
                    return Some(difference);
                }
            }
        }
    }
    let (name, value) = found.iter().find(|(name, _)| !expected.contains_key(*name))?;
    Some(format!("{path}.{name} was not there; it is {}", shortened(&value.to_string())))
}

/// Takes out of an answer what is another one each time.
fn plain(value: &mut Value, field: &str) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                plain(value, name);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| plain(value, field)),
        Value::String(text) => {
            let plain = match field {
                "uid" => "UID".to_owned(),
                "resourceVersion" => "VERSION".to_owned(),
                "creationTimestamp" | "time" | "lastTransitionTime" => "TIME".to_owned(),
                _ => without_chance(text),
            };
            *text = plain;
        }
        _ => {}
    }
}

/// A text with its uids, versions and generated suffixes replaced.
fn without_chance(text: &str) -> String {
    let is_uid = |word: &str| {
        word.len() == 36
            && word.char_indices().all(|(at, character)| match at {
                8 | 13 | 18 | 23 => character == '-',
                _ => character.is_ascii_hexdigit(),
            })
    };
    let mut words: Vec<String> = Vec::new();
    let mut before = "";
    for word in text.split_inclusive([' ', '(', ')', '"']) {
        let bare = word.trim_end_matches([' ', '(', ')', '"']);
        let rest = &word[bare.len()..];
        if is_uid(bare) {
            words.push(format!("UID{rest}"));
        } else if before == "current: " {
            words.push(format!("VERSION{rest}"));
        } else if bare.starts_with("kube-api-access-") {
            words.push(format!("kube-api-access-NAME{rest}"));
        } else if bare.len() == 7 && bare.starts_with("x-") {
            words.push(format!("x-NAME{rest}"));
        } else {
            words.push(word.to_owned());
        }
        before = word;
    }
    words.concat()
}

fn shortened(text: &str) -> String {
    let most = 600;
    if text.chars().count() <= most {
        text.to_owned()
    } else {
        text.chars().take(most).collect::<String>() + "..."
    }
}
