//! Manifests, indexes, configurations, digests and platforms.

use oci_image::contract::{
    Digest, Document, Platform, parse_config, parse_document, parse_index, parse_manifest,
};

pub fn run(data: &[u8]) {
    if let Ok(Document::Index(index)) = parse_document(data, None) {
        let _ = index.choose(&Platform::host());
    }
    let _ = parse_index(data);
    let _ = parse_manifest(data);
    if let Ok(config) = parse_config(data) {
        let again = serde_json::to_vec(&config).expect("what was parsed is written");
        assert_eq!(parse_config(&again).expect("what was written is parsed"), config);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(digest) = text.parse::<Digest>() {
            assert_eq!(digest.to_string(), text);
        }
        let _ = text.parse::<Platform>();
    }
}
