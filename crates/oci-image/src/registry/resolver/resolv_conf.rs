//! `/etc/resolv.conf` (resolv.conf(5)).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

const DNS_PORT: u16 = 53;
/// The C library's limits: MAXNS, RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY.
const NAMESERVERS_MAX: usize = 3;
const NDOTS_MAX: usize = 15;
const TIMEOUT_MAX: u64 = 30;
const ATTEMPTS_MAX: u32 = 5;

/// Which nameservers to ask, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// At most three, in order.
    pub nameservers: Vec<SocketAddr>,
    /// Domains to try a name in.
    pub search: Vec<String>,
    /// A name with at least this many dots is tried as it stands first.
    pub ndots: usize,
    /// How long one nameserver has for its answer.
    pub timeout: Duration,
    /// How often the list of nameservers is gone through.
    pub attempts: u32,
    /// Begin with another nameserver each time.
    pub rotate: bool,
    /// TCP from the beginning (`use-vc`).
    pub tcp: bool,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self {
            nameservers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            tcp: false,
        }
    }
}

impl ResolvConf {
    /// Reads the file's text; what cannot be understood is skipped, as the C library does.
    pub fn parse(text: &[u8]) -> Self {
        let mut conf = Self::default();
        let mut nameservers = Vec::new();
        for line in String::from_utf8_lossy(text).lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => nameservers.extend(words.next().and_then(nameserver)),
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("domain") => conf.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| conf.set(option)),
                _ => {}
            }
        }
        nameservers.truncate(NAMESERVERS_MAX);
        if !nameservers.is_empty() {
            conf.nameservers = nameservers;
        }
        conf
    }

    fn set(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        match (name, value.parse::<u64>()) {
            ("ndots", Ok(n)) => self.ndots = usize::try_from(n).unwrap_or(NDOTS_MAX).min(NDOTS_MAX),
            ("timeout", Ok(n)) => self.timeout = Duration::from_secs(n.clamp(1, TIMEOUT_MAX)),
            ("attempts", Ok(n)) => {
                self.attempts = u32::try_from(n).unwrap_or(ATTEMPTS_MAX).clamp(1, ATTEMPTS_MAX)
            }
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.tcp = true,
            _ => {}
        }
    }

    /// The absolute names to ask for, in order.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched =
            self.search.iter().map(|domain| domain.trim_matches('.')).filter(|domain| !domain.is_empty());
        let mut names: Vec<_> = searched.map(|domain| format!("{name}.{domain}")).collect();
        let dots = name.bytes().filter(|b| *b == b'.').count();
        let at = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(at, name.to_owned());
        names
    }
}

/// An address, with an interface after `%` where it is link-local.
fn nameserver(word: &str) -> Option<SocketAddr> {
    let (address, interface) = match word.split_once('%') {
        Some((address, interface)) => (address, Some(interface)),
        None => (word, None),
    };
    match (address.parse().ok()?, interface) {
        (IpAddr::V6(v6), Some(interface)) => {
            Some(SocketAddrV6::new(v6, DNS_PORT, 0, scope(interface)?).into())
        }
        (address, _) => Some(SocketAddr::new(address, DNS_PORT)),
    }
}

fn scope(interface: &str) -> Option<u32> {
    interface.parse().ok().or_else(|| {
        let index =
            std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", interface.replace('/', ""))).ok()?;
        index.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_everything_it_uses() {
        let conf = ResolvConf::parse(
            b"# c\nnameserver 10.0.0.1 # x\nnameserver fd00::1\nnameserver fe80::1%1\nnameserver 4.4.4.4\nnameserver junk\n\
              domain old.example\nsearch a.example b.example.\noptions ndots:2 timeout:99 attempts:0 rotate use-vc edns0\n",
        );
        let shown: Vec<_> = conf.nameservers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:53", "[fd00::1]:53", "[fe80::1%1]:53"]);
        assert_eq!(conf.search, ["a.example", "b.example."]);
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (2, Duration::from_secs(30), 1));
        assert!(conf.rotate && conf.tcp);
        assert_eq!(conf.candidates("x"), ["x.a.example", "x.b.example", "x"]);
        assert_eq!(conf.candidates("x.y.z"), ["x.y.z", "x.y.z.a.example", "x.y.z.b.example"]);
        assert_eq!(conf.candidates("x."), ["x"]);
    }

    #[test]
    fn nothing_means_loopback() {
        assert_eq!(ResolvConf::parse(b"").nameservers, ["127.0.0.1:53".parse().unwrap()]);
    }
}
