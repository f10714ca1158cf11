//! Others that are asked.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_proto::op::{Message, Query, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use super::Outcome;
use super::reply::edns;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// A server that has not answered comes after the others for so long, is waited for less, and is asked once.
const SILENT: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(1000);
/// Servers of a resolv.conf that are used, as resolvers do.
const SERVERS: usize = 3;
const PORT: u16 = 53;

/// Who is asked.
#[derive(Debug, Clone)]
pub enum Source {
    /// These.
    Servers(Vec<SocketAddr>),
    /// Those that a resolv.conf names, at each moment.
    File(PathBuf),
}

/// Servers that are asked one after the other.
#[derive(Debug)]
pub struct Upstream {
    source: Source,
    /// Where we answer ourselves: whoever asks himself asks for ever.
    own: Vec<SocketAddr>,
    read: Mutex<(Option<SystemTime>, Vec<SocketAddr>)>,
    /// Since when servers have not answered: without a way to them, names that are nowhere would take all of the asker's patience.
    silent: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Upstream {
    /// Those of `source` without those at `own` addresses.
    pub fn new(source: Source, own: Vec<SocketAddr>) -> Self {
        Self { source, own, read: Mutex::default(), silent: Mutex::default() }
    }

    /// What the first says that says anything.
    pub(super) async fn ask(&self, query: Query, dnssec: bool) -> Option<Outcome> {
        let mut servers = self.servers();
        servers.sort_by_key(|server| self.is_silent(server));
        let mut refused = None;
        for round in 0..ROUNDS {
            for server in &servers {
                let is_silent = self.is_silent(server);
                if is_silent && round > 0 {
                    continue;
                }
                let patience = if is_silent { SHORT } else { PATIENCE };
                let asked = timeout(patience, exchange(*server, &query, dnssec)).await;
                self.note(server, asked.is_err());
                // Where one is not well, the next one may be.
                let Ok(Ok(message)) = asked else { continue };
                match outcome(message) {
                    found if is_an_answer(&found) => return Some(found),
                    found => refused = Some(found),
                }
            }
            if refused.is_some() {
                break;
            }
        }
        refused
    }

    fn is_silent(&self, server: &SocketAddr) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.get(server).is_some_and(|since| since.elapsed() < SILENT)
    }

    fn note(&self, server: &SocketAddr, is_silent: bool) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of resolv.confs that have changed go.
        silent.retain(|_, since| since.elapsed() < SILENT);
        if is_silent {
            silent.entry(*server).or_insert_with(Instant::now);
        } else {
            silent.remove(server);
        }
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let path = match &self.source {
            Source::Servers(servers) => return self.others(servers.iter().copied()).collect(),
            Source::File(path) => path,
        };
        let changed = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.is_none() || read.0 != changed {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            *read = (changed, self.named(&text));
        }
        read.1.clone()
    }

    fn named(&self, text: &str) -> Vec<SocketAddr> {
        let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
        let words =
            lines.filter(|rest| rest.starts_with([' ', '\t'])).filter_map(|r| r.split_whitespace().next());
        let servers = words.filter_map(|word| Some(SocketAddr::new(word.parse().ok()?, PORT)));
        self.others(servers).take(SERVERS).collect()
    }

    fn others(&self, servers: impl Iterator<Item = SocketAddr>) -> impl Iterator<Item = SocketAddr> {
        servers.filter(|server| !self.own.contains(server))
    }
}

/// Another server may know better than one that failed, or does not want to.
fn is_an_answer(outcome: &Outcome) -> bool {
    matches!(outcome.code, ResponseCode::NoError | ResponseCode::NXDomain)
}

fn outcome(message: Message) -> Outcome {
    Outcome {
        code: message.metadata.response_code,
        answers: message.answers,
        authorities: message.authorities,
        additionals: message.additionals,
        authoritative: false,
    }
}

/// By datagram, and by a stream where that says that it is not all. Each from a port of its own, so that nobody guesses it.
async fn exchange(server: SocketAddr, query: &Query, dnssec: bool) -> io::Result<Message> {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.queries.push(query.clone());
    request.set_edns(edns(dnssec));
    let bytes = request.to_vec().map_err(io::Error::other)?;
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let answer = loop {
        let length = socket.recv(&mut buffer).await?;
        // Whatever else comes is of somebody who tries to be the server.
        if let Some(answer) = answer_to(&request, buffer.get(..length).unwrap_or_default()) {
            break answer;
        }
    };
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    let room = buffer.get_mut(..length).unwrap_or_default();
    stream.read_exact(room).await?;
    answer_to(&request, room).ok_or_else(|| io::Error::other("it answers something else"))
}

fn answer_to(request: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let is = answer.metadata.id == request.metadata.id
        && answer.metadata.message_type == hickory_proto::op::MessageType::Response
        && answer.queries == request.queries;
    is.then_some(answer)
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;

    use super::*;

    /// Time goes by itself while nothing else can be done.
    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_waited_for_less_and_asked_last() {
        let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let deaf_at = deaf.local_addr().unwrap();
        let query = Query::query("nowhere.example.".parse().unwrap(), RecordType::A);
        let upstream = Upstream::new(Source::Servers(vec![deaf_at]), Vec::new());
        let asked = async |upstream: &Upstream| {
            let began = Instant::now();
            (upstream.ask(query.clone(), false).await.is_some(), began.elapsed())
        };
        let (found, took) = asked(&upstream).await;
        assert!(!found && took >= PATIENCE && took < 2 * PATIENCE, "{took:?}");
        let (found, took) = asked(&upstream).await;
        assert!(!found && took >= SHORT && took < PATIENCE, "{took:?}");
        tokio::time::advance(SILENT).await;
        let (_, took) = asked(&upstream).await;
        assert!(took >= PATIENCE, "{took:?}");

        tokio::time::resume();
        deaf.set_nonblocking(true).unwrap();
        let heard = || std::iter::from_fn(|| deaf.recv(&mut [0; 512]).ok()).count();
        assert_eq!(heard(), 3);
        let hears = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let both = vec![deaf_at, hears.local_addr().unwrap()];
        let upstream = Upstream::new(Source::Servers(both), Vec::new());
        upstream.note(&deaf_at, true);
        let answering = async {
            let mut buffer = [0; 512];
            let (length, from) = hears.recv_from(&mut buffer).await.unwrap();
            let mut answer = Message::from_vec(&buffer[..length]).unwrap();
            answer.metadata.message_type = hickory_proto::op::MessageType::Response;
            hears.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        };
        let (found, ()) = tokio::join!(upstream.ask(query.clone(), false), answering);
        assert_eq!((found.is_some(), heard()), (true, 0));
    }

    #[test]
    fn servers_of_a_resolv_conf_without_ourselves() {
        let own: Vec<SocketAddr> = vec!["10.96.0.10:53".parse().unwrap(), "192.0.2.2:5353".parse().unwrap()];
        let upstream = Upstream::new(Source::File("/nowhere".into()), own.clone());
        let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 10.96.0.10\n nameserver\t192.0.2.1 # first\n\
                    nameserver fd00::1\nnameservers 8.8.8.8\nnameserver x\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let named: Vec<String> = upstream.named(text).iter().map(ToString::to_string).collect();
        assert_eq!(named, ["192.0.2.1:53", "[fd00::1]:53", "192.0.2.2:53"]);
        assert_eq!(upstream.servers(), []);
        let other: SocketAddr = "10.96.0.10:54".parse().unwrap();
        let given = Source::Servers([own.as_slice(), &[other]].concat());
        assert_eq!(Upstream::new(given, own).servers(), [other]);
    }
}
