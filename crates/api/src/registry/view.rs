//! Objects in another form: tables, and their metadata alone (`meta.k8s.io`).

use super::document;
use super::target::{Include, Meta, View};
use crate::contract::{Object, Result};
use crate::resource::Resource;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What Kubernetes says of the two columns of kinds that have none of their own.
pub(super) const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some \
    resources may allow a client to request the generation of an appropriate name automatically. Name is primarily \
    intended for creation idempotence and configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
pub(super) const CREATED: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is \
    not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is \
    represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// One object, given as JSON in the resource's version, in the form that was asked for.
pub(super) fn one(resource: &Resource, json: Bytes, form: View) -> Result<Bytes> {
    match form {
        View::Full => Ok(json),
        View::Metadata(meta) => Ok(Bytes::from(metadata(&document::parse(&json)?, meta))),
        View::Table(include, meta) => {
            let object = document::parse(&json)?;
            Ok(Bytes::from(table(resource, &object, (include, meta), true)))
        }
    }
}

/// A table of one object; `headed` says whether with the columns, which a watch tells once.
pub(super) fn table(
    resource: &Resource,
    object: &Object,
    (include, meta): (Include, Meta),
    headed: bool,
) -> Vec<u8> {
    let columns = if headed { columns(resource) } else { Value::Null };
    tabled_as(object, meta, &columns, &row(resource, object, include, meta))
}

/// A table of one object that has columns and cells of its own.
pub(super) fn tabled(
    object: &Object,
    columns: &Value,
    cells: Vec<Value>,
    (include, meta): (Include, Meta),
) -> Vec<u8> {
    tabled_as(object, meta, columns, &row_of(object, cells, include, meta))
}

fn tabled_as(object: &Object, meta: Meta, columns: &Value, row: &[u8]) -> Vec<u8> {
    let (api_version, version) = (meta.api_version(), Value::from(object.resource_version()));
    let mut out = format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"{api_version}\",\"metadata\":{{\"resourceVersion\":{version}}},\
         \"columnDefinitions\":{columns},\"rows\":["
    )
    .into_bytes();
    out.extend_from_slice(row);
    out.extend_from_slice(b"]}");
    out
}

/// The columns of the resource's table.
pub(super) fn columns(resource: &Resource) -> Value {
    let columns = resource.strategy.columns();
    if columns.is_empty() {
        return json!([
            {"name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0},
            {"name": "Created At", "type": "date", "format": "", "description": CREATED, "priority": 0},
        ]);
    }
    columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect()
}

/// A row of the resource's table.
pub(super) fn row(resource: &Resource, object: &Object, include: Include, meta: Meta) -> Vec<u8> {
    let cells = if resource.strategy.columns().is_empty() {
        let created = object.text(&["metadata", "creationTimestamp"]);
        vec![object.name().into(), created.into()]
    } else {
        resource.strategy.row(object, Timestamp::now().as_second())
    };
    row_of(object, cells, include, meta)
}

fn row_of(object: &Object, cells: Vec<Value>, include: Include, meta: Meta) -> Vec<u8> {
    let mut out = format!("{{\"cells\":{}", Value::Array(cells)).into_bytes();
    let shown = match include {
        Include::None => None,
        Include::Metadata => Some(Bytes::from(metadata(object, meta))),
        Include::Object => Some(document::json(object)),
    };
    if let Some(shown) = shown {
        out.extend_from_slice(b",\"object\":");
        out.extend_from_slice(&shown);
    }
    out.push(b'}');
    out
}

/// The object's metadata alone.
pub(super) fn metadata(object: &Object, meta: Meta) -> Vec<u8> {
    let mut map = Map::new();
    map.insert("kind".to_owned(), "PartialObjectMetadata".into());
    map.insert("apiVersion".to_owned(), meta.api_version().into());
    if let Some(metadata) = object.0.get("metadata") {
        map.insert("metadata".to_owned(), metadata.clone());
    }
    document::json(&Object(map)).to_vec()
}
