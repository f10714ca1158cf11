//! A schema (`openAPIV3Schema`) as it is read from a definition.

use super::pattern::Pattern;
use crate::cel::types::{Declared, Field, Fields, ListKind, Shape};
use crate::kinds::base::Fields as _;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How deep a schema may nest.
const DEPTH: usize = 100;

/// One node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Props {
    pub(super) type_: String,
    pub(super) format: String,
    pub(super) nullable: bool,
    pub(super) default: Option<Value>,
    pub(super) maximum: Option<f64>,
    pub(super) minimum: Option<f64>,
    pub(super) exclusive_maximum: bool,
    pub(super) exclusive_minimum: bool,
    pub(super) multiple_of: Option<f64>,
    pub(super) max_length: Option<i64>,
    pub(super) min_length: Option<i64>,
    pub(super) max_items: Option<i64>,
    pub(super) min_items: Option<i64>,
    pub(super) max_properties: Option<i64>,
    pub(super) min_properties: Option<i64>,
    pub(super) unique_items: bool,
    pub(super) pattern: Pattern,
    pub(super) enum_: Vec<Value>,
    pub(super) required: Vec<String>,
    pub(super) items: Option<Box<Props>>,
    pub(super) properties: BTreeMap<String, Props>,
    pub(super) additional: Option<Additional>,
    pub(super) all_of: Vec<Props>,
    pub(super) any_of: Vec<Props>,
    pub(super) one_of: Vec<Props>,
    pub(super) not: Option<Box<Props>>,
    pub(super) int_or_string: bool,
    pub(super) preserve: Option<bool>,
    pub(super) embedded: bool,
    pub(super) list_type: Option<String>,
    pub(super) list_keys: Vec<String>,
    pub(super) map_type: Option<String>,
    pub(super) rules: Vec<Rule>,
    pub(super) title: bool,
    pub(super) description: bool,
    /// Whether `items` is a list.
    pub(super) items_list: bool,
    /// Keywords that OpenAPI knows and Kubernetes refuses, by their names here.
    pub(super) refused: Vec<&'static str>,
}

/// `additionalProperties`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Additional {
    Any(bool),
    Of(Box<Props>),
}

/// One of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rule {
    pub(super) rule: String,
    pub(super) message: String,
    pub(super) message_expression: String,
    pub(super) reason: Option<String>,
    pub(super) field_path: String,
    pub(super) optional_old_self: Option<bool>,
}

/// Keywords that are refused wherever they are set; the second name is that of the keyword.
const REFUSED: [&str; 7] =
    ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref", "$schema"];

impl Props {
    /// Reads a schema; what nests too deeply is left out, and [`super::structural`] refuses it as untyped.
    pub(super) fn read(json: &Value) -> Props {
        read(json, 0)
    }

    pub(super) fn preserves(&self) -> bool {
        self.preserve == Some(true)
    }

    /// The schema of values under any other key.
    pub(super) fn values(&self) -> Option<&Props> {
        match &self.additional {
            Some(Additional::Of(props)) => Some(props),
            _ => None,
        }
    }

    pub(super) fn is_list_type(&self, list_type: &str) -> bool {
        self.list_type.as_deref() == Some(list_type)
    }

    /// Whether anything in it is restricted by a rule.
    pub(super) fn has_rules(&self) -> bool {
        self.any(&|props| !props.rules.is_empty())
    }

    /// Whether it or anything that it declares (junctors declare nothing) is so.
    pub(super) fn any(&self, is: &impl Fn(&Props) -> bool) -> bool {
        is(self)
            || self.items.as_ref().is_some_and(|items| items.any(is))
            || self.values().is_some_and(|values| values.any(is))
            || self.properties.values().any(|props| props.any(is))
    }
}

fn read(json: &Value, depth: usize) -> Props {
    let Some(map) = json.as_object().filter(|_| depth < DEPTH) else { return Props::default() };
    let below = |json: &Value| read(json, depth + 1);
    let list = |name: &str| map.list(name).iter().map(below).collect();
    let additional = match map.get("additionalProperties") {
        Some(Value::Bool(allowed)) => Some(Additional::Any(*allowed)),
        Some(schema @ Value::Object(_)) => Some(Additional::Of(Box::new(below(schema)))),
        _ => None,
    };
    Props {
        type_: map.text("type").to_owned(),
        format: map.text("format").to_owned(),
        nullable: map.is("nullable"),
        default: map.get("default").filter(|default| !default.is_null()).cloned(),
        maximum: number(map, "maximum"),
        minimum: number(map, "minimum"),
        exclusive_maximum: map.is("exclusiveMaximum"),
        exclusive_minimum: map.is("exclusiveMinimum"),
        multiple_of: number(map, "multipleOf"),
        max_length: map.int("maxLength"),
        min_length: map.int("minLength"),
        max_items: map.int("maxItems"),
        min_items: map.int("minItems"),
        max_properties: map.int("maxProperties"),
        min_properties: map.int("minProperties"),
        unique_items: map.is("uniqueItems"),
        pattern: Pattern::new(map.text("pattern")),
        enum_: map.list("enum").to_vec(),
        required: map.texts("required").map(str::to_owned).collect(),
        items: map.get("items").filter(|items| items.is_object()).map(|items| Box::new(below(items))),
        properties: map
            .entries("properties")
            .map(|(name, schema)| (name.to_owned(), below(schema)))
            .collect(),
        additional,
        all_of: list("allOf"),
        any_of: list("anyOf"),
        one_of: list("oneOf"),
        not: map.get("not").filter(|not| not.is_object()).map(|not| Box::new(below(not))),
        int_or_string: map.is("x-kubernetes-int-or-string"),
        preserve: map.flag("x-kubernetes-preserve-unknown-fields"),
        embedded: map.is("x-kubernetes-embedded-resource"),
        list_type: map.maybe("x-kubernetes-list-type").map(str::to_owned),
        list_keys: map.texts("x-kubernetes-list-map-keys").map(str::to_owned).collect(),
        map_type: map.maybe("x-kubernetes-map-type").map(str::to_owned),
        rules: map.list("x-kubernetes-validations").iter().map(rule).collect(),
        title: !map.text("title").is_empty(),
        description: !map.text("description").is_empty(),
        items_list: map.get("items").is_some_and(Value::is_array),
        refused: REFUSED.into_iter().filter(|name| is_set(map.get(*name))).collect(),
    }
}

fn is_set(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

fn number(map: &Map<String, Value>, name: &str) -> Option<f64> {
    map.get(name).and_then(Value::as_f64)
}

fn rule(json: &Value) -> Rule {
    Rule {
        rule: json.text("rule").to_owned(),
        message: json.text("message").to_owned(),
        message_expression: json.text("messageExpression").to_owned(),
        reason: json.maybe("reason").map(str::to_owned),
        field_path: json.text("fieldPath").to_owned(),
        optional_old_self: json.flag("optionalOldSelf"),
    }
}

/// The largest request; no value can be larger.
const LARGEST: u64 = crate::cel::LARGEST;

/// What rules know of values of the schema: types and sizes. `None` where rules cannot look (no type). `root` adds
/// `apiVersion`, `kind` and `metadata`.
pub(super) fn declared(props: &Props, root: bool, name: &str) -> Option<Declared> {
    if props.int_or_string {
        let most = props.max_length.map_or(LARGEST - 2, characters);
        return Some(Declared { shape: Shape::Dyn, most, least_size: 1 });
    }
    let plain = |shape, least_size| Some(Declared { shape, most: 0, least_size });
    match props.type_.as_str() {
        "array" => array(props, name),
        "object" => match &props.additional {
            Some(Additional::Of(values)) => {
                let values = declared(values, values.embedded, &format!("{name}.@elem"))?;
                let most = positive(props.max_properties).unwrap_or_else(|| most_of(values.least_size + 6));
                Some(Declared { shape: Shape::Map(Arc::new(values)), most, least_size: 2 })
            }
            _ => Some(object(props, root || props.embedded, name)),
        },
        "string" => Some(string(props)),
        "boolean" => plain(Shape::Bool, 4),
        "number" => plain(Shape::Double, 1),
        "integer" => plain(Shape::Int, 1),
        _ => None,
    }
}

fn positive(number: Option<i64>) -> Option<u64> {
    number.map(|number| u64::try_from(number).unwrap_or(0))
}

/// How many of something with that least size fit into a request: two brackets around, a comma after each.
fn most_of(least_size: u64) -> u64 {
    (LARGEST - 2) / (least_size + 1)
}

/// The most bytes of so many characters.
fn characters(length: i64) -> u64 {
    u64::try_from(length).unwrap_or(0).saturating_mul(4)
}

fn array(props: &Props, name: &str) -> Option<Declared> {
    let items = props.items.as_ref()?;
    let declared = declared(items, items.embedded, &format!("{name}.@idx"))?;
    let most = positive(props.max_items).unwrap_or_else(|| most_of(declared.least_size));
    let kind = match props.list_type.as_deref() {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(props.list_keys.clone().into()),
        _ => ListKind::Atomic,
    };
    Some(Declared { shape: Shape::List(Arc::new(declared), kind), most, least_size: 2 })
}

fn object(props: &Props, root: bool, name: &str) -> Declared {
    let mut fields = BTreeMap::new();
    let mut least_size = 2;
    let mut add = |field: &str, declared: Declared| {
        if let Some(escaped) = crate::cel::escape(field) {
            fields.insert(escaped, Field { name: field.to_owned(), declared });
        }
    };
    for (field, schema) in &props.properties {
        if root && field == "metadata" {
            continue;
        }
        let Some(declared) = declared(schema, schema.embedded, &format!("{name}.{field}")) else { continue };
        if schema.default.is_none() && props.required.contains(field) {
            least_size += field.len() as u64 + declared.least_size + 4;
        }
        add(field, declared);
    }
    if root {
        let text = || Declared { shape: Shape::String, most: LARGEST - 2, least_size: 2 };
        add("apiVersion", text());
        add("kind", text());
        let mut names = BTreeMap::new();
        for field in ["name", "generateName"] {
            names.insert(field.to_owned(), Field { name: field.to_owned(), declared: text() });
        }
        let shape = Shape::Object(Arc::new(Fields { name: format!("{name}.metadata"), fields: names }));
        add("metadata", Declared { shape, most: 0, least_size: 2 });
    }
    Declared { shape: Shape::Object(Arc::new(Fields { name: name.to_owned(), fields })), most: 0, least_size }
}

fn string(props: &Props) -> Declared {
    let (shape, most, least_size) = match props.format.as_str() {
        "byte" => (Shape::Bytes, positive(props.max_length).unwrap_or(LARGEST - 2), 2),
        "duration" => (Shape::Duration, LARGEST - 2, 3),
        "date" => (Shape::Timestamp(true), 12, 12),
        "date-time" => (Shape::Timestamp(false), 32, 21),
        _ => {
            let longest = || props.enum_.iter().filter_map(Value::as_str).map(|text| text.len() as u64).max();
            let most = props.max_length.map(characters).or_else(longest).unwrap_or(LARGEST - 2);
            (Shape::String, most, 2)
        }
    };
    Declared { shape, most, least_size }
}
