//! What an evaluation may spend: the cost that Kubernetes counts, and besides the bytes that it makes and looks at, which
//! Kubernetes' cost leaves free where Go's memory takes what comes.

use super::PER_CALL;
use super::eval::Failure;
use super::value::{List, Map, Value};

/// The most bytes that one evaluation makes, whether they are still held or not.
const MADE: u64 = 64 << 20;
/// The most bytes of texts that functions of one evaluation look through.
const LOOKED_AT: u64 = 2 << 30;
/// What a slot of a list takes.
const SLOT: u64 = size_of::<Value<'static>>() as u64;
/// What a compiled pattern takes at least.
const PATTERN: u64 = 32 << 10;

/// What has been spent.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    cost: u64,
    made: u64,
    looked_at: u64,
}

impl Meter {
    /// The cost that Kubernetes counts.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    pub(crate) fn spend(&mut self, cost: u64) -> Result<(), Failure> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > PER_CALL { Err(Failure::Limit) } else { Ok(()) }
    }

    /// Bytes are made.
    pub(crate) fn made(&mut self, bytes: u64) -> Result<(), Failure> {
        self.made = self.made.saturating_add(bytes);
        if self.made > MADE { Err(Failure::Limit) } else { Ok(()) }
    }

    /// Slots of a list or map are made.
    pub(crate) fn items(&mut self, count: usize) -> Result<(), Failure> {
        self.made((count as u64).saturating_mul(SLOT))
    }

    /// How many texts a list may still get.
    pub(crate) fn room(&self) -> usize {
        usize::try_from((MADE - self.made.min(MADE)) / (SLOT + 16)).unwrap_or(usize::MAX)
    }

    /// A pattern is compiled.
    pub(crate) fn compiles(&mut self, pattern: &str) -> Result<(), Failure> {
        self.made(PATTERN + pattern.len() as u64 * 64)
    }

    /// A value was read out of the object: bytes are decoded each time.
    pub(crate) fn read(&mut self, value: &Value<'_>) -> Result<(), Failure> {
        match value {
            Value::Bytes(bytes) => self.looks(bytes.len() as u64 * 4),
            _ => Ok(()),
        }
    }

    fn looks(&mut self, bytes: u64) -> Result<(), Failure> {
        self.looked_at = self.looked_at.saturating_add(bytes);
        if self.looked_at > LOOKED_AT { Err(Failure::Limit) } else { Ok(()) }
    }

    /// A function is about to be called: what it will look at and make.
    pub(crate) fn makes(&mut self, function: &str, args: &[Value<'_>]) -> Result<(), Failure> {
        let length = |value: &Value<'_>| match value {
            Value::String(text) => text.len() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            _ => 0,
        };
        self.looks(args.iter().map(length).sum())?;
        self.made(result(function, args))
    }
}

/// How many bytes the result of a function takes, at most.
fn result(function: &str, args: &[Value<'_>]) -> u64 {
    let slots = |count: usize| (count as u64).saturating_mul(SLOT);
    match (function, args) {
        ("_+_", [Value::String(a), Value::String(b)]) => (a.len() + b.len()) as u64,
        ("_+_", [Value::Bytes(a), Value::Bytes(b)]) => (a.len() + b.len()) as u64,
        ("_+_", [Value::List(a), Value::List(b)]) => slots(a.len() + b.len()),
        ("lists.range", [Value::Int(count)]) => slots(usize::try_from(*count).unwrap_or(0)),
        ("replace", [Value::String(text), Value::String(old), Value::String(new), ..]) => {
            let times = if old.is_empty() { text.len() + 1 } else { text.matches(&**old).count() };
            (text.len() as u64).saturating_add((times as u64).saturating_mul(new.len() as u64))
        }
        ("split", [Value::String(text), Value::String(separator), ..]) => {
            let parts =
                if separator.is_empty() { text.len() } else { text.matches(&**separator).count() + 1 };
            slots(parts) + parts as u64 * 16 + text.len() as u64
        }
        ("join", [Value::List(list), rest @ ..]) => {
            let separator = rest.first().map_or(0, |separator| separator.as_str().unwrap_or_default().len());
            let lengths = list.iter().map(|item| item.as_str().map_or(0, str::len) + separator);
            lengths.fold(0_u64, |sum, length| sum.saturating_add(length as u64))
        }
        ("strings.quote", [Value::String(text)]) => text.len() as u64 * 4,
        ("getQuery", [Value::Url(url)]) => url.query_length() as u64 * SLOT / 2,
        ("flatten", [Value::List(list), rest @ ..]) => {
            let depth = if let [Value::Int(depth)] = rest { *depth } else { 1 };
            flattened(list, depth, MADE / SLOT).saturating_mul(SLOT).saturating_mul(2)
        }
        ("cel.@mapInsert", [Value::Map(Map::Made(entries)), ..]) => slots(entries.len() * 2),
        (_, [Value::String(text), ..]) if MAKES_TEXT.contains(&function) => text.len() as u64,
        (_, [Value::Bytes(bytes)]) if MAKES_TEXT.contains(&function) => bytes.len() as u64,
        (_, [Value::List(list), ..]) if MAKES_LIST.contains(&function) => slots(list.len() * 3),
        _ => 0,
    }
}

/// Functions that make a text as long as their first argument.
const MAKES_TEXT: [&str; 9] =
    ["lowerAscii", "upperAscii", "trim", "substring", "string", "bytes", "reverse", "find", "charAt"];
/// Functions that make a list as long as their first argument.
const MAKES_LIST: [&str; 7] =
    ["reverse", "slice", "distinct", "sort", "@sortByAssociatedKeys", "unwrapOpt", "optional.unwrap"];

/// How many items a list has once it is flat, counted no further than `most`.
fn flattened(list: &List<'_>, depth: i64, most: u64) -> u64 {
    let mut count = 0_u64;
    for item in list.iter() {
        count += match &item {
            Value::List(inner) if depth > 1 => flattened(inner, depth - 1, most.saturating_sub(count)) + 1,
            Value::List(inner) => inner.len() as u64 + 1,
            _ => 1,
        };
        if count > most {
            break;
        }
    }
    count
}
