//! What every backend is held to, through the driver's socket: capacities under a writer, what is told to be there, data under load.
//! A backend is a row of `rows`. Needs root, and mkfs of each file system. What not every kernel has (project quotas, device mapper)
//! is passed over where it is not there: `cargo xtask vm --package csi -- quota_ thin_` has it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod capacity;
mod load;
#[path = "../driver/rig.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod rig;
mod rows;
#[path = "../thin/disk.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod thin;
mod writers;

/// Bytes that are the same nowhere else.
fn pattern(seed: u64, length: u64) -> Vec<u8> {
    (0..length / 8)
        .flat_map(|n| (n + (seed << 32) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}
