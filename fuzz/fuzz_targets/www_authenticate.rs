//! Any text as a `WWW-Authenticate` header: no panic, and schemes and names are tokens in lower case.

use oci_image::registry::client::parse_challenges;

pub fn run(header: &str) {
    for challenge in parse_challenges(header) {
        assert!(!challenge.scheme.is_empty() && !challenge.scheme.contains([' ', ',', '=', '"']));
        assert!(challenge.parameters.keys().all(|name| *name == name.to_ascii_lowercase()));
    }
}
