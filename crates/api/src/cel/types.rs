//! Types: of expressions while they are checked, and of values that a schema declares.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The type of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Type {
    /// Known only when it is evaluated.
    Dyn,
    /// Follows a complaint; suppresses further ones.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    /// One of the types of the libraries, such as `net.IP`.
    Named(&'static str),
    /// A parameter of a signature.
    Param(char),
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    Optional(Arc<Type>),
    /// The type of a type.
    Kind(Arc<Type>),
    Object(Arc<Fields>),
}

/// The fields of an object, by the names that expressions use (escaped).
#[derive(Debug)]
pub(crate) struct Fields {
    /// The name of the type, as messages show it.
    pub(crate) name: String,
    pub(crate) fields: BTreeMap<String, Field>,
}

/// A field.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its name in the JSON.
    pub(crate) name: String,
    pub(crate) declared: Declared,
}

/// What a schema says of a value: its type, and how big it can be.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) shape: Shape,
    /// The most items, entries or characters it can have.
    pub(crate) most: u64,
    /// The fewest bytes that it takes in JSON.
    pub(crate) least_size: u64,
}

/// The type that a schema declares.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Dyn,
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Duration,
    /// `date` with `true`, else `date-time`.
    Timestamp(bool),
    List(Arc<Declared>, ListKind),
    Map(Arc<Declared>),
    Object(Arc<Fields>),
}

/// How items of a list are told apart, which decides equality and `+`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListKind {
    Atomic,
    Set,
    Map(Arc<[String]>),
}

impl Declared {
    /// The type of expressions with such a value.
    pub(crate) fn type_(&self) -> Type {
        match &self.shape {
            Shape::Dyn => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Duration => Type::Duration,
            Shape::Timestamp(_) => Type::Timestamp,
            Shape::List(items, _) => Type::List(Arc::new(items.type_())),
            Shape::Map(values) => Type::Map(Arc::new((Type::String, values.type_()))),
            Shape::Object(fields) => Type::Object(Arc::clone(fields)),
        }
    }
}

impl Type {
    pub(crate) fn list(items: Type) -> Type {
        Type::List(Arc::new(items))
    }

    pub(crate) fn map(keys: Type, values: Type) -> Type {
        Type::Map(Arc::new((keys, values)))
    }

    pub(crate) fn optional(value: Type) -> Type {
        Type::Optional(Arc::new(value))
    }

    /// Of how many types it is made, counted no further than just above `most`.
    pub(crate) fn parts(&self, most: usize) -> usize {
        let below = match self {
            Type::List(inner) | Type::Optional(inner) | Type::Kind(inner) => inner.parts(most),
            Type::Map(pair) => {
                let keys = pair.0.parts(most);
                keys + if keys > most { 0 } else { pair.1.parts(most - keys) }
            }
            _ => 0,
        };
        below + 1
    }

    /// Whether null can stand for a value of it.
    fn takes_null(&self) -> bool {
        matches!(
            self,
            Type::Null
                | Type::Duration
                | Type::Timestamp
                | Type::Named(_)
                | Type::Optional(_)
                | Type::Object(_)
        )
    }

    /// Whether it says nothing that could be wrong.
    pub(crate) fn is_dynamic(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }
}

/// What the parameters of a signature stand for in one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bindings(Vec<(char, Type)>);

impl Bindings {
    /// Whether a value of type `found` can be given where `wanted` is asked for.
    pub(crate) fn accepts(&mut self, wanted: &Type, found: &Type) -> bool {
        match (wanted, found) {
            (Type::Param(name), found) => self.bind(*name, found),
            (wanted, found) if wanted.is_dynamic() || found.is_dynamic() => true,
            (wanted, Type::Null) => wanted.takes_null(),
            (Type::Null, found) => found.takes_null(),
            (Type::Map(wanted), Type::Map(found)) if Arc::ptr_eq(wanted, found) => true,
            (Type::List(wanted), Type::List(found)) | (Type::Optional(wanted), Type::Optional(found)) => {
                self.accepts(wanted, found)
            }
            (Type::Map(wanted), Type::Map(found)) => {
                self.accepts(&wanted.0, &found.0) && self.accepts(&wanted.1, &found.1)
            }
            (Type::Object(wanted), Type::Object(found)) => {
                Arc::ptr_eq(wanted, found) || wanted.name == found.name
            }
            (Type::Kind(_), Type::Kind(_)) => true,
            (Type::Named(wanted), Type::Named(found)) => wanted == found,
            (wanted, found) => std::mem::discriminant(wanted) == std::mem::discriminant(found),
        }
    }

    fn bind(&mut self, name: char, found: &Type) -> bool {
        let Some(at) = self.0.iter().position(|(bound, _)| *bound == name) else {
            self.0.push((name, found.clone()));
            return true;
        };
        let bound = self.0[at].1.clone();
        let fits = self.accepts(&bound, found);
        // The more general of the two stands for both.
        if fits && (matches!(bound, Type::Null) || found.is_dynamic()) {
            self.0[at].1 = found.clone();
        }
        fits
    }

    /// The type with its parameters filled in; unknown ones are dynamic.
    pub(crate) fn fill(&self, type_: &Type) -> Type {
        match type_ {
            Type::Param(name) => {
                self.0.iter().find(|(bound, _)| bound == name).map_or(Type::Dyn, |(_, type_)| type_.clone())
            }
            Type::List(items) => Type::list(self.fill(items)),
            Type::Optional(value) => Type::optional(self.fill(value)),
            Type::Map(pair) => Type::map(self.fill(&pair.0), self.fill(&pair.1)),
            other => other.clone(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Error => f.write_str("!error!"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Duration => f.write_str("duration"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Named(name) => f.write_str(name),
            Type::Param(name) => write!(f, "{name}"),
            Type::List(items) => write!(f, "list({items})"),
            Type::Map(pair) => write!(f, "map({}, {})", pair.0, pair.1),
            Type::Optional(value) => write!(f, "optional_type({value})"),
            Type::Kind(type_) => write!(f, "type({type_})"),
            Type::Object(fields) => f.write_str(&fields.name),
        }
    }
}
