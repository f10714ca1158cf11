//! OpenAPI v2 and v3 of all that is served: what `kubectl explain`, its validation and its patches go by.
//!
//! Documents are made when they are asked for, of the resources that are served at that moment, and not kept.
//! Descriptions lie compressed in the program until then.

mod definitions;
mod paths;
mod proto;

use crate::resource::Resource;
use crate::schema;
use definitions::{Definitions, Dialect};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

pub use proto::encode as protobuf;

const TITLE: &str = "Kubernetes";
const VERSION: &str = "1.36";

/// The document of `/openapi/v2`. Clients that ask for `application/com.github.proto-openapi.spec.v2@v1.0+protobuf` take
/// nothing else: see [`protobuf`].
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
    let versions: BTreeSet<(&str, &str)> =
        resources.iter().map(|resource| (&*resource.names.group, &*resource.names.version)).collect();
    let definitions = schema::definitions();
    let mut paths = Map::new();
    for (group, version) in versions {
        let Some(document) = document(&definitions, resources, group, version) else { continue };
        let path = &paths::base(group, version)[1..];
        let hash = hash(document.to_string().as_bytes());
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path.to_owned(), json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The document of one group version; `group` is empty of the core group. `None` where nothing of it is served.
#[must_use]
pub fn v3(resources: &[Resource], group: &str, version: &str) -> Option<Value> {
    document(&schema::definitions(), resources, group, version)
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
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": TITLE, "version": VERSION},
        "paths": paths::of(&of_version, Dialect::V3),
        "components": {
            "schemas": Definitions::of(definitions, &of_version, resources).told(Dialect::V3),
            "securitySchemes": {
                "BearerToken": {
                    "type": "apiKey", "name": "authorization", "in": "header",
                    "description": "Bearer Token authentication",
                },
            },
        },
    }))
}

/// Hexadecimal digits in capitals, as Kubernetes writes them.
fn hash(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests;
