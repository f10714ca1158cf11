//! Files of CDI, in JSON and YAML: read or refused, and always the same.
#![no_main]

use cri::plugin::cdi::parse;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = parse(bytes) {
        assert!(!document.version().is_empty());
        assert_eq!(parse(bytes).as_ref(), Ok(&document));
    }
});
