//! The files about names that a pod's containers see: `hosts`, `hostname`, `resolv.conf`.

use std::fs;
use std::path::Path;

use super::Record;
use crate::contract::Error;
use crate::contract::v1::{DnsConfig, PodSandboxConfig};
use crate::plugin::files;

/// What the pod's hostname is: its own, or the node's.
pub(crate) fn hostname(config: &PodSandboxConfig) -> String {
    if config.hostname.is_empty() || super::network::is_host(config) {
        return rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    config.hostname.clone()
}

/// Writes the files into the pod's run directory.
pub(super) fn write(dir: &Path, record: &Record, host_network: bool) -> Result<(), Error> {
    let hostname = hostname(&record.config);
    // A kubelet mounts a file of its own over this one.
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    if host_network {
        hosts = fs::read_to_string("/etc/hosts").unwrap_or(hosts);
    }
    for address in &record.addresses {
        hosts += &format!("{address}\t{hostname}\n");
    }
    let resolv = match &record.config.dns_config {
        Some(dns) if !is_empty(dns) => resolv_conf(dns),
        _ => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    for (name, text) in [("hosts", hosts), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolv)] {
        files::write(&dir.join(name), text.as_bytes(), 0o644)?;
    }
    Ok(())
}

fn is_empty(dns: &DnsConfig) -> bool {
    dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty()
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text
}

/// A quantity of Kubernetes (`10M`, `1Gi`, `1500k`), as a whole number. `None` if it is none.
pub(super) fn quantity(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "P" => 1_000_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let scale = 10_u64.checked_pow(fraction.len().try_into().ok()?)?;
    whole.checked_add(fraction.parse::<u64>().ok()?.checked_mul(factor)? / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        let given = ["10M", "1Gi", "1500k", "7", "1.5M", "", "M", "1X", "99999999999999999999", "-1"];
        let read = given.map(quantity);
        let want = [
            Some(10_000_000),
            Some(1 << 30),
            Some(1_500_000),
            Some(7),
            Some(1_500_000),
            None,
            None,
            None,
            None,
            None,
        ];
        assert_eq!(read, want);
    }

    #[test]
    fn resolv_conf_has_what_was_asked_for() {
        let dns = DnsConfig {
            servers: vec!["10.96.0.10".into(), "1.1.1.1".into()],
            searches: vec!["default.svc.cluster.local".into(), "svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        assert_eq!(
            resolv_conf(&dns),
            "search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\nnameserver 1.1.1.1\n\
             options ndots:5\n"
        );
    }
}
