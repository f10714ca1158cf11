//! Small notations within strings: addresses, sets of CPUs, page sizes, names of files and hosts.

use std::net::IpAddr;

use oci_runtime::contract::NamespaceType;

/// ADDRESS/BITS.
pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let (Ok(address), Some(bits)) = (address.parse(), decimal(bits)) else { return false };
    bits <= if matches!(address, IpAddr::V4(_)) { 32 } else { 128 }
}

/// An address; a link-local IPv6 one may name its interface.
pub(super) fn is_address(text: &str) -> bool {
    match text.split_once('%') {
        Some((address, zone)) => {
            let zoned = zone.bytes().all(|c| c.is_ascii_graphic() && !b"%/".contains(&c));
            zoned && !zone.is_empty() && address.parse::<std::net::Ipv6Addr>().is_ok()
        }
        None => text.parse::<IpAddr>().is_ok(),
    }
}

/// Numbers and ranges with commas between, as in `0-3,7`.
pub(super) fn is_cpuset(text: &str) -> bool {
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => {
            matches!((decimal(first), decimal(last)), (Some(first), Some(last)) if first <= last)
        }
        None => decimal(part).is_some(),
    })
}

/// Digits alone, at most 65535: no sign, no white space.
fn decimal(text: &str) -> Option<u16> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

/// `64KB`, `2MB`, `1GB`.
pub(super) fn is_page_size(text: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    number.and_then(decimal).is_some_and(|number| number > 0)
}

/// The file of a cgroup's controller, as in `memory.high`.
pub(super) fn is_cgroup_file(text: &str) -> bool {
    let names = text.split('.').all(|part| {
        !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c))
    });
    names && text.contains('.') && text.len() <= 255
}

/// A host name: DNS labels, at most the kernel's 64 bytes in all.
pub(super) fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c))
    };
    text.len() <= 64 && text.split('.').all(label)
}

/// What of the machine a sysctl belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Network,
    Ipc,
    /// The kernel keeps one for all, a pod has another way to it (its name, its users), or it is no name at all.
    Host,
}

/// The scope of a sysctl, written with `.` or `/`.
pub(super) fn sysctl_scope(name: &str) -> Scope {
    if name.len() > 253 || !name.bytes().all(|c| c.is_ascii_graphic()) {
        return Scope::Host;
    }
    match oci_runtime::contract::sysctl_scope(name) {
        Some(NamespaceType::Network) => Scope::Network,
        Some(NamespaceType::Ipc) => Scope::Ipc,
        _ => Scope::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(is: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(is(text), "{text:?} is good");
        }
        for text in bad {
            assert!(!is(text), "{text:?} is bad");
        }
    }

    #[test]
    fn networks_and_addresses() {
        all(
            is_cidr,
            &["10.0.0.0/8", "fd00::/64", "0.0.0.0/0"],
            &["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "a/8"],
        );
        all(
            is_address,
            &["1.2.3.4", "::1", "fe80::1%eth0"],
            &["", "1.2.3", "1.2.3.4%eth0", "::1%", "::1%a b", "h"],
        );
    }

    #[test]
    fn sets_of_cpus_and_page_sizes() {
        all(
            is_cpuset,
            &["0", "0-3", "0-1,4,6-7"],
            &["", ",", "1-", "-1", "3-1", "a", "0 ", "+1", "65536", "1-2-3"],
        );
        all(is_page_size, &["2MB", "1GB", "64KB"], &["", "MB", "0MB", "2", "2M", "2mb", "-2MB", "2 MB"]);
    }

    #[test]
    fn names_of_files_and_hosts() {
        all(
            is_cgroup_file,
            &["memory.high", "hugetlb.2MB.max"],
            &["", "memory", "a..b", "../a.b", "a.b/c", "a.b\n"],
        );
        all(is_hostname, &["a", "a-b.c", "Node_1"], &["", "-a", "a-", "a..b", "a b", "a\n", "ä"]);
        assert!(is_hostname(&"a".repeat(64)) && !is_hostname(&"a".repeat(65)));
    }

    #[test]
    fn sysctls_belong_to_a_namespace_or_to_the_host() {
        for name in
            ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.100/forwarding", "net.ipv4.conf.eth0/1.forwarding"]
        {
            assert_eq!(sysctl_scope(name), Scope::Network, "{name}");
        }
        for name in [
            "kernel.shm_rmid_forced",
            "kernel.sem",
            "fs.mqueue.msg_max",
            "kernel/msgmax",
            "kernel.msg_next_id",
        ] {
            assert_eq!(sysctl_scope(name), Scope::Ipc, "{name}");
        }
        for name in [
            "",
            "vm.swappiness",
            "kernel.hostname",
            "net/../kernel/panic",
            "net..x",
            "net.a\nb",
            "kernel.shmoo",
        ] {
            assert_eq!(sysctl_scope(name), Scope::Host, "{name}");
        }
    }
}
