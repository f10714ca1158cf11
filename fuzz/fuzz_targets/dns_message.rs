//! Any bytes as a DNS response: no panic, bounded names, and addresses only of the name asked for.

use oci_image::registry::resolver::message::{Kind, decode_response, encode_query};

pub fn run(bytes: &[u8]) {
    let Ok(response) = decode_response(bytes) else { return };
    assert!(response.answers.iter().all(|record| record.owner.len() <= 254));
    assert!(response.addresses("registry.example").len() <= response.answers.len());
    if let Some((name, _)) = &response.question
        && let Ok(query) = encode_query(response.id, name, Kind::A)
    {
        assert!(query.len() <= 12 + 256 + 4);
    }
}
