//! A node's request for a certificate: taken, with a key on P-256 that its owner has signed it with, or refused.

pub fn run(bytes: &[u8]) {
    control::mesh::fuzz(bytes);
}
