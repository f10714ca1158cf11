//! Lists and sets.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::{List, Value};
use std::cmp::Ordering;

/// The longest list that `lists.range` makes.
const RANGE: i64 = 1_000_000;

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    Some(match (function, args) {
        ("lists.range", [Value::Int(count)]) if *count <= RANGE => {
            Ok(Value::list((0..*count).map(Value::Int).collect()))
        }
        ("sets.contains", [Value::List(list), Value::List(sub)]) => Ok(Value::Bool(contains(list, sub))),
        ("sets.equivalent", [Value::List(a), Value::List(b)]) => {
            Ok(Value::Bool(contains(a, b) && contains(b, a)))
        }
        ("sets.intersects", [Value::List(a), Value::List(b)]) => {
            Ok(Value::Bool(a.iter().any(|item| has(b, &item))))
        }
        (_, [Value::List(list), rest @ ..]) => return on_list(function, list, rest),
        _ => return None,
    })
}

fn on_list<'a>(function: &str, list: &List<'a>, rest: &[Value<'a>]) -> Option<Outcome<'a>> {
    let position =
        |found: Option<usize>| Value::Int(found.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1));
    Some(match (function, rest) {
        ("isSorted", []) => Ok(Value::Bool(is_sorted(list))),
        ("sum", []) => sum(list),
        ("min", []) => extreme(list, Ordering::Less, "min"),
        ("max", []) => extreme(list, Ordering::Greater, "max"),
        ("indexOf", [item]) => Ok(position(list.iter().position(|found| found.equals(item)))),
        ("lastIndexOf", [item]) => {
            let items: Vec<Value<'a>> = list.iter().collect();
            Ok(position(items.iter().rposition(|found| found.equals(item))))
        }
        ("join", []) => join(list, ""),
        ("join", [Value::String(separator)]) => join(list, separator),
        ("slice", [Value::Int(from), Value::Int(to)]) => slice(list, *from, *to),
        ("flatten", []) => flatten(list, 1),
        ("flatten", [Value::Int(depth)]) if *depth < 0 => Err(Failure::new("level must be non-negative")),
        ("flatten", [Value::Int(depth)]) => flatten(list, *depth),
        ("reverse", []) => {
            let mut items: Vec<Value<'a>> = list.iter().collect();
            items.reverse();
            Ok(Value::list(items))
        }
        ("distinct", []) => {
            let mut items: Vec<Value<'a>> = Vec::new();
            for item in list.iter() {
                if !items.iter().any(|known| known.equals(&item)) {
                    items.push(item);
                }
            }
            Ok(Value::list(items))
        }
        ("first", []) => Ok(Value::optional(list.get(0))),
        ("last", []) => Ok(Value::optional(list.len().checked_sub(1).and_then(|last| list.get(last)))),
        ("sort", []) => sort(list, list),
        ("@sortByAssociatedKeys", [Value::List(keys)]) => sort(list, keys),
        _ => return None,
    })
}

fn has<'a>(list: &List<'a>, item: &Value<'a>) -> bool {
    list.iter().any(|found| found.equals(item))
}

fn contains<'a>(list: &List<'a>, sub: &List<'a>) -> bool {
    sub.iter().all(|item| has(list, &item))
}

fn is_sorted(list: &List<'_>) -> bool {
    let items: Vec<Value<'_>> = list.iter().collect();
    items.windows(2).all(|pair| pair[0].compare(&pair[1]).is_none_or(Ordering::is_le))
}

/// The sum; of no items the integer 0.
fn sum<'a>(list: &List<'a>) -> Outcome<'a> {
    let mut items = list.iter();
    let Some(first) = items.next() else { return Ok(Value::Int(0)) };
    items.try_fold(first, |sum, item| super::call("_+_", &[sum, item]))
}

fn extreme<'a>(list: &List<'a>, wanted: Ordering, name: &str) -> Outcome<'a> {
    let better =
        |best: Value<'a>, item: Value<'a>| if item.compare(&best) == Some(wanted) { item } else { best };
    list.iter().reduce(better).ok_or_else(|| Failure::new(format!("{name} called on empty list")))
}

fn join<'a>(list: &List<'_>, separator: &str) -> Outcome<'a> {
    let mut out = String::new();
    for (index, item) in list.iter().enumerate() {
        let Some(text) = item.as_str() else { return Err(Failure::new("no such overload")) };
        out.push_str(if index > 0 { separator } else { "" });
        out.push_str(text);
    }
    Ok(Value::text(out))
}

fn slice<'a>(list: &List<'a>, from: i64, to: i64) -> Outcome<'a> {
    let message = |what: &str| Err(Failure::new(format!("cannot slice({from}, {to}), {what}")));
    let (Ok(begin), Ok(end)) = (usize::try_from(from), usize::try_from(to)) else {
        return message("negative indexes not supported");
    };
    if begin > end {
        return message("start index must be less than or equal to end index");
    }
    if end > list.len() {
        return message(&format!("list is length {}", list.len()));
    }
    Ok(Value::list((begin..end).filter_map(|index| list.get(index)).collect()))
}

fn flatten<'a>(list: &List<'a>, depth: i64) -> Outcome<'a> {
    let mut items: Vec<Value<'a>> = list.iter().collect();
    for _ in 0..depth {
        let mut flat = Vec::with_capacity(items.len());
        let mut nested = false;
        for item in items {
            match item {
                Value::List(inner) => {
                    nested = true;
                    flat.extend(inner.iter());
                }
                item => flat.push(item),
            }
        }
        items = flat;
        if !nested {
            break;
        }
    }
    Ok(Value::list(items))
}

fn sort<'a>(list: &List<'a>, keys: &List<'a>) -> Outcome<'a> {
    if list.len() != keys.len() {
        return Err(Failure::new("keys must have the length of the list"));
    }
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.iter().zip(list.iter()).collect();
    if pairs.windows(2).any(|pair| pair[0].0.compare(&pair[1].0).is_none()) {
        return Err(Failure::new("list elements must be comparable"));
    }
    pairs.sort_by(|a, b| a.0.compare(&b.0).unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, item)| item).collect()))
}

/// What a call costs: an item each, of texts by their length; what makes a list, by the list that it makes; what
/// compares all items with each other, by their pairs.
pub(super) fn cost(function: &str, args: &[Value<'_>]) -> u64 {
    /// Of the call, and of the list that it makes.
    const MADE: u64 = 11;
    let list = match args.first() {
        Some(Value::List(list)) => list,
        Some(Value::Int(count)) => return u64::try_from(*count).unwrap_or(0).saturating_add(MADE),
        _ => return 1,
    };
    let count = list.len() as u64;
    let is_text = |list: &List<'_>| matches!(list.get(0), Some(Value::String(_) | Value::Bytes(_)));
    let pairs = |list: &List<'_>| {
        let pairs = (list.len() as u64).saturating_mul(list.len() as u64);
        let heavy = list.get(0).map_or(1, |item| super::heft(&item));
        let texts = if is_text(list) { pairs / 10 } else { 0 };
        pairs.saturating_mul(2).saturating_mul(heavy).saturating_add(texts).saturating_add(MADE)
    };
    match (function, args.get(1)) {
        ("reverse", _) => count + MADE,
        ("slice", Some(Value::Int(from))) => {
            let to = if let Some(Value::Int(to)) = args.get(2) { *to } else { *from };
            u64::try_from(to.saturating_sub(*from)).unwrap_or(0).min(count) + MADE
        }
        ("flatten", Some(Value::Int(depth))) => {
            count.saturating_mul(u64::try_from(*depth).unwrap_or(0)).saturating_add(MADE)
        }
        ("flatten", _) => count + MADE,
        ("distinct" | "sort", _) => pairs(list),
        ("@sortByAssociatedKeys", Some(Value::List(keys))) => pairs(keys),
        _ => {
            let items = list.iter().map(|item| match item {
                Value::String(_) | Value::Bytes(_) => item.size().div_ceil(10).saturating_add(1),
                _ => 1,
            });
            items.fold(0_u64, u64::saturating_add).max(1)
        }
    }
}

/// What comparing all items of a list costs.
pub(super) fn heft(list: &List<'_>) -> u64 {
    let heavy = list.get(0).is_some_and(|item| super::heft(&item) > 1);
    if heavy {
        list.iter().fold(0, |sum, item| super::heft(&item).saturating_add(sum))
    } else {
        list.len() as u64
    }
}

/// What `join` costs: the length of its result.
pub(super) fn join_cost(args: &[Value<'_>]) -> u64 {
    let Some(Value::List(list)) = args.first() else { return 1 };
    let separator = args.get(1).map_or(0, Value::size);
    let length: u64 = list.iter().map(|item| item.size().saturating_add(separator)).sum();
    length.div_ceil(10).max(1)
}
