//! Either side of a connection of HTTP/2, with blocking sockets.

use std::collections::HashMap;
use std::io::Read as _;
use std::time::Instant;

use mesh::h2::{Code, Connection, Event, Field, Fields, Limits, Side};

use crate::backend::{Backend, Wire};

pub(crate) type Headers = Vec<(String, String)>;

/// What came on a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Got {
    pub(crate) head: Headers,
    pub(crate) informational: usize,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Headers,
    pub(crate) reset: Option<Code>,
    /// Nothing comes any more.
    pub(crate) ended: bool,
}

impl Got {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        value(&self.head, name)
    }

    pub(crate) fn status(&self) -> &str {
        self.get(":status").unwrap_or_default()
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) fn value<'h>(headers: &'h Headers, name: &str) -> Option<&'h str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn list(fields: &Fields) -> Headers {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    fields.iter().map(|field| (text(field.name), text(field.value))).collect()
}

pub(crate) fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn fields(headers: &Headers) -> impl Iterator<Item = Field<'_>> + Clone {
    headers.iter().map(|(name, value)| Field::new(name, value))
}

/// What is still to be sent of a body.
struct Rest {
    bytes: Vec<u8>,
    trailers: Headers,
}

pub(crate) struct Peer {
    pub(crate) wire: Wire,
    pub(crate) connection: Connection,
    held: Vec<u8>,
    pub(crate) got: HashMap<u32, Got>,
    rest: HashMap<u32, Rest>,
    pub(crate) gone_away: Option<(u32, Code)>,
}

impl Peer {
    pub(crate) fn new(side: Side, wire: Wire) -> Self {
        let connection = Connection::new(side, Limits::default());
        Self {
            wire,
            connection,
            held: Vec::new(),
            got: HashMap::new(),
            rest: HashMap::new(),
            gone_away: None,
        }
    }

    pub(crate) fn client(wire: Wire) -> Self {
        let mut peer = Self::new(Side::Client, wire);
        peer.say();
        peer
    }

    /// Begins a request; without a body if there is `None`.
    pub(crate) fn ask(
        &mut self,
        head: &[(&str, &str)],
        body: Option<&[u8]>,
        trailers: &[(&str, &str)],
    ) -> u32 {
        let head = headers(head);
        let stream = self.connection.open(fields(&head), body.is_none()).unwrap();
        self.got.insert(stream, Got::default());
        if let Some(body) = body {
            self.rest.insert(stream, Rest { bytes: body.to_vec(), trailers: headers(trailers) });
        }
        self.say();
        stream
    }

    pub(crate) fn get(&mut self, path: &str) -> u32 {
        self.ask(
            &[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "web")],
            None,
            &[],
        )
    }

    /// The whole answer.
    pub(crate) fn answer(&mut self, stream: u32) -> Got {
        while !self.got[&stream].ended {
            assert!(self.hear(), "the connection has ended: {:?}", self.gone_away);
        }
        self.connection.release(stream);
        self.say();
        self.got[&stream].clone()
    }

    pub(crate) fn reply(&mut self, stream: u32, head: &Headers, body: &[u8], trailers: &Headers) {
        let end = body.is_empty() && trailers.is_empty();
        if self.connection.respond(stream, fields(head), end).is_ok() && !end {
            self.rest.insert(stream, Rest { bytes: body.to_vec(), trailers: trailers.clone() });
        }
        self.say();
    }

    /// Sends what can be sent.
    pub(crate) fn say(&mut self) {
        loop {
            let connection = &mut self.connection;
            self.rest.retain(|stream, rest| {
                let Ok(count) = connection.data(*stream, &rest.bytes, rest.trailers.is_empty()) else {
                    return false;
                };
                rest.bytes.drain(..count);
                if rest.bytes.is_empty() && !rest.trailers.is_empty() {
                    connection.trailers(*stream, fields(&rest.trailers)).unwrap();
                }
                !rest.bytes.is_empty()
            });
            let bytes = self.connection.output().to_vec();
            if bytes.is_empty() || !self.wire.try_send(&bytes) {
                return;
            }
            self.connection.sent(bytes.len());
        }
    }

    /// Waits for something and takes it; false at the end.
    pub(crate) fn hear(&mut self) -> bool {
        let mut piece = [0; 8192];
        let Ok(count @ 1..) = self.wire.reader.read(&mut piece) else { return false };
        self.held.extend_from_slice(&piece[..count]);
        let held = std::mem::take(&mut self.held);
        let mut rest = &held[..];
        loop {
            let (used, event) =
                self.connection.receive(Instant::now(), rest).expect("the mesh keeps the rules");
            if used == 0 {
                break;
            }
            rest = &rest[used..];
            if let Some(event) = event {
                self.note(event);
            }
        }
        self.held = rest.to_vec();
        self.say();
        true
    }

    fn note(&mut self, event: Event<'_>) {
        let fields = list(self.connection.fields());
        match event {
            Event::Head { stream, end } => {
                let got = self.got.entry(stream).or_default();
                (got.head, got.ended) = (fields, end);
            }
            Event::Informational { stream } => self.got.entry(stream).or_default().informational += 1,
            Event::Data { stream, bytes, end } => {
                let got = self.got.entry(stream).or_default();
                got.body.extend_from_slice(bytes);
                got.ended |= end;
                self.connection.consumed(stream, bytes.len() as u32);
            }
            Event::Trailers { stream } => {
                let got = self.got.entry(stream).or_default();
                (got.trailers, got.ended) = (fields, true);
            }
            Event::Reset { stream, code, .. } => {
                let got = self.got.entry(stream).or_default();
                (got.reset, got.ended) = (Some(code), true);
            }
            Event::GoAway { last, code } => self.gone_away = Some((last, code)),
            Event::TooLarge { .. } | Event::Window { .. } | Event::Pong(_) => {}
        }
    }
}

/// A backend that answers each request, once it is whole, with head, body and trailers.
pub(crate) fn answering(
    answer: impl Fn(&Got) -> (Headers, Vec<u8>, Headers) + Send + Sync + 'static,
) -> Backend {
    Backend::new(move |_, wire| {
        let mut peer = Peer::new(Side::Server, wire);
        peer.say();
        while peer.hear() {
            let whole: Vec<u32> = peer.got.iter().filter(|(_, got)| got.ended).map(|(n, _)| *n).collect();
            for stream in whole {
                let got = peer.got.remove(&stream).unwrap();
                if got.reset.is_some() {
                    peer.connection.release(stream);
                    continue;
                }
                let (head, body, trailers) = answer(&got);
                peer.reply(stream, &head, &body, &trailers);
            }
        }
    })
}

/// One that says its name and what it was asked.
pub(crate) fn saying(name: &'static str) -> Backend {
    answering(move |got| {
        let mut text = format!("{name}\n");
        for (name, value) in &got.head {
            text.push_str(&format!("{name}={value}\n"));
        }
        (headers(&[(":status", "200"), ("server", name)]), text.into_bytes(), Headers::new())
    })
}
