//! Files of CDI, in JSON and YAML: read or refused, and always the same.

use cri::plugin::cdi::parse;

pub fn run(bytes: &[u8]) {
    if let Ok(document) = parse(bytes) {
        assert!(!document.version().is_empty());
        assert_eq!(parse(bytes).as_ref(), Ok(&document));
    }
}
