//! JSONPath, as far as columns, scale and selectable fields use it: names, `['name']`, `[0]`, `[a:b]`, `[*]`, `*`,
//! `..name` and filters (`[?(@.type=="Ready")]`).

use serde_json::Value;

/// How many values a path may find; the rest is left out.
const FOUND: usize = 10_000;
/// How many steps a path may have.
const STEPS: usize = 100;

/// A path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Name(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    All,
    Below,
    Filter(Vec<Step>, Comparison, Value),
    Exists(Vec<Step>),
    Union(Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path such as `.spec.list[0].name`; `None` where it is none.
    pub(super) fn parse(text: &str) -> Option<JsonPath> {
        Some(JsonPath(steps(text, NESTED)?))
    }

    /// The values that it leads to.
    pub(super) fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        follow(&self.0, value)
    }
}

fn follow<'v>(steps: &[Step], value: &'v Value) -> Vec<&'v Value> {
    let mut found = vec![value];
    for step in steps {
        found = found.into_iter().flat_map(|value| take(step, value)).take(FOUND).collect();
    }
    found
}

fn take<'v>(step: &Step, value: &'v Value) -> Vec<&'v Value> {
    match (step, value) {
        (Step::Name(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => at(items, *index).into_iter().collect(),
        (Step::Slice(from, to, step), Value::Array(items)) => slice(items, *from, *to, *step),
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Below, value) => {
            let mut out = Vec::new();
            descend(value, &mut out);
            out
        }
        (Step::Filter(path, comparison, wanted), Value::Array(items)) => items
            .iter()
            .filter(|item| follow(path, item).first().is_some_and(|found| holds(found, *comparison, wanted)))
            .collect(),
        (Step::Exists(path), Value::Array(items)) => {
            items.iter().filter(|item| !follow(path, item).is_empty()).collect()
        }
        (Step::Union(steps), value) => steps.iter().flat_map(|step| take(step, value)).collect(),
        _ => Vec::new(),
    }
}

fn descend<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    if out.len() >= FOUND {
        return;
    }
    out.push(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| descend(item, out)),
        Value::Object(map) => map.values().for_each(|value| descend(value, out)),
        _ => {}
    }
}

fn at(items: &[Value], index: i64) -> Option<&Value> {
    let length = i64::try_from(items.len()).ok()?;
    let index = if index < 0 { index.checked_add(length)? } else { index };
    items.get(usize::try_from(index).ok()?)
}

fn slice(items: &[Value], from: Option<i64>, to: Option<i64>, step: i64) -> Vec<&Value> {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let place = |bound: Option<i64>, or: i64| {
        let bound = bound.unwrap_or(or);
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        usize::try_from(bound.clamp(0, length)).unwrap_or(0)
    };
    let (from, to) = (place(from, 0), place(to, length));
    let step = usize::try_from(step).unwrap_or(1).max(1);
    items.get(from..to.max(from)).unwrap_or_default().iter().step_by(step).collect()
}

fn holds(found: &Value, comparison: Comparison, wanted: &Value) -> bool {
    let order = match (found, wanted) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().zip(b.as_f64()).and_then(|(a, b)| a.partial_cmp(&b))
        }
        (a, b) => (a == b).then_some(std::cmp::Ordering::Equal),
    };
    match comparison {
        Comparison::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Comparison::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
        Comparison::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Comparison::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Comparison::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Comparison::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

/// So many brackets may stand in each other.
const NESTED: usize = 8;

/// The steps of a path; `depth` filters may stand in each other.
fn steps(text: &str, depth: usize) -> Option<Vec<Step>> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    rest = rest.strip_prefix('@').or_else(|| rest.strip_prefix('$')).unwrap_or(rest);
    while !rest.is_empty() {
        if out.len() > STEPS {
            return None;
        }
        if let Some(after) = rest.strip_prefix("..") {
            out.push(Step::Below);
            let (name, after) = word(after);
            if !name.is_empty() {
                out.push(named(name));
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix('.') {
            let (name, after) = word(after);
            if !name.is_empty() {
                out.push(named(name));
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after)?;
            out.push(bracket(&after[..end], depth)?);
            rest = &after[end + 1..];
        } else {
            let (name, after) = word(rest);
            if name.is_empty() {
                return None;
            }
            out.push(named(name));
            rest = after;
        }
    }
    Some(out)
}

/// A name; a backslash takes the next character as it stands.
fn word(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '.' | '[' | ']' => return (name, &text[at..]),
            '\\' => name.extend(characters.next().map(|(_, next)| next)),
            character => name.push(character),
        }
    }
    (name, "")
}

fn named(name: String) -> Step {
    if name == "*" { Step::All } else { Step::Name(name) }
}

/// Where the bracket closes that opened before `text`.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), character) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str, depth: usize) -> Option<Step> {
    let inner = inner.trim();
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return self::filter(filter, depth.checked_sub(1)?);
    }
    let quoted = |part: &str| {
        ['\'', '"']
            .iter()
            .find_map(|quote| part.strip_prefix(*quote)?.strip_suffix(*quote))
            .map(|name| name.replace('\\', ""))
    };
    if let Some(name) = quoted(inner).filter(|name| !name.contains(['\'', '"'])) {
        return Some(Step::Name(name));
    }
    if inner == "*" {
        return Some(Step::All);
    }
    if inner.contains(',') {
        let parts = inner
            .split(',')
            .map(|part| bracket(part, depth.checked_sub(1)?))
            .collect::<Option<Vec<Step>>>()?;
        return Some(Step::Union(parts));
    }
    if inner.contains(':') {
        let parts: Vec<&str> = inner.split(':').map(str::trim).collect();
        let bound = |at: usize| match parts.get(at) {
            None | Some(&"") => Some(None),
            Some(text) => text.parse().ok().map(Some),
        };
        return (parts.len() <= 3)
            .then_some(())
            .and_then(|()| Some(Step::Slice(bound(0)?, bound(1)?, bound(2)?.unwrap_or(1))));
    }
    inner.parse().ok().map(Step::Index)
}

fn filter(text: &str, depth: usize) -> Option<Step> {
    const OPERATORS: [(&str, Comparison); 6] = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let found =
        OPERATORS.iter().filter_map(|(words, comparison)| Some((text.find(words)?, *words, *comparison)));
    let Some((at, words, comparison)) =
        found.min_by_key(|(at, words, _)| (*at, std::cmp::Reverse(words.len())))
    else {
        return Some(Step::Exists(steps(text, depth)?));
    };
    let wanted = text[at + words.len()..].trim();
    let quoted = ['\'', '"'].iter().find_map(|quote| wanted.strip_prefix(*quote)?.strip_suffix(*quote));
    let wanted = match quoted {
        Some(text) => Value::from(text),
        None => serde_json::from_str(wanted).ok()?,
    };
    Some(Step::Filter(steps(text[..at].trim(), depth)?, comparison, wanted))
}

#[cfg(test)]
mod tests {
    use super::JsonPath;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn paths_lead_where_kubectl_goes() {
        let value = json!({
            "a": {"b.c": 1, "list": [{"t": "x", "v": 1}, {"t": "y", "v": 2}]}, "labels": {"k/x": "v"},
        });
        for (path, wanted) in [
            (".a.list[0].v", json!([1])),
            (".a.list[-1].v", json!([2])),
            (".a.list[*].t", json!(["x", "y"])),
            (".a.list[?(@.t==\"y\")].v", json!([2])),
            (".a.list[?(@.v>1)].t", json!(["y"])),
            (".a['b.c']", json!([1])),
            (r".a.b\.c", json!([1])),
            (".labels['k/x']", json!(["v"])),
            (".a.list[0:1].t", json!(["x"])),
            ("..v", json!([1, 2])),
            (".none.more", json!([])),
        ] {
            let found: Vec<&Value> = JsonPath::parse(path).unwrap().find(&value);
            assert_eq!(json!(found), wanted, "{path}");
        }
        assert_eq!(JsonPath::parse(&format!(".a{}", "[?(@".repeat(5000) + &")]".repeat(5000))), None);
        assert_eq!(JsonPath::parse(".a[b"), None);
        assert_eq!(JsonPath::parse(".a[b]"), None);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(path in "[a-b0-9.\\[\\]*?@()='\",:\\\\-]{0,24}") {
            if let Some(path) = JsonPath::parse(&path) {
                path.find(&json!({"a": [{"b": 1}], "b": {"a": null}}));
            }
        }
    }
}
