//! Which requests a rule is about, and which of two rules goes first.

use serde_json::Value;

use super::{RouteKind, Wrong};
use crate::contract::http::{self, HttpMatch, Pair, PathMatch, TextMatch};
use crate::contract::part::{Field, Notes, Part};
use crate::contract::specs::http_name;

/// A match, and how much it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// Which requests.
    pub requests: HttpMatch,
    /// Of two that fit, the greater goes first.
    pub rank: Rank,
}

/// How much a match says, the most important first.
///
/// Of HTTPRoutes: an exact path, then a pattern, then a prefix (where patterns stand is left to implementations: a longer list of paths
/// would otherwise hide them behind `/`); the path's characters; a method; the number of headers; of parameters. Of GRPCRoutes: the
/// service's characters, the method's, the number of headers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank([usize; 5]);

impl RouteMatch {
    /// All requests.
    pub(super) fn any(kind: RouteKind) -> Self {
        let requests = HttpMatch::default();
        let rank = if kind == RouteKind::Grpc { Rank::default() } else { Rank([PREFIX, 1, 0, 0, 0]) };
        Self { requests, rank }
    }
}

const EXACT: usize = 3;
const PATTERN: usize = 2;
const PREFIX: usize = 1;

/// Reads a rule's matches. Of each that cannot be, it is said why; with it the rule is dropped.
pub(super) fn read(
    items: &[Field<'_>],
    kind: RouteKind,
    wrong: &mut Wrong,
    notes: &mut Notes,
) -> Vec<RouteMatch> {
    let mut matches = Vec::new();
    for item in items {
        let one = match item.part(notes) {
            Some(part) if kind == RouteKind::Grpc => grpc(&part),
            Some(part) => http(&part),
            None => Err(format!("{} is no match; write an object", item.path)),
        };
        match one {
            Ok(one) => matches.push(one),
            Err(message) => wrong.drop(message),
        }
    }
    matches
}

fn known(part: &Part<'_>, fields: &[&str]) -> Result<(), String> {
    match part.map.keys().find(|name| !fields.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(format!("{} cannot be matched by; known are {}", part.at(name), fields.join(", "))),
    }
}

fn http(part: &Part<'_>) -> Result<RouteMatch, String> {
    known(part, &["path", "method", "headers", "queryParams"])?;
    let (path, class, length) = path(part)?;
    let method = match part.get("method") {
        None => None,
        Some(field) => {
            let text = text(&field)?;
            Some(http_name(text).map(|_| text.to_owned()).ok_or_else(|| wrong(&field, "is no method"))?)
        }
    };
    let headers = pairs(part, "headers", true)?;
    let query = pairs(part, "queryParams", false)?;
    let rank = Rank([class, length, usize::from(method.is_some()), headers.len(), query.len()]);
    let requests = HttpMatch { path, methods: method.into_iter().collect(), headers, query };
    Ok(RouteMatch { requests, rank })
}

fn path(part: &Part<'_>) -> Result<(PathMatch, usize, usize), String> {
    let Some(field) = part.get("path") else { return Ok((PathMatch::default(), PREFIX, 1)) };
    let part = object(&field)?;
    let value = match part.get("value") {
        None => "/",
        Some(field) => text(&field)?,
    };
    let length = value.chars().count();
    let kind = kind(&part, "PathPrefix")?;
    if kind != "RegularExpression" && !value.starts_with('/') {
        return Err(format!("{}: {value:?}: a path begins with '/'", part.at("value")));
    }
    match kind {
        "Exact" => Ok((PathMatch::Exact(value.to_owned()), EXACT, length)),
        "PathPrefix" => {
            // What matches the same says the same, with a '/' behind it or without.
            let length = value.trim_end_matches('/').chars().count().max(1);
            Ok((PathMatch::prefix(value), PREFIX, length))
        }
        "RegularExpression" => {
            pattern(&part, value)?;
            Ok((PathMatch::Regex(http::whole(value)), PATTERN, length))
        }
        other => Err(unknown_kind(&part, other, "Exact, PathPrefix or RegularExpression")),
    }
}

/// A gRPC method is a path (`/SERVICE/METHOD`).
fn grpc(part: &Part<'_>) -> Result<RouteMatch, String> {
    known(part, &["method", "headers"])?;
    let headers = pairs(part, "headers", true)?;
    let (mut path, mut service_length, mut method_length) = (PathMatch::default(), 0, 0);
    if let Some(field) = part.get("method") {
        let part = object(&field)?;
        let name = |name: &str| match part.get(name) {
            None => Ok(None),
            Some(field) => Ok::<_, String>(Some(text(&field)?).filter(|text| !text.is_empty())),
        };
        let (service, method) = (name("service")?, name("method")?);
        (service_length, method_length) =
            (service.unwrap_or_default().chars().count(), method.unwrap_or_default().chars().count());
        path = match kind(&part, "Exact")? {
            "Exact" => {
                if [service, method].into_iter().flatten().any(|name| name.contains('/')) {
                    return Err(format!("{}: a service or method has no '/' in its name", part.path));
                }
                match (service, method) {
                    (Some(service), Some(method)) => PathMatch::Exact(format!("/{service}/{method}")),
                    (Some(service), None) => PathMatch::Prefix(format!("/{service}")),
                    (None, Some(method)) => joined(&part, &format!("/[^/]+/{}", regex::escape(method)))?,
                    (None, None) => PathMatch::default(),
                }
            }
            "RegularExpression" => {
                let element = |text: Option<&str>| match text {
                    None => Ok("[^/]+".to_owned()),
                    Some(text) => pattern(&part, text).map(|()| format!("(?:{text})")),
                };
                joined(&part, &format!("/{}/{}", element(service)?, element(method)?))?
            }
            other => return Err(unknown_kind(&part, other, "Exact or RegularExpression")),
        };
    }
    let rank = Rank([service_length, method_length, headers.len(), 0, 0]);
    Ok(RouteMatch { requests: HttpMatch { path, headers, ..HttpMatch::default() }, rank })
}

/// The pattern of a whole path. Its parts may be right and it too large.
fn joined(part: &Part<'_>, pattern: &str) -> Result<PathMatch, String> {
    let whole = http::whole(pattern);
    http::compile(&whole).map_err(|e| {
        format!("{}: {pattern:?}, which it comes to, is no pattern ({e}); mend it", part.path)
    })?;
    Ok(PathMatch::Regex(whole))
}

/// Headers or parameters. Of two with one name the first counts, as Gateway API has it.
fn pairs(part: &Part<'_>, name: &str, is_header: bool) -> Result<Vec<Pair>, String> {
    let Some(field) = part.get(name) else { return Ok(Vec::new()) };
    let mut pairs: Vec<Pair> = Vec::new();
    let items = field.value.as_array().ok_or_else(|| wrong(&field, "is no list"))?;
    for (n, value) in items.iter().enumerate() {
        let part = object(&Field { value, path: format!("{}[{n}]", field.path) })?;
        let need = |name: &str| part.get(name).ok_or_else(|| format!("{} must be there", part.at(name)));
        let (name, value) = (need("name")?, need("value")?);
        let (mut key, text) = (text(&name)?.to_owned(), text(&value)?);
        if is_header {
            key = http_name(&key).ok_or_else(|| wrong(&name, "is no name of a header"))?;
        }
        let value = match kind(&part, "Exact")? {
            "Exact" => TextMatch::Exact(text.to_owned()),
            "RegularExpression" => {
                pattern(&part, text)?;
                TextMatch::Regex(http::whole(text))
            }
            other => return Err(unknown_kind(&part, other, "Exact or RegularExpression")),
        };
        if pairs.iter().all(|before| before.name != key) {
            pairs.push(Pair { name: key, value });
        }
    }
    Ok(pairs)
}

fn kind<'v>(part: &Part<'v>, default: &'static str) -> Result<&'v str, String> {
    match part.get("type") {
        None => Ok(default),
        Some(field) => text(&field),
    }
}

fn unknown_kind(part: &Part<'_>, value: &str, known: &str) -> String {
    format!("{}: {value:?} is not known; write {known}", part.at("type"))
}

fn pattern(part: &Part<'_>, text: &str) -> Result<(), String> {
    http::check(text).map_err(|e| format!("{}: {text:?} is no pattern ({e}); mend it", part.at("value")))
}

fn wrong(field: &Field<'_>, what: &str) -> String {
    format!("{}: {} {what}", field.path, field.value)
}

fn text<'v>(field: &Field<'v>) -> Result<&'v str, String> {
    field.value.as_str().ok_or_else(|| wrong(field, "is no text"))
}

fn object<'v>(field: &Field<'v>) -> Result<Part<'v>, String> {
    match field.value {
        Value::Object(map) => Ok(Part { map, path: field.path.clone() }),
        _ => Err(wrong(field, "is no object")),
    }
}
