//! OpenAPI v2 and v3 of all that is served: what `kubectl explain`, its validation and its patches go by.
//!
//! Documents are made when they are asked for, of the resources that are served at that moment, and not kept.
//! Descriptions lie compressed in the program until then.

mod definitions;
mod paths;
mod places;

use crate::resource::Resource;
use crate::schema;
use definitions::{Definitions, Dialect};
use serde_json::{Map, Value, json};

const TITLE: &str = "Kubernetes";
const VERSION: &str = "1.36";

/// The document of `/openapi/v2`.
#[must_use]
pub fn v2(resources: &[Resource]) -> Value {
    let all: Vec<&Resource> = resources.iter().collect();
    json!({
        "swagger": "2.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths::of(&all, Dialect::V2),
        "definitions": Definitions::of(&schema::definitions(), &all, resources).told(Dialect::V2),
        "securityDefinitions": {
            "BearerToken": {
                "type": "apiKey", "name": "authorization", "in": "header",
                "description": "Bearer Token authentication",
            },
        },
        "security": [{"BearerToken": []}],
    })
}

/// The index of `/openapi/v3`: where the document of each group version is, with a hash of what it tells, which changes
/// when it does.
#[must_use]
pub fn v3_paths(resources: &[Resource]) -> Value {
    let definitions = schema::definitions();
    let mut paths = Map::new();
    for place in places::all(resources) {
        let Some(document) = at(&definitions, resources, &place) else { continue };
        let hash = hash(document.to_string().as_bytes());
        let url = format!("/openapi/v3/{place}?hash={hash}");
        paths.insert(place, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The document of one place: a group version (`api/v1`, `apis/apps/v1`), or one where the server tells of itself
/// (`apis/apps`, `version`). `None` where nothing is served.
#[must_use]
pub fn v3(resources: &[Resource], place: &str) -> Option<Value> {
    at(&schema::definitions(), resources, place)
}

fn at(definitions: &Map<String, Value>, resources: &[Resource], place: &str) -> Option<Value> {
    let version = match place.split('/').collect::<Vec<_>>()[..] {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    };
    match version {
        Some((group, version)) => document(definitions, resources, group, version),
        None => places::document(definitions, resources, place),
    }
}

fn document(
    definitions: &Map<String, Value>,
    resources: &[Resource],
    group: &str,
    version: &str,
) -> Option<Value> {
    let of_version: Vec<&Resource> = resources
        .iter()
        .filter(|resource| resource.names.group == group && resource.names.version == version)
        .collect();
    if of_version.is_empty() {
        return None;
    }
    let schemas = Definitions::of(definitions, &of_version, resources).told(Dialect::V3);
    Some(v3_document(paths::of(&of_version, Dialect::V3), schemas))
}

fn v3_document(paths: Value, schemas: Value) -> Value {
    json!({
        "openapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey", "name": "authorization", "in": "header",
                    "description": "Bearer Token authentication",
                },
            },
        },
    })
}

/// Hexadecimal digits in capitals, as Kubernetes writes them.
fn hash(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests;
