//! An OpenAPI v2 document in the protobuf of `openapi.v2`, as kubectl up to 1.26 asks for it and no otherwise.
//!
//! Each message is a table of its fields, so that the numbers of the wire stand in one place. What a Kubernetes document
//! does not have (security, headers, forms) is left out.

use serde_json::{Map, Value};

/// How a field of JSON is written.
#[derive(Clone, Copy)]
enum How {
    Text,
    Texts,
    Bool,
    Int,
    Double,
    /// Any value, as YAML.
    Any,
    /// A list of such values.
    Anys,
    /// A message.
    One(&'static Message),
    /// A list of messages.
    Many(&'static Message),
    /// Some form of its own.
    By(fn(&Value) -> Option<Vec<u8>>),
    /// The same for each item of a list.
    EachBy(fn(&Value) -> Option<Vec<u8>>),
}

/// Name in JSON, number on the wire, form.
type Field = (&'static str, u32, How);

struct Message {
    fields: &'static [Field],
    /// The number of `vendor_extension`: fields that begin with `x-`.
    extensions: u32,
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, How::Text),
        ("info", 2, How::One(&INFO)),
        ("consumes", 6, How::Texts),
        ("produces", 7, How::Texts),
        ("paths", 8, How::By(paths)),
        ("definitions", 9, How::By(definitions)),
        ("parameters", 10, How::By(parameter_definitions)),
    ],
    extensions: 16,
};

static INFO: Message = Message {
    fields: &[("title", 1, How::Text), ("version", 2, How::Text), ("description", 3, How::Text)],
    extensions: 7,
};

static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, How::One(&OPERATION)),
        ("put", 3, How::One(&OPERATION)),
        ("post", 4, How::One(&OPERATION)),
        ("delete", 5, How::One(&OPERATION)),
        ("options", 6, How::One(&OPERATION)),
        ("head", 7, How::One(&OPERATION)),
        ("patch", 8, How::One(&OPERATION)),
        ("parameters", 9, How::EachBy(parameters_item)),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, How::Texts),
        ("summary", 2, How::Text),
        ("description", 3, How::Text),
        ("operationId", 5, How::Text),
        ("produces", 6, How::Texts),
        ("consumes", 7, How::Texts),
        ("parameters", 8, How::EachBy(parameters_item)),
        ("responses", 9, How::By(responses)),
        ("schemes", 10, How::Texts),
        ("deprecated", 11, How::Bool),
    ],
    extensions: 13,
};

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, How::Text),
        ("name", 2, How::Text),
        ("in", 3, How::Text),
        ("required", 4, How::Bool),
        ("schema", 5, How::One(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, How::Bool),
        ("in", 2, How::Text),
        ("description", 3, How::Text),
        ("name", 4, How::Text),
        ("type", 6, How::Text),
        ("format", 7, How::Text),
        ("uniqueItems", 20, How::Bool),
    ],
    extensions: 23,
};

static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, How::Bool),
        ("in", 2, How::Text),
        ("description", 3, How::Text),
        ("name", 4, How::Text),
        ("type", 5, How::Text),
        ("format", 6, How::Text),
        ("uniqueItems", 19, How::Bool),
    ],
    extensions: 22,
};

static REFERENCE: Message =
    Message { fields: &[("$ref", 1, How::Text), ("description", 2, How::Text)], extensions: 0 };

static RESPONSE: Message =
    Message { fields: &[("description", 1, How::Text), ("schema", 2, How::By(schema_item))], extensions: 5 };

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, How::Text),
        ("format", 2, How::Text),
        ("title", 3, How::Text),
        ("description", 4, How::Text),
        ("default", 5, How::Any),
        ("multipleOf", 6, How::Double),
        ("maximum", 7, How::Double),
        ("exclusiveMaximum", 8, How::Bool),
        ("minimum", 9, How::Double),
        ("exclusiveMinimum", 10, How::Bool),
        ("maxLength", 11, How::Int),
        ("minLength", 12, How::Int),
        ("pattern", 13, How::Text),
        ("maxItems", 14, How::Int),
        ("minItems", 15, How::Int),
        ("uniqueItems", 16, How::Bool),
        ("maxProperties", 17, How::Int),
        ("minProperties", 18, How::Int),
        ("required", 19, How::Texts),
        ("enum", 20, How::Anys),
        ("additionalProperties", 21, How::By(additional_properties)),
        ("type", 22, How::By(type_item)),
        ("items", 23, How::By(items)),
        ("allOf", 24, How::Many(&SCHEMA)),
        ("properties", 25, How::By(definitions)),
        ("example", 30, How::Any),
    ],
    extensions: 31,
};

/// A whole document.
pub(super) fn document(value: &Value) -> Vec<u8> {
    message(&DOCUMENT, value)
}

fn message(what: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let Value::Object(map) = value else {
        return out;
    };
    for (name, number, how) in what.fields {
        if let Some(value) = map.get(*name) {
            field(&mut out, *number, *how, value);
        }
    }
    if what.extensions > 0 {
        named_anys(&mut out, what.extensions, map);
    }
    out
}

fn field(out: &mut Vec<u8>, number: u32, how: How, value: &Value) {
    let list = || value.as_array().into_iter().flatten();
    match how {
        How::Text => bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        How::Texts => {
            for text in list().filter_map(Value::as_str) {
                bytes(out, number, text.as_bytes());
            }
        }
        How::Bool => {
            if value.as_bool() == Some(true) {
                tag(out, number, 0);
                out.push(1);
            }
        }
        How::Int => {
            tag(out, number, 0);
            varint(out, value.as_i64().unwrap_or_default().cast_unsigned());
        }
        How::Double => {
            tag(out, number, 1);
            out.extend_from_slice(&value.as_f64().unwrap_or_default().to_le_bytes());
        }
        How::Any => bytes(out, number, &any(value)),
        How::Anys => list().for_each(|item| bytes(out, number, &any(item))),
        How::One(what) => bytes(out, number, &message(what, value)),
        How::Many(what) => list().for_each(|item| bytes(out, number, &message(what, item))),
        How::By(write) => {
            if let Some(written) = write(value) {
                bytes(out, number, &written);
            }
        }
        How::EachBy(write) => list().filter_map(write).for_each(|written| bytes(out, number, &written)),
    }
}

/// `Any`: JSON is YAML.
fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 2, value.to_string().as_bytes());
    out
}

fn named_anys(out: &mut Vec<u8>, number: u32, map: &Map<String, Value>) {
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        bytes(out, number, &named(name, &any(value)));
    }
}

/// `NamedX`: a name and a message.
fn named(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + value.len() + 12);
    bytes(&mut out, 1, name.as_bytes());
    bytes(&mut out, 2, value);
    out
}

/// A message of named messages, all in one field.
fn all_named(value: &Value, number: u32, write: impl Fn(&Value) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for (name, value) in value.as_object()? {
        bytes(&mut out, number, &named(name, &write(value)?));
    }
    Some(out)
}

fn paths(value: &Value) -> Option<Vec<u8>> {
    all_named(value, 2, |item| Some(message(&PATH_ITEM, item)))
}

fn definitions(value: &Value) -> Option<Vec<u8>> {
    all_named(value, 1, |schema| Some(message(&SCHEMA, schema)))
}

fn parameter_definitions(value: &Value) -> Option<Vec<u8>> {
    all_named(value, 1, |parameter| Some(parameter_of(parameter)))
}

fn responses(value: &Value) -> Option<Vec<u8>> {
    all_named(value, 1, |response| Some(wrapped(1, &message(&RESPONSE, response))))
}

fn parameters_item(value: &Value) -> Option<Vec<u8>> {
    if value.get("$ref").is_some() {
        return Some(wrapped(2, &message(&REFERENCE, value)));
    }
    Some(wrapped(1, &parameter_of(value)))
}

fn parameter_of(value: &Value) -> Vec<u8> {
    match value.get("in").and_then(Value::as_str) {
        Some("body") => wrapped(1, &message(&BODY_PARAMETER, value)),
        Some("path") => wrapped(2, &wrapped(4, &message(&PATH_PARAMETER, value))),
        _ => wrapped(2, &wrapped(3, &message(&QUERY_PARAMETER, value))),
    }
}

fn schema_item(value: &Value) -> Option<Vec<u8>> {
    Some(wrapped(1, &message(&SCHEMA, value)))
}

fn additional_properties(value: &Value) -> Option<Vec<u8>> {
    Some(match value {
        Value::Bool(allowed) => {
            let mut out = Vec::new();
            tag(&mut out, 2, 0);
            out.push(u8::from(*allowed));
            out
        }
        schema => wrapped(1, &message(&SCHEMA, schema)),
    })
}

fn type_item(value: &Value) -> Option<Vec<u8>> {
    Some(wrapped(1, value.as_str()?.as_bytes()))
}

fn items(value: &Value) -> Option<Vec<u8>> {
    Some(wrapped(1, &message(&SCHEMA, value)))
}

fn wrapped(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    bytes(&mut out, number, content);
    out
}

fn bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    tag(out, number, 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    varint(out, u64::from(number << 3 | wire));
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Field numbers of a message with what they hold.
    fn fields(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        fn varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = u32::try_from(varint(&mut bytes)).unwrap();
            assert_eq!(key & 7, 2, "only messages and texts here");
            let length = usize::try_from(varint(&mut bytes)).unwrap();
            found.push((key >> 3, &bytes[..length]));
            bytes = &bytes[length..];
        }
        found
    }

    #[test]
    fn a_definition_is_found_where_kubectl_looks() {
        let bytes = document(&json!({
            "swagger": "2.0",
            "definitions": {"io.k8s.api.core.v1.Pod": {
                "description": "d".repeat(300),
                "type": "object",
                "properties": {"spec": {"$ref": "#/definitions/x"}},
                "x-kubernetes-group-version-kind": [{"group": "", "kind": "Pod", "version": "v1"}],
            }},
        }));
        let top = fields(&bytes);
        assert_eq!(top[0], (1, b"2.0".as_slice()));
        assert_eq!(top[1].0, 9);
        let named = fields(fields(top[1].1)[0].1);
        assert_eq!(named[0], (1, b"io.k8s.api.core.v1.Pod".as_slice()));
        let schema = fields(named[1].1);
        let numbers: Vec<u32> = schema.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [4, 22, 25, 31]);
        assert_eq!(fields(schema[1].1), [(1, b"object".as_slice())]);
        let property = fields(fields(schema[2].1)[0].1);
        assert_eq!(fields(property[1].1), [(1, b"#/definitions/x".as_slice())]);
        let extension = fields(schema[3].1);
        let yaml = fields(extension[1].1);
        assert_eq!(yaml, [(2, b"[{\"group\":\"\",\"kind\":\"Pod\",\"version\":\"v1\"}]".as_slice())]);
    }

    #[test]
    fn parameters_of_a_query_are_told_as_such() {
        let item = parameters_item(&json!({"name": "dryRun", "in": "query", "type": "string"})).unwrap();
        let query = fields(fields(fields(fields(&item)[0].1)[0].1)[0].1);
        assert!(query.contains(&(4, b"dryRun".as_slice())));
    }
}
