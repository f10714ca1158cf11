//! What a connection speaks, by its first bytes.

use crate::h2::frame::PREFACE;
use crate::reactor::Socket;

/// What they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
    Other,
    /// More of them would say.
    Unclear,
}

/// So many bytes say it for certain.
const ENOUGH: usize = 32;

/// So many bytes of a server say whether it speaks HTTP/2.
const GREETING: usize = 9;

/// Whether a server that speaks first begins as HTTP/2 does: with SETTINGS (RFC 9113, 3.4). `None` while more of it would say.
fn greeting(bytes: &[u8]) -> Option<bool> {
    match *bytes {
        // Nobody has settings for 64 kB.
        [first, ..] if first != 0 => Some(false),
        [_, _, _, kind, ..] if kind != 4 => Some(false),
        [0, b, c, 4, flags, 0, 0, 0, 0, ..] => Some(u16::from_be_bytes([b, c]) % 6 == 0 && flags & 1 == 0),
        _ if bytes.len() >= GREETING => Some(false),
        _ => None,
    }
}

/// A method in upper case, a blank and the beginning of a target. Others have words with a blank behind, so that alone says nothing:
/// `GET key` is memcached's.
fn spoken(bytes: &[u8]) -> Spoken {
    if bytes.starts_with(PREFACE) {
        return Spoken::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Spoken::Unclear;
    }
    // One empty line may come first.
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let method = bytes.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    let rest = bytes.get(method..).unwrap_or_default();
    match rest {
        _ if method > 20 => Spoken::Other,
        [] | [b' '] if method > 0 => Spoken::Unclear,
        [] | [b'\r'] => Spoken::Unclear,
        [b' ', ..] if bytes.starts_with(b"CONNECT ") => Spoken::Http1,
        [b' ', b'*', b' ', ..] | [b' ', b'/', ..] if method > 0 => Spoken::Http1,
        [b' ', b'*'] if method > 0 => Spoken::Unclear,
        [b' ', target @ ..] if method > 0 => {
            let known = b"http://";
            let count = target.len().min(known.len());
            match target.get(..count) {
                Some(start) if !start.eq_ignore_ascii_case(known.get(..count).unwrap_or_default()) => {
                    Spoken::Other
                }
                _ if count < known.len() => Spoken::Unclear,
                _ => Spoken::Http1,
            }
        }
        _ => Spoken::Other,
    }
}

/// What the client's first bytes say. None of them is taken.
pub(super) async fn said(client: &Socket) -> Spoken {
    let mut first = [0; ENOUGH];
    let mut seen = 0;
    loop {
        let Ok(count) = client.peek(&mut first, seen).await else { return Spoken::Other };
        match spoken(first.get(..count).unwrap_or_default()) {
            // As much as will come.
            Spoken::Unclear if count <= seen || count == ENOUGH => return Spoken::Other,
            Spoken::Unclear => seen = count,
            said => return said,
        }
    }
}

/// Whether a server's first bytes are those of HTTP/2. None of them is taken.
pub(super) async fn greets(server: &Socket) -> bool {
    let mut first = [0; GREETING];
    let mut seen = 0;
    loop {
        let Ok(count) = server.peek(&mut first, seen).await else { return false };
        match greeting(first.get(..count).unwrap_or_default()) {
            None if count > seen => seen = count,
            said => return said == Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_greets_with_settings_speaks_http_2() {
        for (bytes, wanted) in [
            (&b"\0\0\0\x04\0\0\0\0\0"[..], Some(true)),
            (b"\0\0\x12\x04\0\0\0\0\0\0\x03", Some(true)),
            (b"\0\0\x12\x04\0\0\0\0", None),
            (b"\0", None),
            (b"", None),
            (b"\0\0\x05\x04\0\0\0\0\0", Some(false)),
            (b"\0\0\0\x04\x01\0\0\0\0", Some(false)),
            (b"\0\0\0\x04\0\0\0\0\x01", Some(false)),
            (b"\0\0\0\x06", Some(false)),
            (b"220 ready", Some(false)),
            (b"2", Some(false)),
            (b"\x4a\0\0\0\x0a5.7", Some(false)),
        ] {
            assert_eq!(greeting(bytes), wanted, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn first_bytes_say_what_is_spoken() {
        for (bytes, wanted) in [
            (&b"GET / HTTP/1.1\r\n"[..], Spoken::Http1),
            (b"PROPFIND /a", Spoken::Http1),
            (b"M-SEARCH * HTTP", Spoken::Http1),
            (b"CONNECT a:1 ", Spoken::Http1),
            (b"GET HTTP://a/", Spoken::Http1),
            (b"\r\nGET / ", Spoken::Http1),
            (PREFACE, Spoken::Http2),
            (b"GET key\r\n", Spoken::Other),
            (b"SET a b\r\n", Spoken::Other),
            (b"*1\r\n$4\r\nPING\r\n", Spoken::Other),
            (b"PING\r\n", Spoken::Other),
            (b"\x16\x03\x01", Spoken::Other),
            (b"\0\0\0\x08", Spoken::Other),
            (b"EHLO a.example\r\n", Spoken::Other),
            (b"SSH-2.0-x", Spoken::Other),
            (b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", Spoken::Other),
        ] {
            assert_eq!(spoken(bytes), wanted, "{:?}", bytes.escape_ascii().to_string());
            // Whatever comes first of it says the same or nothing.
            for part in 0..bytes.len() {
                let first = spoken(&bytes[..part]);
                assert!(
                    first == Spoken::Unclear || first == wanted,
                    "{part} of {:?}",
                    bytes.escape_ascii().to_string()
                );
            }
        }
        // All there can be of what is unclear fits.
        assert!(spoken(b"ABCDEFGHIJKLMNOPQRST htt") != Spoken::Http1 && PREFACE.len() <= ENOUGH);
    }
}
