//! Any bytes as `/etc/resolv.conf` and `/etc/hosts`: no panic, and never more servers or patience than the C library
//! would have.

use std::time::Duration;

use oci_image::registry::resolver::{ResolvConf, hosts_file};

pub fn run(bytes: &[u8]) {
    let conf = ResolvConf::parse(bytes);
    assert!((1..=3).contains(&conf.nameservers.len()), "{conf:?}");
    assert!((1..=5).contains(&conf.attempts) && conf.ndots <= 15, "{conf:?}");
    assert!((1..=30).map(Duration::from_secs).any(|timeout| timeout == conf.timeout), "{conf:?}");
    let found = hosts_file::addresses(bytes, "registry.example");
    assert_eq!(found, hosts_file::addresses(bytes, "REGISTRY.example."));
}
