//! URLs, as Go's `url.ParseRequestURI` takes them: absolute, or a path.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::{Map, Value};
use crate::contract::field::quoted;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    /// Reads a URL.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let wrong = |cause: &str| format!("parse {}: {cause}", quoted(text));
        if text.is_empty() {
            return Err(wrong("empty url"));
        }
        if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err(wrong("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = scheme(text).map_err(wrong)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !rest.starts_with('/') {
            if scheme.is_empty() {
                return Err(wrong("invalid URI for request"));
            }
            // `mailto:x`: opaque, without host and path.
            return Ok(Url { scheme, host: String::new(), path: String::new(), query: query.to_owned() });
        }
        let (host, path) = match rest.strip_prefix("//") {
            Some(after) if !scheme.is_empty() || !rest.starts_with("///") => {
                let at = after.find('/').unwrap_or(after.len());
                let host = after[..at].rsplit('@').next().unwrap_or_default();
                check_host(host).map_err(|cause| wrong(&cause))?;
                (host.to_owned(), after[at..].to_owned())
            }
            _ => (String::new(), rest.to_owned()),
        };
        check_escapes(&path).map_err(|cause| wrong(&cause))?;
        Ok(Url { scheme, host, path, query: query.to_owned() })
    }

    fn hostname(&self) -> &str {
        let host = match self.host.rsplit_once(':') {
            Some((host, port))
                if port.bytes().all(|digit| digit.is_ascii_digit()) && !host.ends_with(':') =>
            {
                host
            }
            _ => &self.host,
        };
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    fn port(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => port,
            _ => "",
        }
    }

    /// The path as it is written, or where it has what none has, escaped anew.
    fn escaped_path(&self) -> String {
        if self
            .path
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte))
        {
            return self.path.clone();
        }
        let mut out = String::with_capacity(self.path.len());
        for byte in plain(&self.path) {
            if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
                out.push(char::from(byte));
            } else {
                write!(out, "%{byte:02X}").expect("a string takes whatever is written into it");
            }
        }
        out
    }

    /// How many bytes the query has.
    pub(crate) fn query_length(&self) -> usize {
        self.query.len()
    }

    fn pairs(&self) -> Vec<(String, Vec<String>)> {
        let mut out: Vec<(String, Vec<String>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for part in self.query.split('&').filter(|part| !part.is_empty() && !part.contains(';')) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (Some(key), Some(value)) = (unescape(key), unescape(value)) else { continue };
            match places.get(&key) {
                Some(place) => out[*place].1.push(value),
                None => {
                    places.insert(key.clone(), out.len());
                    out.push((key, vec![value]));
                }
            }
        }
        out
    }
}

fn scheme(text: &str) -> Result<(String, &str), &'static str> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(text.len());
    if !text[end..].starts_with(':') {
        return Ok((String::new(), text));
    }
    match text.chars().next() {
        Some(':') => Err("missing protocol scheme"),
        Some(first) if first.is_ascii_alphabetic() => {
            Ok((text[..end].to_ascii_lowercase(), &text[end + 1..]))
        }
        _ => Err("first path segment in URL cannot contain colon"),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(inner) => {
            let Some(end) = inner.rfind(']') else { return Err("missing ']' in host".to_owned()) };
            &inner[end + 1..]
        }
        None => host.rfind(':').map_or("", |at| &host[at..]),
    };
    if !(port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|d| d.is_ascii_digit())))
    {
        return Err(format!("invalid port {} after host", quoted(port)));
    }
    match host
        .chars()
        .find(|c| c.is_ascii() && !(c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(*c)))
    {
        Some(character) => Err(format!("invalid character {} in host name", quoted(&character.to_string()))),
        None => check_escapes(host),
    }
}

fn check_escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let digits = text.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape {}", quoted(&shown)));
        }
    }
    Ok(())
}

/// A path without its escapes, which have been checked.
fn plain(path: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                out.push(byte);
                rest = &behind[2..];
            }
            None => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            byte => out.push(byte),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    Some(Ok(match (function, args) {
        ("url", [Value::String(text)]) => match Url::parse(text) {
            Ok(url) => Value::Url(Arc::new(url)),
            Err(cause) => {
                return Some(Err(Failure::new(format!(
                    "URL parse error during conversion from string: {cause}"
                ))));
            }
        },
        ("isURL", [Value::String(text)]) => Value::Bool(Url::parse(text).is_ok()),
        ("getScheme", [Value::Url(url)]) => Value::text(url.scheme.as_str()),
        ("getHost", [Value::Url(url)]) => Value::text(url.host.as_str()),
        ("getHostname", [Value::Url(url)]) => Value::text(url.hostname()),
        ("getPort", [Value::Url(url)]) => Value::text(url.port()),
        ("getEscapedPath", [Value::Url(url)]) => Value::text(url.escaped_path()),
        ("getQuery", [Value::Url(url)]) => {
            let pair = |(key, values): (String, Vec<String>)| {
                (Value::text(key), Value::list(values.into_iter().map(Value::text).collect()))
            };
            Value::Map(Map::Made(Arc::new(url.pairs().into_iter().map(pair).collect())))
        }
        _ => return None,
    }))
}
