//! Paths to fields in `fieldPath` of rules and in selectable fields: `.spec.a`, `.map['key']`.

use super::schema::Props;

/// A path that was found.
#[derive(Debug)]
pub(super) struct Found<'a> {
    /// As errors write it: `spec.a`, `map[key]`.
    pub(super) path: String,
    /// What it leads to.
    pub(super) props: &'a Props,
}

/// Looks a path up in a schema; with `brackets` also `['key']`.
///
/// # Errors
/// In Kubernetes' words.
pub(super) fn find<'a>(text: &str, props: &'a Props, brackets: bool) -> Result<Found<'a>, String> {
    let mut tokens = tokens(text).into_iter();
    let mut found = Found { path: String::new(), props };
    let end = || "unexpected end of JSON path".to_owned();
    while let Some(token) = tokens.next() {
        match token.as_str() {
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = tokens.next().ok_or_else(end)?;
                let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let Some(inner) = inner.filter(|_| quoted.len() >= 2) else {
                    return Err(format!("expected single quoted string but got {quoted}"));
                };
                found = step(found, &unescape(inner)?)?;
                match tokens.next().ok_or_else(end)?.as_str() {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            "." => found = step(found, &tokens.next().ok_or_else(end)?)?,
            other => return Err(format!("expected [ or . but got: {other}")),
        }
    }
    Ok(found)
}

fn step<'a>(found: Found<'a>, name: &str) -> Result<Found<'a>, String> {
    let lost = || "does not refer to a valid field".to_owned();
    let Found { path, props } = found;
    if props.properties.is_empty() {
        let props = props.values().ok_or_else(lost)?;
        return Ok(Found { path: format!("{path}[{name}]"), props });
    }
    let props = props.properties.get(name).ok_or_else(lost)?;
    Ok(Found { path: if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }, props })
}

fn tokens(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let mut escaped = true;
                let end = rest.char_indices().find(|(_, c)| {
                    let ends = *c == '\'' && !escaped;
                    escaped = *c == '\\';
                    ends
                });
                end.map_or(rest.len(), |(at, _)| at + 1)
            }
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        out.push(rest[..length].to_owned());
        rest = &rest[length..];
    }
    out
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        out.push(match characters.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(same @ ('\'' | '\\')) => same,
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Err(format!("invalid string literal: invalid escape char \\{shown}"));
            }
        });
    }
    Ok(out)
}
