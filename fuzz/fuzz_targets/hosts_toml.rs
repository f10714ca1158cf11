//! Any text as a `hosts.toml`: no panic, every endpoint's URL can be sent, the registry itself comes last.

use std::path::Path;

use oci_image::registry::hosts::{Endpoint, parse};

pub fn run(text: &str) {
    let base = Endpoint::default_for("registry.example", false);
    let Ok(endpoints) = parse(text, Path::new("/etc/certs.d/registry.example/hosts.toml"), base) else {
        return;
    };
    assert!(endpoints.last().is_some_and(|last| !last.mirror));
    for endpoint in endpoints {
        let url = endpoint.url();
        assert!(
            url.starts_with("http") && !url.contains([' ', '?', '#']) && !endpoint.authority.contains('@'),
            "{url}"
        );
        assert!(endpoint.dial_timeout.is_none_or(|timeout| !timeout.is_zero()));
    }
}
