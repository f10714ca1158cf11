//! Any bytes as host-local's index or one of its leases: no panic, and an index that is accepted works.

pub fn run(bytes: &[u8]) {
    cni::plugin::fuzz::leases(bytes);
}
