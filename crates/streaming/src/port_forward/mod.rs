//! Port-forward: any number of connections to a pod's ports over one connection.
//!
//! [`answer`] takes an HTTP request that asks for an upgrade. For each pair of streams that the client opens, `connect` is
//! called with the port and gives a connection; bytes are copied both ways, each way's end is passed on, and what went
//! wrong is told on the pair's error stream.

mod pairs;
mod session;

pub use session::answer;
pub(crate) use session::refusal;

/// The ports of a request's query: `ports` as in an API server's address, `port` as in a kubelet's, once or often, each
/// a list with commas. Only WebSocket's version 4 needs them: with SPDY each pair of streams names its port.
///
/// # Errors
/// Something there is no port.
pub fn ports_from_query(query: &str) -> Result<Vec<u16>, InvalidPort> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let lists = pairs.filter(|(key, _)| matches!(*key, "port" | "ports"));
    lists.flat_map(|(_, list)| list.split([',']).flat_map(|part| part.split("%2C"))).map(port).collect()
}

/// A port's number.
fn port(text: &str) -> Result<u16, InvalidPort> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(InvalidPort { text: text.chars().take(32).collect() }),
    }
}

/// Something stands where a port should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot take {text:?} for a port: it must be a number from 1 to 65535")]
pub struct InvalidPort {
    text: String,
}
