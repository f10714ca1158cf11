//! Any text as a `WWW-Authenticate` header: no panic, and schemes and names are tokens in lower case.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_image::registry::client::parse_challenges;

fuzz_target!(|header: &str| {
    for challenge in parse_challenges(header) {
        assert!(!challenge.scheme.is_empty() && !challenge.scheme.contains([' ', ',', '=', '"']));
        assert!(challenge.parameters.keys().all(|name| *name == name.to_ascii_lowercase()));
    }
});
