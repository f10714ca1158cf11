//! Writes heads again, by the pieces that stay.

use super::field::{self, Kind, is_token, text_byte};
use super::head::Head;

/// What a route changes of a message's headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    drop: Vec<Box<str>>,
    append: Vec<(Box<str>, Box<str>)>,
}

impl Edits {
    /// Takes a header away.
    pub fn remove(&mut self, name: &str) {
        self.append.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        if !self.drop.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            self.drop.push(name.into());
        }
    }

    /// Puts a header in place of what there is of it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.add(name, value);
    }

    /// Puts a header beside what there is of it.
    pub fn add(&mut self, name: &str, value: &str) {
        self.append.push((name.into(), value.into()));
    }

    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.append.is_empty()
    }

    /// The name of a header that only the proxy itself may change, that is none, or has no value that may be sent.
    #[must_use]
    pub fn wrong(&self) -> Option<&str> {
        let appended = self.append.iter().map(|(name, value)| (&**name, &**value));
        let mut all = self.drop.iter().map(|name| (&**name, "")).chain(appended);
        let wrong = |(name, value): &(&str, &str)| {
            !is_token(name.as_bytes()) || Kind::of(name.as_bytes()).frames() || !value.bytes().all(text_byte)
        };
        all.find(wrong).map(|(name, _)| name)
    }

    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        self.drop.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
    }

    /// What is put there.
    pub(crate) fn appended(&self) -> impl Iterator<Item = (&str, &str)> {
        self.append.iter().map(|(name, value)| (&**name, &**value))
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.append {
            line(out, name.as_bytes(), value.as_bytes());
        }
    }
}

/// How a request is passed on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forward<'a> {
    /// The target's path, where it is another than it was.
    pub path: Option<&'a str>,
    /// The query that goes with that path.
    pub query: Option<&'a str>,
    /// In place of `Host`.
    pub host: Option<&'a str>,
    /// What a route changes.
    pub edits: Option<&'a Edits>,
}

/// Writes a request's head: what was for this hop alone is left out, and HTTP/1.1 is spoken.
pub fn request(out: &mut Vec<u8>, bytes: &[u8], head: &Head, forward: &Forward<'_>) {
    out.extend_from_slice(bytes.get(head.method.clone()).unwrap_or_default());
    out.push(b' ');
    match forward.path {
        Some(path) => {
            out.extend_from_slice(path.as_bytes());
            if let Some(query) = forward.query {
                out.push(b'?');
                out.extend_from_slice(query.as_bytes());
            }
        }
        None => out.extend_from_slice(bytes.get(head.target.clone()).unwrap_or_default()),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(host) = forward.host {
        line(out, b"host", host.as_bytes());
    }
    kept(out, bytes, head, forward.edits, |kind| match kind {
        Kind::Host => forward.host.is_none(),
        Kind::Upgrade => head.upgrades(),
        Kind::Connection | Kind::Hop => false,
        _ => true,
    });
    if let Some(edits) = forward.edits {
        edits.write(out);
    }
    if head.upgrades() {
        line(out, b"connection", b"upgrade");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a response's head. `connection` is what the client is told about its connection, `plain` says that the body comes without
/// chunks, whatever it came with.
pub fn response(
    out: &mut Vec<u8>,
    bytes: &[u8],
    head: &Head,
    edits: Option<&Edits>,
    connection: Option<&str>,
    plain: bool,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(bytes.get(head.target.clone()).unwrap_or_default());
    out.extend_from_slice(b"\r\n");
    // Of these no length may be told (RFC 9110, 8.6; RFC 9112, 6.1).
    let unsized_status = head.upgrades() || matches!(head.status(), 100..=199 | 204);
    kept(out, bytes, head, edits, |kind| match kind {
        Kind::Length => !unsized_status,
        Kind::Coding => !unsized_status && !plain,
        Kind::Upgrade => head.status() == 101 || head.status() == 426,
        Kind::Connection | Kind::Hop => false,
        _ => true,
    });
    if let Some(edits) = edits {
        edits.write(out);
    }
    match connection {
        _ if head.status() == 101 => line(out, b"connection", b"upgrade"),
        Some(connection) => line(out, b"connection", connection.as_bytes()),
        None => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the lines that stay, those that stand together at once.
fn kept(out: &mut Vec<u8>, bytes: &[u8], head: &Head, edits: Option<&Edits>, stays: impl Fn(Kind) -> bool) {
    let edits = edits.filter(|edits| !edits.drop.is_empty());
    let mut run = 0..0;
    for field in &head.fields {
        let name = || bytes.get(field.start..field.colon).unwrap_or_default();
        let stays = stays(field.kind)
            && !(head.connection_names && field.kind == Kind::Other && named(bytes, head, name()))
            && !edits.is_some_and(|edits| edits.drops(name()));
        if !stays {
            continue;
        }
        if run.end != field.start {
            out.extend_from_slice(bytes.get(run).unwrap_or_default());
            run = field.start..field.start;
        }
        run.end = field.end;
    }
    out.extend_from_slice(bytes.get(run).unwrap_or_default());
}

/// Whether `Connection` names this header.
fn named(bytes: &[u8], head: &Head, name: &[u8]) -> bool {
    let connections = head.fields.iter().filter(|field| field.kind == Kind::Connection);
    let mut options = connections
        .flat_map(|field| field::list(bytes.get(field.value.0..field.value.1).unwrap_or_default()));
    options.any(|option| option.eq_ignore_ascii_case(name))
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
