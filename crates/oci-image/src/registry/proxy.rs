//! Which proxy a URL goes through: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, and their lower-case forms.
//!
//! Loopback is never proxied. Proxies are asked to CONNECT for plain http too.

use std::net::IpAddr;

/// The proxy variables, read once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyEnv {
    http: Option<String>,
    https: Option<String>,
    no_proxy: Vec<String>,
}

impl ProxyEnv {
    /// Reads the environment; the lower-case form wins, as in curl.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads variables from anywhere.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| {
            let value = variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
            value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let all = read("ALL_PROXY");
        let no_proxy = read("NO_PROXY").unwrap_or_default();
        Self {
            http: read("HTTP_PROXY").or_else(|| all.clone()),
            https: read("HTTPS_PROXY").or(all),
            no_proxy: no_proxy
                .split([',', ' '])
                .filter(|entry| !entry.is_empty())
                .map(str::to_ascii_lowercase)
                .collect(),
        }
    }

    /// The proxy's URL for a host, or `None` for a direct connection. `host` may be in brackets.
    pub fn proxy_for(&self, tls: bool, host: &str, port: u16) -> Option<&str> {
        let proxy = if tls { self.https.as_deref() } else { self.http.as_deref() }?;
        let host =
            host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        let loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let excepted = self.no_proxy.iter().any(|entry| excepts(entry, &host, address, port));
        (!loopback && !excepted).then_some(proxy)
    }
}

/// One entry of `NO_PROXY`: `*`, CIDR, address, name, `.suffix` or `*.suffix`, each with an optional port.
fn excepts(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return match (network.parse(), bits.parse(), address) {
            (Ok(network), Ok(bits), Some(address)) => in_network(network, bits, address),
            _ => false,
        };
    }
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    if let Ok(excepted) = bare.parse::<IpAddr>() {
        return address == Some(excepted);
    }
    let (name, excepted_port) = match entry.rsplit_once(':') {
        Some((name, text)) => (name, text.parse::<u16>().ok()),
        None => (entry, None),
    };
    if excepted_port.is_some_and(|excepted| excepted != port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(excepted) = name.parse::<IpAddr>() {
        return address == Some(excepted);
    }
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')),
        None => host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

fn in_network(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits().into(), address.to_bits().into(), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let shift: u32 = match bits {
        bits if bits > width => return false,
        bits => width - bits,
    };
    let drop = |value: u128| value.checked_shr(shift).unwrap_or(0);
    drop(network) == drop(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_entries() {
        let proxied = |no_proxy: &str, host: &str| {
            let env = ProxyEnv::from_variables(|name| match name {
                "https_proxy" => Some("http://p:1".into()),
                "NO_PROXY" => Some(no_proxy.into()),
                _ => None,
            });
            env.proxy_for(true, host, 5000).is_some()
        };
        for (no_proxy, host, expected) in [
            ("", "r.example", true),
            ("", "127.0.0.2", false),
            ("", "[::1]", false),
            ("*", "r.example", false),
            ("r.example", "R.example", false),
            ("example", "r.example", false),
            ("ample", "r.example", true),
            (".example", "example", true),
            (".example, x", "r.example", false),
            ("*.example", "r.example", false),
            ("r.example:5000", "r.example", false),
            ("r.example:80", "r.example", true),
            ("10.0.0.0/8", "10.2.3.4", false),
            ("10.0.0.0/8", "11.2.3.4", true),
            ("0.0.0.0/0", "11.2.3.4", false),
            ("::/0", "[2001:db8::1]", false),
            ("2001:db8::/32", "[2001:db9::1]", true),
            ("10.0.0.0/99", "10.0.0.1", true),
            ("10.2.3.4:5000", "10.2.3.4", false),
            ("2001:db8::1", "[2001:db8::1]", false),
        ] {
            assert_eq!(proxied(no_proxy, host), expected, "{no_proxy:?} {host}");
        }
    }

    #[test]
    fn each_scheme_has_its_own() {
        let env = ProxyEnv::from_variables(|name| match name {
            "HTTP_PROXY" => Some("http://upper:1".into()),
            "http_proxy" => Some("http://lower:1".into()),
            "ALL_PROXY" => Some("http://all:1".into()),
            _ => None,
        });
        assert_eq!(env.proxy_for(false, "r.example", 80), Some("http://lower:1"));
        assert_eq!(env.proxy_for(true, "r.example", 443), Some("http://all:1"));
    }
}
