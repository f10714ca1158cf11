//! The order of merged lists.

use super::lists::{Kind, keyed};
use super::{DIRECTIVE, Merged};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

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
    let places: Vec<Option<usize>> = items.iter().map(|item| order.place(item)).collect();
    let mut items: Vec<Option<Value>> = items.into_iter().map(Some).collect();
    let sorted = inserted(&places).into_iter().filter_map(|index| items[index].take());
    sorted.chain(deleted).collect()
}

/// In which order items stand that are inserted one by one, each as far to the front as the comparison lets it: behind the
/// last one whose place is not behind its own, and without a place before all of them.
fn inserted(places: &[Option<usize>]) -> Vec<usize> {
    let mut next: Vec<Option<usize>> = vec![None; places.len()];
    let mut first = None;
    let mut placed = BTreeSet::new();
    for (index, place) in places.iter().enumerate() {
        let before = place.and_then(|place| placed.range(..=(place, index)).next_back().copied());
        let link = match before {
            Some((_, before)) => &mut next[before],
            None => &mut first,
        };
        let behind = link.replace(index);
        next[index] = behind;
        placed.extend(place.map(|place| (place, index)));
    }
    std::iter::successors(first, |index| next[*index]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Kubernetes' comparison sorts by insertion.
    fn by_insertion(places: &[Option<usize>]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..places.len()).collect();
        for end in 1..order.len() {
            let mut at = end;
            while at > 0
                && match (places[order[at]], places[order[at - 1]]) {
                    (Some(one), Some(other)) => one < other,
                    _ => true,
                }
            {
                order.swap(at, at - 1);
                at -= 1;
            }
        }
        order
    }

    #[test]
    fn items_stand_as_if_each_had_been_moved_to_the_front() {
        let mut state = 7_u64;
        for length in 0..200 {
            let places: Vec<Option<usize>> = (0..length % 12)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let number = usize::try_from(state >> 60).unwrap();
                    (number < 10).then_some(number / 2)
                })
                .collect();
            assert_eq!(inserted(&places), by_insertion(&places), "{places:?}");
        }
        // As many as a body may have.
        assert_eq!(inserted(&vec![None; 300_000]).first(), Some(&299_999));
    }
}
