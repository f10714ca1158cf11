//! Any bytes as a DHCP packet, a kept lease, or a conversation of plugin and daemon: no panic, and what is read is written
//! and read the same.

pub fn run(bytes: &[u8]) {
    cni::plugin::fuzz::dhcp(bytes);
}
