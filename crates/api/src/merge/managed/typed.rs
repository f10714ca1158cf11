//! What the schema says of values, as structured merge sees it.

use super::path::Element;
use crate::contract::field::quoted;
use crate::schema::{List, Presence, Schema, Shape};
use serde_json::{Map, Value};
use std::sync::{Arc, LazyLock};

/// The type of a value.
#[derive(Clone, Copy)]
pub(super) enum Type<'a> {
    /// As the schema says.
    Of(Schema<'a>),
    /// As the value is: objects merge, lists and scalars are replaced.
    Deduced,
    /// Whatever it is, it is replaced as a whole.
    Whole,
}

/// What a value is handled as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Scalar,
    List,
    Map,
}

/// What stands for a struct and for anything else where Go's types have them without being told.
static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
static NULL: Value = Value::Null;

impl<'a> Type<'a> {
    /// What a value is handled as. Absent values and nulls are whatever they may be, maps first.
    pub(super) fn kind(self, value: Option<&Value>) -> Kind {
        match self {
            Type::Of(schema) => match schema.shape() {
                Shape::Object | Shape::Map => Kind::Map,
                Shape::List => Kind::List,
                Shape::Any => Kind::of(value),
                _ => Kind::Scalar,
            },
            Type::Deduced | Type::Whole => Kind::of(value),
        }
    }

    /// Whether maps of this type are replaced as a whole.
    pub(super) fn is_whole_map(self) -> bool {
        match self {
            Type::Of(schema) => schema.node().atomic || is_raw(schema),
            Type::Deduced => false,
            Type::Whole => true,
        }
    }

    /// Whether the schema says that values of this type are replaced as a whole, where they could be merged.
    pub(super) fn is_replaced_whole(self) -> bool {
        match self {
            Type::Of(schema) => match schema.shape() {
                Shape::Object | Shape::Map => self.is_whole_map(),
                Shape::List => schema.list() == List::Atomic,
                _ => false,
            },
            _ => false,
        }
    }

    /// How lists of this type merge. Where the schema says nothing, the ways of strategic merge say it.
    pub(super) fn list(self) -> List<'a> {
        match self {
            Type::Of(schema) => schema.list(),
            Type::Deduced | Type::Whole => List::Atomic,
        }
    }

    /// The type of items of a list.
    pub(super) fn items(self) -> Type<'a> {
        match self {
            Type::Of(schema) if schema.shape() == Shape::List => schema.items().map_or(Type::Whole, Type::Of),
            _ => Type::Whole,
        }
    }

    /// The type of a field, or of the value of a key; `None` where there may be none of this name.
    pub(super) fn field(self, name: &str) -> Option<Type<'a>> {
        match self {
            Type::Of(schema) if schema.shape() == Shape::Any => {
                Some(if is_raw(schema) { Type::Whole } else { Type::Deduced })
            }
            Type::Of(schema) => {
                let node = schema.node();
                let implied = || {
                    let meta = matches!(name, "apiVersion" | "kind" | "metadata");
                    node.preserve_unknown || node.fields.is_empty() || (node.embedded && meta)
                };
                schema.below(name).map(Type::Of).or_else(|| implied().then_some(Type::Deduced))
            }
            other => Some(other),
        }
    }

    /// Whether the schema declares the field by its name.
    pub(super) fn declares(self, name: &str) -> bool {
        matches!(self, Type::Of(schema) if schema.field(name).is_some())
    }

    /// The fields that Go's types have whether they are told or not, with what they then are.
    pub(super) fn implied(self) -> impl Iterator<Item = (&'a str, &'static Value)> {
        let schema = match self {
            Type::Of(schema) if schema.shape() == Shape::Object => Some(schema),
            _ => None,
        };
        let fields = schema.into_iter().flat_map(Schema::fields);
        fields
            .filter(|(_, field)| field.node().presence == Presence::Always)
            .map(|(name, field)| (name, if field.shape() == Shape::Object { &*EMPTY } else { &NULL }))
    }

    /// How the item of a list that merges is found.
    ///
    /// # Errors
    /// Why it cannot be, in structured merge's words.
    pub(super) fn element(self, list: List<'_>, item: &Value) -> Result<Element, String> {
        match list {
            List::Map(keys) => self.keyed(keys, item),
            List::Set | List::Atomic => match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".to_owned())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".to_owned())
                }
                scalar => Ok(Element::Value(Arc::new(scalar.clone()))),
            },
        }
    }

    fn keyed(self, keys: &[impl AsRef<str>], item: &Value) -> Result<Element, String> {
        let item = match item {
            Value::Object(item) => item,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let mut fields: Vec<(Box<str>, Value)> = Vec::with_capacity(keys.len());
        for key in keys {
            let key = key.as_ref();
            let default = || match self.items() {
                Type::Of(schema) => schema.field(key)?.node().default.as_ref(),
                _ => None,
            };
            if let Some(value) = item.get(key).or_else(default) {
                fields.push((key.into(), value.clone()));
            }
        }
        if fields.is_empty() {
            let keys: Vec<String> = keys.iter().map(|key| quoted(key.as_ref())).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                keys.join(" ")
            ));
        }
        Ok(Element::key(fields))
    }
}

impl Kind {
    fn of(value: Option<&Value>) -> Kind {
        match value {
            Some(Value::Array(_)) => Kind::List,
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => Kind::Scalar,
            Some(Value::Object(_) | Value::Null) | None => Kind::Map,
        }
    }
}

fn is_raw(schema: Schema<'_>) -> bool {
    schema.node().name.as_deref().is_some_and(|name| name.ends_with(".RawExtension"))
}
