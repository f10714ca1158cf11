//! Names to addresses without `getaddrinfo`, which a static program does not have: `/etc/hosts`, then the
//! nameservers of `/etc/resolv.conf` over UDP, over TCP where the answer was cut.
//!
//! Both files are read at each lookup, so a long-running process follows changes of network. A missing
//! `resolv.conf` means a nameserver on 127.0.0.1, as the C library does.

pub mod hosts_file;
pub mod message;
mod query;
mod resolv_conf;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

pub use query::LookupError;
use query::Outcome;
pub use resolv_conf::ResolvConf;

/// Looks names up; cheap to make, safe to share.
#[derive(Debug)]
pub struct Resolver {
    hosts: PathBuf,
    servers: Servers,
    /// Which nameserver comes first, where `options rotate` asks for it.
    turn: AtomicUsize,
}

#[derive(Debug)]
enum Servers {
    File(PathBuf),
    Given(ResolvConf),
}

impl Resolver {
    /// The system's resolver: `/etc/hosts` and `/etc/resolv.conf`.
    pub fn system() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            servers: Servers::File("/etc/resolv.conf".into()),
            turn: AtomicUsize::new(0),
        }
    }

    /// A resolver with another hosts file and given nameservers.
    pub fn with(hosts: PathBuf, conf: ResolvConf) -> Self {
        Self { hosts, servers: Servers::Given(conf), turn: AtomicUsize::new(0) }
    }

    /// The addresses of `name` (a host name, or an address in text form, brackets allowed), best first.
    pub fn lookup(&self, name: &str, deadline: Option<Instant>) -> Result<Vec<IpAddr>, LookupError> {
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let known =
            std::fs::read(&self.hosts).map(|text| hosts_file::addresses(&text, name)).unwrap_or_default();
        if !known.is_empty() {
            return Ok(order(known, reachable));
        }
        if is_localhost(name) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        self.ask(name, deadline).map(|found| order(found, reachable))
    }

    fn ask(&self, name: &str, deadline: Option<Instant>) -> Result<Vec<IpAddr>, LookupError> {
        let mut conf = match &self.servers {
            Servers::Given(conf) => conf.clone(),
            Servers::File(path) => {
                std::fs::read(path).map(|text| ResolvConf::parse(&text)).unwrap_or_default()
            }
        };
        if conf.rotate && !conf.nameservers.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % conf.nameservers.len();
            conf.nameservers.rotate_left(first);
        }
        let mut failure = LookupError::NotFound { name: name.to_owned() };
        for candidate in conf.candidates(name) {
            match query::ask(&candidate, &conf, deadline) {
                Ok(Outcome::Found(addresses)) => return Ok(addresses),
                Ok(Outcome::NoSuchName) => {}
                Err(error @ LookupError::BadName { .. }) => return Err(error),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }
}

/// RFC 6761, 6.3: `localhost` and names below it are loopback wherever the hosts file does not say otherwise.
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// A UDP socket "connects" without sending anything: the kernel only looks for a route.
fn reachable(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| socket.connect((address, 9))).is_ok()
}

/// Addresses with a route first, IPv6 and IPv4 in turn (RFC 8305, 4, without the concurrency).
fn order(addresses: Vec<IpAddr>, reachable: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let (near, far): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| reachable(*address));
    let mut ordered = Vec::with_capacity(near.len() + far.len());
    for group in [near, far] {
        let (v6, v4): (Vec<_>, Vec<_>) = group.into_iter().partition(IpAddr::is_ipv6);
        let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
        loop {
            match (v6.next(), v4.next()) {
                (None, None) => break,
                (a, b) => ordered.extend(a.into_iter().chain(b)),
            }
        }
    }
    ordered
}
