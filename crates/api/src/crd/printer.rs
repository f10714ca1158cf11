//! The columns of a definition (`additionalPrinterColumns`).

use super::jsonpath::JsonPath;
use crate::contract::Object;
use crate::kinds::base::{Fields, table};
use crate::resource::Column;
use serde_json::Value;

/// The columns of one version.
pub(super) struct Printer(Vec<(Column, Option<JsonPath>)>);

const AGE: &str = ".metadata.creationTimestamp";

impl Printer {
    /// The columns after the name; without any the age.
    pub(super) fn new(columns: &[Value]) -> Printer {
        if columns.is_empty() {
            let column = Column { kind: "date", ..table::age() };
            return Printer(vec![(column, JsonPath::parse(AGE))]);
        }
        Printer(columns.iter().map(|json| (column(json), JsonPath::parse(json.text("jsonPath")))).collect())
    }

    pub(super) fn columns(&self) -> Vec<Column> {
        std::iter::once(table::name()).chain(self.0.iter().map(|(column, _)| column.clone())).collect()
    }

    pub(super) fn row(&self, object: &Object, now: i64) -> Vec<Value> {
        let value = Value::Object(object.0.clone());
        let cells = self.0.iter().map(|(column, path)| {
            let found = path.as_ref().and_then(|path| path.find(&value).first().copied());
            found.map_or(Value::Null, |found| cell(column.kind, found, now))
        });
        std::iter::once(object.name().into()).chain(cells).collect()
    }
}

fn column(json: &Value) -> Column {
    let kind = ["integer", "number", "boolean", "date"].into_iter().find(|kind| *kind == json.text("type"));
    let formats = ["binary", "byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    let description = match json.text("description") {
        "" => format!("Custom resource definition column (in JSONPath format): {}", json.text("jsonPath")),
        text => text.to_owned(),
    };
    Column {
        name: json.text("name").to_owned().into(),
        kind: kind.unwrap_or("string"),
        format: formats.into_iter().find(|format| *format == json.text("format")).unwrap_or_default(),
        description: description.into(),
        priority: i32::try_from(json.int("priority").unwrap_or(0)).unwrap_or(0),
    }
}

fn cell(kind: &str, found: &Value, now: i64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "as Kubernetes does")]
    match (kind, found) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(number) => number.into(),
            None => (number.as_f64().unwrap_or(0.0) as i64).into(),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => found.clone(),
        ("date", Value::String(text)) => match table::seconds(text) {
            Some(_) => table::since(text, now).into(),
            None => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}
