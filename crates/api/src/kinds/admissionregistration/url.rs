//! The address of a webhook, read as Go's `net/url` reads it.

use crate::contract::field::{FieldError, FieldErrors, Path};

const FORM: &str = "; desired format: https://host[/path]";

/// The parts of an address that matter here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Url<'a> {
    scheme: String,
    user: Option<&'a str>,
    host: &'a str,
    query: &'a str,
    fragment: &'a str,
}

/// What is wrong with an address.
pub(super) fn errors(errors: &mut FieldErrors, text: &str, path: &Path) {
    let url = match parse(text) {
        Ok(url) => url,
        Err(cause) => {
            let detail = format!("url must be a valid URL: parse {text:?}: {cause}{FORM}");
            errors.push(FieldError::required(path, detail));
            return;
        }
    };
    let mut refuse = |shown: &str, detail: String| errors.push(FieldError::invalid(path, shown, detail));
    if url.scheme != "https" {
        refuse(&url.scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if url.host.is_empty() {
        refuse("", format!("host must be specified{FORM}"));
    }
    if let Some(user) = url.user {
        refuse(user, "user information is not permitted in the URL".to_owned());
    }
    if !url.fragment.is_empty() {
        refuse(url.fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !url.query.is_empty() {
        refuse(url.query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn parse(text: &str) -> Result<Url<'_>, String> {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    escapes(fragment)?;
    let (scheme, rest) = scheme(rest)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut url = Url { scheme, query, fragment, ..Url::default() };
    let Some(authority) = rest.strip_prefix("//") else {
        let first = rest.split('/').next().unwrap_or_default();
        if url.scheme.is_empty() && first.contains(':') {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
        escapes(rest)?;
        return Ok(url);
    };
    let (authority, rest) = authority.split_at(authority.find('/').unwrap_or(authority.len()));
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    host_errors(host)?;
    escapes(rest)?;
    (url.user, url.host) = (user, host);
    Ok(url)
}

fn scheme(text: &str) -> Result<(String, &str), String> {
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((text[..at].to_lowercase(), &text[at + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), text))
}

fn host_errors(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let Some(end) = host.rfind(']') else { return Err("missing ']' in host".to_owned()) };
        &host[end + 1..]
    } else {
        host.rfind(':').map_or("", |at| &host[at..])
    };
    let digits = port.strip_prefix(':');
    if !port.is_empty() && !digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("invalid port {port:?} after host"));
    }
    match host
        .chars()
        .find(|character| matches!(character, ' ' | '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        Some(character) => Err(format!("invalid character {:?} in host name", character.to_string())),
        None => escapes(host),
    }
}

/// Each percent sign begins an escape.
fn escapes(text: &str) -> Result<(), String> {
    for (at, _) in text.match_indices('%') {
        let escape: String = text[at..].chars().take(3).collect();
        let digits = escape[1..].bytes().filter(u8::is_ascii_hexdigit).count();
        if digits != 2 {
            return Err(format!("invalid URL escape {escape:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        let url = parse("HTTPS://u:p@h:8443/x%20y?q=1#f").unwrap();
        let wanted =
            Url { scheme: "https".into(), user: Some("u:p"), host: "h:8443", query: "q=1", fragment: "f" };
        assert_eq!(url, wanted);
        for (text, said) in [
            (":x", "missing protocol scheme"),
            ("%zz", "invalid URL escape \"%zz\""),
            ("https://[::1", "missing ']' in host"),
            ("https://h:x/", "invalid port \":x\" after host"),
            ("https://a b/", "invalid character \" \" in host name"),
            ("1a:b", "first path segment in URL cannot contain colon"),
            ("a\u{1}", "net/url: invalid control character in URL"),
        ] {
            assert_eq!(parse(text), Err(said.to_owned()), "{text:?}");
        }
    }
}
