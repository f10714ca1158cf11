//! Schemas: what fields a kind has, how its lists merge, what its values are.
//!
//! One form serves built-in kinds and custom resources, so that decoding, defaults, pruning, the patches and
//! `kubectl explain` have one code path. Nodes live in an [`Arena`]; a [`Schema`] is a handle that costs nothing to copy,
//! and types that contain themselves need no care.

mod builtin;

pub use builtin::{builtin, definitions};

use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// A text of a schema: of a built-in kind it lies in the program itself.
pub type Text = Cow<'static, str>;

/// What values a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Any JSON value.
    Any,
    /// An object with the fields of [`Schema::fields`].
    Object,
    /// An object with any keys, whose values are of [`Schema::items`].
    Map,
    /// A list of [`Schema::items`].
    List,
    /// A string.
    String,
    /// A base64 string (`format: byte`).
    Bytes,
    /// An RFC 3339 time with seconds.
    Time,
    /// An RFC 3339 time with microseconds.
    MicroTime,
    /// A Go duration.
    Duration,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A floating point number.
    Number,
    /// A boolean.
    Boolean,
    /// An integer or a string (`x-kubernetes-int-or-string`).
    IntOrString,
    /// A resource quantity.
    Quantity,
}

/// How a list merges (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List<'a> {
    /// As a whole.
    Atomic,
    /// Each value is an item of its own.
    Set,
    /// Each item is found by the values of these fields.
    Map(&'a [Text]),
}

/// How a strategic merge patch treats the field (`x-kubernetes-patch-strategy`, `x-kubernetes-patch-merge-key`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patch<'a> {
    /// Lists are merged, not replaced.
    pub merge: bool,
    /// The field by which items of a merged list are found; `None` in a merged list of scalars.
    pub key: Option<&'a str>,
    /// Fields that the patch does not name are dropped, where it says `$retainKeys`.
    pub retain_keys: bool,
}

/// What becomes of a field whose value is zero (`""`, 0, false, an empty list or map), as Go's types of Kubernetes
/// write them: what a client gets back is what the API server's encoder makes of what it sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It stays as it was sent (a pointer in Go, and everything in custom resources).
    #[default]
    Keep,
    /// It vanishes (`omitempty`).
    Omit,
    /// It is there even when it was not sent (without `omitempty`, and values that are structs).
    Always,
    /// It vanishes if all in it is zero (`omitzero`).
    Nonzero,
    /// It is there even when it was not sent, as null (a pointer without `omitempty`).
    Null,
}

/// What there is to know of one node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What values it takes.
    pub shape: Shape,
    /// Fields by name, sorted; of objects only. Shared by all nodes of a type.
    pub fields: Arc<[(Text, u32)]>,
    /// The items of a list, the values of a map, and what unknown fields of an object are of.
    pub items: Option<u32>,
    /// Fields that have to be there.
    pub required: Arc<[Text]>,
    /// `x-kubernetes-list-type: set`.
    pub set: bool,
    /// `x-kubernetes-list-map-keys`; empty where the list is no map.
    pub keys: Arc<[Text]>,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// Strategic merge: see [`Patch`].
    pub merge: bool,
    /// Strategic merge: see [`Patch`].
    pub merge_key: Option<Text>,
    /// Strategic merge: see [`Patch`].
    pub retain_keys: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// Whether null is a value of its own.
    pub nullable: bool,
    /// The default, of custom resources and where the schema of a built-in kind says it.
    pub default: Option<Value>,
    /// The name of the type (`io.k8s.api.core.v1.PodSpec`), where it has one.
    pub name: Option<Text>,
    /// What becomes of a zero value.
    pub presence: Presence,
    /// The Go type as errors name it, where the shape and the name do not tell.
    pub go: Option<Text>,
    /// The Go structs that the field is embedded in, as errors name them, joined by dots.
    pub within: Option<Text>,
}

impl Default for Node {
    fn default() -> Self {
        Node {
            shape: Shape::Any,
            fields: Arc::default(),
            items: None,
            required: Arc::default(),
            set: false,
            keys: Arc::default(),
            atomic: false,
            merge: false,
            merge_key: None,
            retain_keys: false,
            preserve_unknown: false,
            embedded: false,
            nullable: false,
            default: None,
            name: None,
            presence: Presence::Keep,
            go: None,
            within: None,
        }
    }
}

/// Nodes that refer to each other by number.
#[derive(Clone, Debug, Default)]
pub struct Arena {
    /// The nodes.
    pub nodes: Vec<Node>,
}

impl Arena {
    /// Adds a node and returns its number.
    pub fn add(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("an arena holds fewer than four thousand million nodes")
    }

    /// The schema that begins at `node`.
    #[must_use]
    pub fn schema(&self, node: u32) -> Schema<'_> {
        Schema { arena: self, node }
    }
}

/// A handle to one node of an arena.
#[derive(Clone, Copy, Debug)]
pub struct Schema<'a> {
    arena: &'a Arena,
    node: u32,
}

impl<'a> Schema<'a> {
    /// The node itself.
    #[must_use]
    pub fn node(self) -> &'a Node {
        &self.arena.nodes[self.node as usize]
    }

    /// What values it takes.
    #[must_use]
    pub fn shape(self) -> Shape {
        self.node().shape
    }

    /// The declared field `name`.
    #[must_use]
    pub fn field(self, name: &str) -> Option<Schema<'a>> {
        self.find(name).map(|(_, _, field)| field)
    }

    /// The declared field `name`: its number, and its name as long-lived as the schema.
    #[must_use]
    pub fn find(self, name: &str) -> Option<(usize, &'a str, Schema<'a>)> {
        let fields = &self.node().fields;
        let at = fields.binary_search_by(|(field, _)| (**field).cmp(name)).ok()?;
        Some((at, &fields[at].0, self.arena.schema(fields[at].1)))
    }

    /// What a value under `name` is of: the field, or in a map its values.
    #[must_use]
    pub fn below(self, name: &str) -> Option<Schema<'a>> {
        self.field(name).or_else(|| if self.shape() == Shape::List { None } else { self.items() })
    }

    /// The declared fields, sorted by name.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, Schema<'a>)> {
        let arena = self.arena;
        self.node().fields.iter().map(move |(name, node)| (&**name, arena.schema(*node)))
    }

    /// Of a list its items, of a map its values.
    #[must_use]
    pub fn items(self) -> Option<Schema<'a>> {
        self.node().items.map(|node| self.arena.schema(node))
    }

    /// How a list merges.
    #[must_use]
    pub fn list(self) -> List<'a> {
        let node = self.node();
        match (node.keys.is_empty(), node.set) {
            (false, _) => List::Map(&node.keys),
            (true, true) => List::Set,
            (true, false) => List::Atomic,
        }
    }

    /// How a strategic merge patch treats it.
    #[must_use]
    pub fn patch(self) -> Patch<'a> {
        let node = self.node();
        Patch { merge: node.merge, key: node.merge_key.as_deref(), retain_keys: node.retain_keys }
    }
}
