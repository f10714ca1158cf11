//! The order of merged lists.

use super::lists::{Kind, keyed};
use super::{DIRECTIVE, Merged};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;

/// Up to how many items Go sorts by insertion.
const BY_INSERTION: usize = 12;

/// A scalar by which items are found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key<'a> {
    Text(Cow<'a, str>),
    Other(String),
}

impl<'a> Key<'a> {
    pub(super) fn of(value: &'a Value) -> Key<'a> {
        match value {
            Value::String(text) => Key::Text(Cow::Borrowed(text)),
            other => Key::Other(other.to_string()),
        }
    }

    pub(super) fn owned(self) -> Key<'static> {
        match self {
            Key::Text(text) => Key::Text(Cow::Owned(text.into_owned())),
            Key::Other(text) => Key::Other(text),
        }
    }
}

/// Where in a list each item stands: by its merge key, or by itself where that is empty.
pub(super) struct Order<'a> {
    key: &'a str,
    places: HashMap<Key<'a>, usize>,
}

impl<'a> Order<'a> {
    pub(super) fn of(items: &'a [Value], key: &'a str) -> Order<'a> {
        let mut places = HashMap::with_capacity(items.len());
        for (place, item) in items.iter().enumerate() {
            if let Some(value) = if key.is_empty() { Some(item) } else { item.get(key) } {
                places.entry(Key::of(value)).or_insert(place);
            }
        }
        Order { key, places }
    }

    pub(super) fn place(&self, item: &Value) -> Option<usize> {
        let value = if self.key.is_empty() { item } else { item.get(self.key)? };
        self.places.get(&Key::of(value)).copied()
    }
}

/// Sorts `named` (items that the patch names) by the patch and `others` by the original, and merges the two so that others
/// stay where they were relative to their neighbours.
pub(super) fn normalized(
    named: Vec<Value>,
    others: Vec<Value>,
    patch: &[Value],
    original: &[Value],
    key: &str,
    kind: Kind,
) -> Merged<Vec<Value>> {
    if kind == Kind::Maps {
        for item in named.iter().chain(patch).chain(&others).chain(original) {
            keyed(item, key)?;
        }
    }
    let by_original = Order::of(original, key);
    let named = sorted(named, &Order::of(patch, key), kind);
    let others = sorted(others, &by_original, kind);
    let mut all = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (None, None) => return Ok(all),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(other), Some(named)) => {
                let places = (by_original.place(other), by_original.place(named));
                matches!(places, (Some(other), Some(named)) if other < named)
            }
        };
        all.extend(if other_first { others.next() } else { named.next() });
    }
}

/// By place, items to be deleted last. Those that have no place move to the front, as Kubernetes' comparison has it.
fn sorted(items: Vec<Value>, order: &Order<'_>, kind: Kind) -> Vec<Value> {
    let deleted =
        |item: &Value| kind == Kind::Maps && item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
    let (deleted, items): (Vec<Value>, Vec<Value>) = items.into_iter().partition(deleted);
    let mut placed: Vec<(Option<usize>, Value)> =
        items.into_iter().map(|item| (order.place(&item), item)).collect();
    // Go sorts so few by insertion; what it makes of more, where its comparison contradicts itself, nobody can rely on.
    if placed.len() > BY_INSERTION || placed.iter().all(|(place, _)| place.is_some()) {
        placed.sort_by_key(|(place, _)| *place);
    } else {
        for end in 1..placed.len() {
            let mut at = end;
            while at > 0 && comes_before(placed[at].0, placed[at - 1].0) {
                placed.swap(at, at - 1);
                at -= 1;
            }
        }
    }
    placed.into_iter().map(|(_, item)| item).chain(deleted).collect()
}

fn comes_before(one: Option<usize>, other: Option<usize>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one < other,
        _ => true,
    }
}
