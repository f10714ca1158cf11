//! Any bytes as a DHCP packet, a kept lease, or a conversation of plugin and daemon: no panic, and what is read is written
//! and read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| cni::plugin::fuzz::dhcp(bytes));
