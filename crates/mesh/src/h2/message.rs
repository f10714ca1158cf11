//! Whether a list of headers makes a message (RFC 9113, 8.2 and 8.3).
//!
//! Strict as [`crate::http1`] is, since a message may go on by that: whoever reads it there must find the same one. What is wrong is told in a few
//! words; such a message ends its stream with PROTOCOL_ERROR.

use super::{Field, Fields};
use crate::http1::{Kind, host_byte, is_token, length, text_byte, token_byte};

/// What a request's head says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// `:method`.
    pub method: &'a str,
    /// `:scheme`; none of a CONNECT.
    pub scheme: &'a str,
    /// `:authority`, or `host` without one.
    pub authority: Option<&'a str>,
    /// `:path` with its query; empty of a CONNECT.
    pub path: &'a str,
    /// `content-length`.
    pub length: Option<u64>,
}

/// What an answer's head says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// `:status`.
    pub status: u16,
    /// `content-length`.
    pub length: Option<u64>,
}

/// What the headers behind the pseudo-headers say together.
#[derive(Default)]
struct Said<'a> {
    host: Option<&'a [u8]>,
    length: Option<u64>,
}

/// Reads the head of a request.
///
/// # Errors
/// It is none.
pub fn request(fields: &Fields) -> Result<Request<'_>, &'static str> {
    let (mut method, mut scheme, mut authority, mut path) = (None, None, None, None);
    let said = head(fields, |field| {
        let place = match field.name {
            b":method" => &mut method,
            b":scheme" => &mut scheme,
            b":authority" => &mut authority,
            b":path" => &mut path,
            b":protocol" => return Err(":protocol was not offered"),
            _ => return Err("a pseudo-header that no request has"),
        };
        match place.replace(field.value) {
            None => Ok(()),
            Some(_) => Err("a pseudo-header is there twice"),
        }
    })?;
    let method = method.filter(|method| is_token(method) && method.len() <= 64);
    let method = method.ok_or(":method is missing or none")?;
    if authority.or(said.host).is_some_and(|host| !host.iter().all(|byte| host_byte(*byte))) {
        return Err(":authority or host has a character that no host has");
    }
    if let (Some(authority), Some(host)) = (authority, said.host)
        && !authority.eq_ignore_ascii_case(host)
    {
        return Err(":authority and host differ");
    }
    if method == b"CONNECT" {
        if scheme.is_some() || path.is_some() {
            return Err("a CONNECT has :scheme or :path");
        }
        if said.length.is_some() {
            return Err("a CONNECT has content-length");
        }
        authority.filter(|authority| !authority.is_empty()).ok_or("a CONNECT has no :authority")?;
    } else {
        let letters = |scheme: &&[u8]| {
            scheme.first().is_some_and(u8::is_ascii_alphabetic)
                && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
        };
        scheme.filter(letters).ok_or(":scheme is missing or none")?;
        let of_path = |path: &&[u8]| {
            (path.starts_with(b"/") || (*path == b"*" && method == b"OPTIONS"))
                && path.iter().all(u8::is_ascii_graphic)
        };
        path.filter(of_path).ok_or(":path is missing or none")?;
    }
    Ok(Request {
        method: text(method),
        scheme: scheme.map(text).unwrap_or_default(),
        authority: authority.or(said.host).map(text),
        path: path.map(text).unwrap_or_default(),
        length: said.length,
    })
}

/// Reads the head of an answer.
///
/// # Errors
/// It is none.
pub fn response(fields: &Fields) -> Result<Response, &'static str> {
    let mut status = None;
    let said = head(fields, |field| match (field.name, status.is_some()) {
        (b":status", false) => {
            status = match *field.value {
                [a @ b'1'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                    Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
                }
                _ => return Err(":status is none"),
            };
            Ok(())
        }
        (b":status", true) => Err(":status is there twice"),
        _ => Err("a pseudo-header that no answer has"),
    })?;
    match status {
        // There is nothing to switch to (RFC 9113, 8.6).
        Some(101) => Err(":status is 101"),
        Some(status) => Ok(Response { status, length: said.length }),
        None => Err(":status is missing"),
    }
}

/// Looks through the headers behind a body.
///
/// # Errors
/// They may not stand there.
pub fn trailers(fields: &Fields) -> Result<(), &'static str> {
    for field in fields.iter() {
        if field.name.starts_with(b":") {
            return Err("a pseudo-header among the trailers");
        }
        regular(field)?;
        if Kind::of(field.name) != Kind::Other {
            return Err("a trailer is a header that says how to read or where to send a message");
        }
    }
    Ok(())
}

fn head<'a>(
    fields: &'a Fields,
    mut pseudo: impl FnMut(Field<'a>) -> Result<(), &'static str>,
) -> Result<Said<'a>, &'static str> {
    let mut said = Said::default();
    let mut behind = false;
    for field in fields.iter() {
        if field.name.starts_with(b":") {
            if behind {
                return Err("a pseudo-header behind a header");
            }
            if !field.value.iter().all(|byte| text_byte(*byte)) {
                return Err("a pseudo-header has a control character");
            }
            pseudo(field)?;
            continue;
        }
        behind = true;
        regular(field)?;
        match Kind::of(field.name) {
            Kind::Host if said.host.replace(field.value).is_some() => return Err("host is there twice"),
            Kind::Length => {
                let length = length(field.value).map_err(|_| "content-length is not a number of bytes")?;
                if said.length.replace(length).is_some() {
                    return Err("content-length is there twice");
                }
            }
            _ => {}
        }
    }
    Ok(said)
}

/// A header as HTTP/2 lets it be.
fn regular(field: Field<'_>) -> Result<(), &'static str> {
    let Field { name, value, .. } = field;
    if name.is_empty() || !name.iter().all(|byte| token_byte(*byte) && !byte.is_ascii_uppercase()) {
        return Err("a header's name is empty or has a character that no name has here");
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if !value.iter().all(|byte| text_byte(*byte)) || blank(value.first()) || blank(value.last()) {
        return Err("a header's value has a control character, or a blank at an end");
    }
    match Kind::of(name) {
        Kind::Hop if name == b"te" && value.eq_ignore_ascii_case(b"trailers") => Ok(()),
        Kind::Connection | Kind::Coding | Kind::Upgrade | Kind::Hop => {
            Err("a header that is for one connection of HTTP/1.1")
        }
        _ => Ok(()),
    }
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &str) -> Fields {
        let mut fields = Fields::default();
        for line in lines.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.rsplit_once('=').unwrap();
            fields.push(Field::new(name, value));
        }
        fields
    }

    const GET: &str = ":method=GET|:scheme=http|:path=/a?b|:authority=web:80";

    #[test]
    fn a_request_is_read() {
        let all = fields(&format!("{GET}|te=trailers|content-length=12|x=a b|host=WEB:80"));
        let wanted = Request {
            method: "GET",
            scheme: "http",
            authority: Some("web:80"),
            path: "/a?b",
            length: Some(12),
        };
        assert_eq!(request(&all), Ok(wanted));
        assert_eq!(request(&fields(":method=CONNECT|:authority=a:1")).unwrap().path, "");
        let by_host = fields(":path=*|:method=OPTIONS|:scheme=https|host=a");
        assert_eq!(request(&by_host).unwrap().authority, Some("a"));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for lines in [
            "",
            ":scheme=http|:path=/",
            ":method=GET|:path=/",
            ":method=GET|:scheme=http",
            ":method=GET|:scheme=http|:path=",
            ":method=GET|:scheme=http|:path=a",
            ":method=GET|:scheme=http|:path=*",
            ":method=GET|:scheme=http|:path=/a b",
            ":method=GET|:scheme=http|:path=/\u{e4}",
            ":method=G T|:scheme=http|:path=/",
            ":method=|:scheme=http|:path=/",
            ":method=GET|:scheme=|:path=/",
            ":method=GET|:scheme=ht tp|:path=/",
            ":method=GET|:method=GET|:scheme=http|:path=/",
            ":method=GET|:scheme=http|:path=/|:path=/",
            ":method=GET|:scheme=http|:path=/|:status=200",
            ":method=GET|:scheme=http|:path=/|:authority=a/b",
            ":method=GET|:scheme=http|:path=/|:authority=u@a",
            ":method=GET|:scheme=http|:path=/|:authority=a\r\nb",
            ":method=GET|:scheme=http|x=y|:path=/",
            ":method=CONNECT|:authority=a:1|:scheme=http|:path=/",
            ":method=CONNECT|:authority=a:1|:scheme=http|:path=/|:protocol=websocket",
            ":method=CONNECT|:protocol=websocket|:authority=a:1",
            ":method=CONNECT",
            ":method=CONNECT|:authority=",
            ":method=CONNECT|:authority=a:1|content-length=0",
        ] {
            assert!(request(&fields(lines)).is_err(), "{lines:?}");
        }
        for more in [
            "host=b",
            "host=web:80|host=web:80",
            "connection=close",
            "connection=x",
            "keep-alive=a",
            "proxy-connection=a",
            "transfer-encoding=chunked",
            "upgrade=h2c",
            "http2-settings=a",
            "te=gzip",
            "te=trailers, gzip",
            "X=y",
            "x y=z",
            "=z",
            "x:=z",
            "x=a\nb",
            "x=a\rb",
            "x=a\0b",
            "x= a",
            "x=a\t",
            "content-length=1|content-length=1",
            "content-length=+1",
            "content-length=",
        ] {
            assert!(request(&fields(&format!("{GET}|{more}"))).is_err(), "{more:?}");
        }
    }

    #[test]
    fn answers_and_trailers_are_what_they_may_be() {
        let wanted = Response { status: 204, length: None };
        assert_eq!(response(&fields(":status=204|server=a")), Ok(wanted));
        assert_eq!(response(&fields(":status=200|content-length=7")).unwrap().length, Some(7));
        for lines in [
            "",
            "x=y",
            ":status=20",
            ":status=2000",
            ":status=099",
            ":status=600",
            ":status=2x0",
            ":status=101",
            ":status=200|:status=200",
            ":status=200|:path=/",
            "x=y|:status=200",
            ":status=200|connection=close",
            ":status=200|content-length=1|content-length=1",
        ] {
            assert!(response(&fields(lines)).is_err(), "{lines:?}");
        }
        assert_eq!(trailers(&fields("grpc-status=0|grpc-message=a b")), Ok(()));
        for lines in
            [":status=200", "content-length=1", "te=trailers", "host=a", "A=b", "transfer-encoding=chunked"]
        {
            assert!(trailers(&fields(lines)).is_err(), "{lines:?}");
        }
    }
}
