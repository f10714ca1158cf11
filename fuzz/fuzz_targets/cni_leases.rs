//! Any bytes as host-local's index or one of its leases: no panic, and an index that is accepted works.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| cni::plugin::fuzz::leases(bytes));
