//! The document of OpenAPI v2 as protobuf, in the messages of gnostic's `openapi.v2`: clients of Kubernetes ask for it in
//! no other form.
//!
//! Only what the document of [`v2`](super::v2) has is written.

use serde_json::{Map, Value};

/// `application/com.github.proto-openapi.spec.v2@v1.0+protobuf` of the document that [`v2`](super::v2) made.
#[must_use]
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.message(2, &info(&document["info"]));
    let mut paths = Message::default();
    for (path, item) in fields(&document["paths"]) {
        paths.message(2, &named(path, &path_item(item)));
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    for (name, definition) in fields(&document["definitions"]) {
        definitions.message(1, &named(name, &schema(definition)));
    }
    out.message(9, &definitions);
    out.0
}

fn info(info: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &info["title"]);
    out.text(2, &info["version"]);
    out
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (number, verb) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if item[verb].is_object() {
            out.message(number, &operation(&item[verb]));
        }
    }
    for one in items(&item["parameters"]) {
        out.message(9, &parameter(one));
    }
    out
}

fn operation(operation: &Value) -> Message {
    let mut out = Message::default();
    out.texts(1, &operation["tags"]);
    out.text(3, &operation["description"]);
    out.text(5, &operation["operationId"]);
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    for one in items(&operation["parameters"]) {
        out.message(8, &parameter(one));
    }
    let mut responses = Message::default();
    for (code, response) in fields(&operation["responses"]) {
        let mut inner = Message::default();
        inner.text(1, &response["description"]);
        if response["schema"].is_object() {
            let mut item = Message::default();
            item.message(1, &schema(&response["schema"]));
            inner.message(2, &item);
        }
        let mut value = Message::default();
        value.message(1, &inner);
        responses.message(1, &named(code, &value));
    }
    out.message(9, &responses);
    out.texts(10, &operation["schemes"]);
    out.extensions(13, operation);
    out
}

/// A `ParametersItem`.
fn parameter(parameter: &Value) -> Message {
    let mut choice = Message::default();
    if parameter["in"] == "body" {
        let mut body = Message::default();
        body.text(1, &parameter["description"]);
        body.text(2, &parameter["name"]);
        body.text(3, &parameter["in"]);
        body.truth(4, &parameter["required"]);
        body.message(5, &schema(&parameter["schema"]));
        choice.message(1, &body);
    } else {
        // In paths and in queries: their messages differ in the numbers from the type on.
        let (kind, type_number, unique) = if parameter["in"] == "path" { (4, 5, 19) } else { (3, 6, 20) };
        let mut inner = Message::default();
        inner.truth(1, &parameter["required"]);
        inner.text(2, &parameter["in"]);
        inner.text(3, &parameter["description"]);
        inner.text(4, &parameter["name"]);
        inner.text(type_number, &parameter["type"]);
        inner.truth(unique, &parameter["uniqueItems"]);
        let mut non_body = Message::default();
        non_body.message(kind, &inner);
        choice.message(2, &non_body);
    }
    let mut out = Message::default();
    out.message(1, &choice);
    out
}

fn schema(schema_value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &schema_value["$ref"]);
    out.text(2, &schema_value["format"]);
    out.text(3, &schema_value["title"]);
    out.text(4, &schema_value["description"]);
    out.text(13, &schema_value["pattern"]);
    out.texts(19, &schema_value["required"]);
    for value in items(&schema_value["enum"]) {
        out.message(20, &any(value));
    }
    let rest = &schema_value["additionalProperties"];
    if rest.is_object() {
        let mut item = Message::default();
        item.message(1, &schema(rest));
        out.message(21, &item);
    } else if rest.is_boolean() {
        let mut item = Message::default();
        item.truth(2, rest);
        out.message(21, &item);
    }
    if schema_value["type"].is_string() {
        let mut item = Message::default();
        item.text(1, &schema_value["type"]);
        out.message(22, &item);
    }
    if schema_value["items"].is_object() {
        let mut item = Message::default();
        item.message(1, &schema(&schema_value["items"]));
        out.message(23, &item);
    }
    if schema_value["properties"].is_object() {
        let mut properties = Message::default();
        for (name, field) in fields(&schema_value["properties"]) {
            properties.message(1, &named(name, &schema(field)));
        }
        out.message(25, &properties);
    }
    out.extensions(31, schema_value);
    out
}

/// A value as YAML, which JSON is.
fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(2, &Value::String(value.to_string()));
    out
}

fn named(name: &str, value: &Message) -> Message {
    let mut out = Message::default();
    out.bytes(1, name.as_bytes());
    out.message(2, value);
    out
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A message of protobuf.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// A string, when it is one.
    fn text(&mut self, number: u32, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u32, value: &Value) {
        items(value).iter().for_each(|text| self.text(number, text));
    }

    fn truth(&mut self, number: u32, value: &Value) {
        if value == &Value::Bool(true) {
            self.varint(u64::from(number) << 3);
            self.varint(1);
        }
    }

    /// Members whose names begin with `x-`.
    fn extensions(&mut self, number: u32, of: &Value) {
        for (name, value) in fields(of).filter(|(name, _)| name.starts_with("x-")) {
            self.message(number, &named(name, &any(value)));
        }
    }

    fn message(&mut self, number: u32, message: &Message) {
        self.bytes(number, &message.0);
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
            number >>= 7;
        }
        self.0.push(u8::try_from(number).unwrap_or_default());
    }
}
