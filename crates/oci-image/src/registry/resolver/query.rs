//! Asking nameservers: A and AAAA at once from one, the next one when it does not answer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{self, Kind, Response};
use super::resolv_conf::ResolvConf;

const NO_ERROR: u8 = 0;
const NAME_ERROR: u8 = 3;
/// What UDP carries without EDNS, and more for servers that do not care.
const DATAGRAM_MAX: usize = 4096;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// Every nameserver said that there is no such name, or no address for it.
    #[error("no address is known for {name:?}")]
    NotFound {
        /// The name as asked.
        name: String,
    },
    /// The name is not one DNS can carry.
    #[error("{name:?} is not a valid host name")]
    BadName {
        /// The name as asked.
        name: String,
    },
    /// No nameserver gave an answer.
    #[error("no nameserver answered for {name:?} (asked {servers}): {cause}; see /etc/resolv.conf")]
    Unanswered {
        /// The name as asked.
        name: String,
        /// The nameservers asked.
        servers: String,
        /// The last failure.
        cause: String,
    },
}

pub(super) enum Outcome {
    Found(Vec<IpAddr>),
    NoSuchName,
}

/// Asks for one absolute name.
pub(super) fn ask(name: &str, conf: &ResolvConf, deadline: Option<Instant>) -> Result<Outcome, LookupError> {
    let queries = [Query::new(name, Kind::Aaaa)?, Query::new(name, Kind::A)?];
    let mut cause = "the time allowed ended".to_owned();
    for attempt in 0..conf.attempts {
        for server in &conf.nameservers {
            let Some(patience) = patience(conf.timeout * (1 << attempt.min(4)), deadline) else { break };
            match ask_server(*server, &queries, patience, conf.tcp) {
                Ok(responses) => match settle(name, &responses) {
                    Ok(outcome) => return Ok(outcome),
                    Err(code) => cause = format!("{server} answered with error code {code}"),
                },
                Err(error) => cause = format!("{server}: {error}"),
            }
        }
    }
    let servers = conf.nameservers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(LookupError::Unanswered { name: name.to_owned(), servers, cause })
}

fn patience(timeout: Duration, deadline: Option<Instant>) -> Option<Duration> {
    let left = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
    Some(left.min(timeout)).filter(|left| !left.is_zero())
}

/// Addresses of either family are enough; an error code counts only when neither family has an answer.
fn settle(name: &str, responses: &[Response]) -> Result<Outcome, u8> {
    let addresses: Vec<_> = responses.iter().flat_map(|response| response.addresses(name)).collect();
    match responses.iter().find(|response| !matches!(response.code, NO_ERROR | NAME_ERROR)) {
        _ if !addresses.is_empty() => Ok(Outcome::Found(addresses)),
        Some(response) => Err(response.code),
        None => Ok(Outcome::NoSuchName),
    }
}

struct Query<'a> {
    id: u16,
    name: &'a str,
    kind: Kind,
    bytes: Vec<u8>,
}

impl<'a> Query<'a> {
    fn new(name: &'a str, kind: Kind) -> Result<Self, LookupError> {
        let mut id = [0; 2];
        let bad = || LookupError::BadName { name: name.to_owned() };
        aws_lc_rs::rand::fill(&mut id).map_err(|_| bad())?;
        let id = u16::from_be_bytes(id);
        let bytes = message::encode_query(id, name, kind).map_err(|_| bad())?;
        Ok(Self { id, name, kind, bytes })
    }

    fn matches(&self, response: &Response) -> bool {
        response.answers(self.id, self.name, self.kind)
    }
}

fn ask_server(
    server: SocketAddr,
    queries: &[Query<'_>],
    patience: Duration,
    tcp: bool,
) -> io::Result<Vec<Response>> {
    let until = Instant::now() + patience;
    if tcp {
        return queries.iter().map(|query| over_tcp(server, query, until)).collect();
    }
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // A socket of its own for each exchange: another source port each time, and only this peer is heard.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    for query in queries {
        socket.send(&query.bytes)?;
    }
    let mut pending: Vec<_> = queries.iter().collect();
    let mut responses: Vec<Response> = Vec::new();
    let mut buffer = [0; DATAGRAM_MAX];
    while !pending.is_empty() {
        match receive(&socket, &mut buffer, until) {
            Ok(Some(response)) => {
                // What answers nothing that is open is a copy, or none of ours.
                let Some(at) = pending.iter().position(|query| query.matches(&response)) else { continue };
                let query = pending.remove(at);
                responses.push(if response.truncated { over_tcp(server, query, until)? } else { response });
            }
            Ok(None) => {}
            // One family answered: better than nothing, and some servers never answer for AAAA.
            Err(_) if responses.iter().any(|response| !response.answers.is_empty()) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(responses)
}

/// The next datagram; `None` if it is no response.
fn receive(socket: &UdpSocket, buffer: &mut [u8], until: Instant) -> io::Result<Option<Response>> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(late());
    }
    socket.set_read_timeout(Some(left))?;
    match socket.recv(buffer) {
        Ok(length) => Ok(buffer.get(..length).and_then(|bytes| message::decode_response(bytes).ok())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(late()),
        Err(error) => Err(error),
    }
}

fn over_tcp(server: SocketAddr, query: &Query<'_>, until: Instant) -> io::Result<Response> {
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&server, left())?;
    stream.set_write_timeout(Some(left()))?;
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let length = u16::try_from(query.bytes.len()).map_err(|_| invalid("query too long"))?;
    stream.write_all(&[&length.to_be_bytes()[..], &query.bytes].concat())?;
    stream.set_read_timeout(Some(left()))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    let response = message::decode_response(&answer).map_err(|error| invalid(&error.to_string()))?;
    match query.matches(&response) {
        true => Ok(response),
        false => Err(invalid("answer to another question")),
    }
}
