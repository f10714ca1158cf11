//! OpenAPI v2 and v3 of all that is served.

use crate::resource::Resource;
use serde_json::{Map, Value, json};

/// The document of `/openapi/v2`.
#[must_use]
pub fn v2(_resources: &[Resource]) -> Value {
    json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.36.2"}, "paths": {}, "definitions": {}})
}

/// The index of `/openapi/v3`.
#[must_use]
pub fn v3_paths(_resources: &[Resource]) -> Value {
    json!({"paths": Map::new()})
}

/// The document of one group version; `group` is empty of the core group. `None` where nothing of it is served.
#[must_use]
pub fn v3(_resources: &[Resource], _group: &str, _version: &str) -> Option<Value> {
    None
}
