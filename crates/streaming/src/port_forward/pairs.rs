//! A SPDY client opens two streams for a connection, one for its bytes and one for what goes wrong. They find each other
//! by the number of their request.

use std::time::{Duration, Instant};

use crate::mux::{Connection, Incoming, Reset};
use crate::{Input, Output};

/// Both streams of a connection to a port.
pub(super) struct Pair {
    pub(super) port: u16,
    pub(super) error: Output,
    pub(super) data: (Input, Output),
}

/// The streams whose other half has not come yet.
#[derive(Default)]
pub(super) struct Pairs {
    half: Vec<Half>,
}

struct Half {
    request: String,
    port: u16,
    is_error: bool,
    stream: (Input, Output),
    since: Instant,
}

impl Pairs {
    /// Takes a stream; gives the pair if it makes one whole. A stream that is not as it must be is refused.
    pub(super) fn add(&mut self, connection: &Connection, incoming: Incoming) -> Option<Pair> {
        let id = incoming.id;
        let (Some(is_error), Some(port)) = (is_error(&incoming), port(&incoming)) else {
            connection.refuse(id, Reset::ProtocolError);
            return None;
        };
        let request = match incoming.headers.get("requestid") {
            Some(request) if !request.is_empty() => request.to_owned(),
            // Clients of old name none, and open the error stream first and the other right after.
            _ if is_error => id.to_string(),
            _ => id.saturating_sub(2).to_string(),
        };
        let Some(at) = self.half.iter().position(|half| half.request == request) else {
            let stream = connection.accept(id);
            self.half.push(Half { request, port, is_error, stream, since: Instant::now() });
            return None;
        };
        if self.half.get(at).is_some_and(|half| half.is_error == is_error || half.port != port) {
            connection.refuse(id, Reset::ProtocolError);
            return None;
        }
        let half = self.half.swap_remove(at);
        let stream = connection.accept(id);
        let (error, data) = if is_error { (stream, half.stream) } else { (half.stream, stream) };
        Some(Pair { port, error: error.1, data })
    }

    /// When the one that has waited longest has waited for too long.
    pub(super) fn deadline(&self, patience: Duration) -> Option<Instant> {
        self.half.iter().map(|half| half.since + patience).min()
    }

    /// Cuts off those that have waited for too long.
    pub(super) fn expire(&mut self, patience: Duration) {
        let now = Instant::now();
        for half in self.half.extract_if(.., |half| half.since + patience <= now) {
            half.stream.1.reset();
        }
    }
}

fn is_error(incoming: &Incoming) -> Option<bool> {
    match incoming.headers.get("streamtype")? {
        "error" => Some(true),
        "data" => Some(false),
        _ => None,
    }
}

fn port(incoming: &Incoming) -> Option<u16> {
    super::port(incoming.headers.get("port")?).ok()
}
