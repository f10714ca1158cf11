//! The kernel, as the rest of Sextant sees it: typed, safe calls for what rustix lacks or what needs a policy.
//!
//! This is the only crate with `unsafe`, and every block argues why it is sound. It forks no helper program
//! (`ip`, `nft`, `mount`, `losetup`): links, rules, mounts and devices are asked of the kernel itself.
//!
//! **What it never does**: it knows no pod, container or image; it keeps no state between calls; it does not
//! record what it did (that is the ledger's job) and does not retry what the kernel refused.
//!
//! Entry points: [`mount`], [`namespace`], [`process`], [`cgroup`], [`netlink`], [`nft`]. Errors are one type,
//! [`Error`], that says what was attempted on what.
#![allow(unsafe_code, reason = "the one crate that talks to the kernel below rustix")]

pub mod allocation;
pub mod arch;
pub mod btrfs;
pub mod cache;
pub mod capability;
pub mod cgroup;
pub mod command;
pub mod discard;
pub mod dm;
mod error;
pub mod extents;
pub mod freeze;
pub mod fscrypt;
pub mod grow;
pub mod keyring;
pub mod loopdev;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod packet;
pub mod path;
pub mod process;
pub mod quota;
pub mod reflink;
pub mod schedule;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod start;
pub mod tc;
pub mod tree;
pub mod tun;
pub mod xtables;

pub use error::{Act, Error, Result};
