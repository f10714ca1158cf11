//! What a request asks for.

use std::borrow::Cow;

use super::Fault;
use super::head::host_byte;

/// A request's target (RFC 9112, 3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'b> {
    /// Whom it names: of the form that proxies are asked in, and of CONNECT.
    pub authority: Option<&'b str>,
    /// The path as the backend gets it, see [`normal`]; `*` of OPTIONS, empty of CONNECT.
    pub path: Cow<'b, str>,
    /// What stands behind the `?`.
    pub query: Option<&'b str>,
}

impl<'b> Target<'b> {
    /// Of a request by this method.
    ///
    /// # Errors
    /// It is none of the four forms, or the path is wrong.
    pub fn of(target: &'b str, method: &str) -> Result<Self, Fault> {
        if method == "CONNECT" {
            let valid = target.bytes().all(host_byte)
                && target.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            return if valid {
                Ok(Self { authority: Some(target), path: Cow::Borrowed(""), query: None })
            } else {
                Err(Fault::Target("of a CONNECT is not HOST:PORT"))
            };
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Self { authority: None, path: Cow::Borrowed("*"), query: None });
        }
        let (authority, rest) = match target.strip_prefix('/') {
            Some(_) => (None, target),
            None => absolute(target)?,
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        if rest.contains('#') {
            return Err(Fault::Target("has a fragment"));
        }
        let path = if path.is_empty() { Cow::Borrowed("/") } else { normal(path)? };
        Ok(Self { authority, path, query })
    }
}

fn absolute(target: &str) -> Result<(Option<&str>, &str), Fault> {
    const FORM: Fault = Fault::Target("is neither a path nor http://HOST/PATH");
    let scheme = target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")).ok_or(FORM)?;
    let rest = target.get(scheme.len()..).unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.is_empty() || !authority.bytes().all(host_byte) {
        return Err(FORM);
    }
    Ok((Some(authority), path))
}

/// A path as those who compare it must see it (RFC 3986, 6.2.2): what need not be percent-encoded is decoded, `.` and `..` are resolved.
///
/// # Errors
/// A `%` without two digits, or a backslash, which some take for a `/`.
pub fn normal(path: &str) -> Result<Cow<'_, str>, Fault> {
    let mut plain = true;
    let mut before = 0;
    for byte in path.bytes() {
        match byte {
            b'%' => plain = false,
            b'.' if before == b'/' => plain = false,
            b'\\' => return Err(Fault::Target("has a backslash that must be percent-encoded")),
            _ => {}
        }
        before = byte;
    }
    if plain {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decoded(path)?;
    let mut out = String::with_capacity(decoded.len());
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    out.truncate(out.rfind('/').unwrap_or(0));
                }
                if last {
                    out.push('/');
                }
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    if out.is_empty() {
        out.push('/');
    }
    Ok(Cow::Owned(out))
}

fn decoded(path: &str) -> Result<String, Fault> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escaped) = rest.split_at(at);
        out.push_str(before);
        let digits = escaped.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let digits = digits.ok_or(Fault::Target("has a % that is not followed by two hexadecimal digits"))?;
        let byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(escaped.get(..3).unwrap_or_default());
        }
        rest = escaped.get(3..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}
