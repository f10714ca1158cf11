//! The schemas of the built-in kinds, which the build script made.

use super::{Arena, Node, Presence, Schema, Shape, Text};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::io::Read as _;
use std::sync::{Arc, LazyLock};

static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/arena.bin"));
static DEFINITIONS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/definitions.json.zst"));
static LOADED: LazyLock<Loaded> = LazyLock::new(load);

struct Loaded {
    arena: Arena,
    /// Sorted by name.
    roots: Vec<(&'static str, u32)>,
}

/// The schema of a type by its name in OpenAPI, such as `io.k8s.api.core.v1.Pod`.
#[must_use]
pub fn builtin(name: &str) -> Option<Schema<'static>> {
    let at = LOADED.roots.binary_search_by(|(root, _)| (*root).cmp(name)).ok()?;
    Some(LOADED.arena.schema(LOADED.roots[at].1))
}

/// All definitions of the built-in types in the form of OpenAPI v3, with references to `#/definitions/`. They are
/// inflated at each call: who renders them often keeps the outcome.
#[must_use]
pub fn definitions() -> Map<String, Value> {
    let mut json = Vec::new();
    zstd::Decoder::new(DEFINITIONS)
        .and_then(|mut decoder| decoder.read_to_end(&mut json))
        .expect("the build script compressed it");
    serde_json::from_slice(&json).expect("the build script wrote it")
}

fn load() -> Loaded {
    let mut reader = Reader { rest: BYTES, texts: Vec::new() };
    reader.begin();
    let members: Vec<_> = (0..reader.number()).map(|_| reader.members()).collect();
    let nodes = (0..reader.number()).map(|_| reader.node(&members)).collect();
    let roots = (0..reader.number()).map(|_| (reader.text(), reader.node_number())).collect();
    Loaded { arena: Arena { nodes }, roots }
}

type Members = (Arc<[(Text, u32)]>, Arc<[Text]>);

/// Reads what `build/blob.rs` wrote; the bytes are our own, so they are not distrusted.
struct Reader {
    rest: &'static [u8],
    texts: Vec<&'static str>,
}

impl Reader {
    fn begin(&mut self) {
        let lengths: Vec<usize> = (0..self.number()).map(|_| self.number()).collect();
        for length in lengths {
            let (text, rest) = self.rest.split_at(length);
            self.texts.push(str::from_utf8(text).expect("the build script wrote texts"));
            self.rest = rest;
        }
    }

    fn members(&mut self) -> Members {
        let fields = (0..self.number()).map(|_| (Cow::Borrowed(self.text()), self.node_number())).collect();
        (fields, self.list())
    }

    fn node(&mut self, members: &[Members]) -> Node {
        let [shape, flags, presence] = [self.byte(), self.byte(), self.byte()];
        let members = self.number().checked_sub(1).map(|at| members[at].clone());
        let (fields, required) = members.unwrap_or_default();
        let items = self.node_number().checked_sub(1);
        Node {
            shape: SHAPES[usize::from(shape)],
            fields,
            required,
            items,
            set: flags & 1 != 0,
            keys: self.list(),
            atomic: flags & 2 != 0,
            merge: flags & 4 != 0,
            merge_key: self.optional().map(Cow::Borrowed),
            retain_keys: flags & 8 != 0,
            preserve_unknown: false,
            embedded: false,
            nullable: false,
            default: self
                .optional()
                .map(|json| serde_json::from_str(json).expect("the build script wrote JSON")),
            name: self.optional().map(Cow::Borrowed),
            presence: PRESENCES[usize::from(presence)],
            go: self.optional().map(Cow::Borrowed),
            within: self.optional().map(Cow::Borrowed),
        }
    }

    fn list(&mut self) -> Arc<[Text]> {
        match self.number() {
            0 => Arc::default(),
            count => (0..count).map(|_| Cow::Borrowed(self.text())).collect(),
        }
    }

    fn optional(&mut self) -> Option<&'static str> {
        (self.byte() == 1).then(|| self.text())
    }

    fn text(&mut self) -> &'static str {
        let at = self.number();
        self.texts[at]
    }

    fn node_number(&mut self) -> u32 {
        u32::try_from(self.number()).expect("nodes are few")
    }

    fn number(&mut self) -> usize {
        let mut number = 0;
        for shift in (0..).step_by(7) {
            let byte = self.byte();
            number |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().expect("the build script wrote enough");
        self.rest = rest;
        *first
    }
}

/// In the order of `build/nodes.rs`.
const SHAPES: [Shape; 15] = [
    Shape::Any,
    Shape::Object,
    Shape::Map,
    Shape::List,
    Shape::String,
    Shape::Bytes,
    Shape::Time,
    Shape::MicroTime,
    Shape::Duration,
    Shape::Int32,
    Shape::Int64,
    Shape::Number,
    Shape::Boolean,
    Shape::IntOrString,
    Shape::Quantity,
];
const PRESENCES: [Presence; 5] =
    [Presence::Keep, Presence::Omit, Presence::Always, Presence::Nonzero, Presence::Null];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_known() {
        let pod = builtin("io.k8s.api.core.v1.Pod").unwrap();
        let image = ["spec", "containers"].iter().try_fold(pod, |schema, name| schema.field(name)).unwrap();
        let image = image.items().unwrap().field("image").unwrap();
        assert_eq!(image.shape(), Shape::String);
        assert_eq!(builtin("io.k8s.api.core.v1.Pot").map(Schema::shape), None);
    }

    #[test]
    fn a_place_may_say_that_a_whole_type_is_granular() {
        let claim = builtin("io.k8s.api.core.v1.PersistentVolumeSpec").unwrap().field("claimRef").unwrap();
        assert!(!claim.node().atomic);
        let other = builtin("io.k8s.api.core.v1.Event").unwrap().field("involvedObject").unwrap();
        assert!(other.node().atomic);
    }

    #[test]
    fn a_type_that_contains_itself() {
        let props = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let not = builtin(props).unwrap().field("not").unwrap().field("not").unwrap();
        assert_eq!(not.node().name.as_deref(), Some(props));
    }

    #[test]
    fn definitions_are_there() {
        assert!(definitions().contains_key("io.k8s.api.apps.v1.Deployment"));
    }
}
