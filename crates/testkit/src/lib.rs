//! What the tests of every crate and `xtask` share: snapshots of the machine, a crash harness, virtual machines, a
//! power-cut harness.
//!
//! - [`own_namespaces`] leaves the machine's network and mounts alone.
//! - [`bare`] runs the tests of programs that cannot have the usual harness; [`receive`] takes a descriptor off a socket.
//! - [`Machine`] says which of the machine's effects to watch; [`Snapshot::diff`] what a run left behind.
//! - [`crash`] kills a command at each of its ledger steps, or at random moments, lets another recover, and compares.
//! - [`faulty`] is a server that answers as no honest one would.
//! - [`moto`] is AWS in memory, and what tests ask of it themselves.
//! - [`netns`] makes hosts of a test's own, and links between them.
//! - [`parts`] runs the tests of a program that has namespaces of its own in several processes at once.
//! - [`proxy`] stands before a cloud's server and loses what a test says.
//! - [`vm`] boots Debian's cloud kernel in QEMU, on an initramfs or a disk of our making, and reads its serial line.
//! - [`power`] cuts a guest's power at random moments and rebuilds its disk as it would really have been left.
//!
//! It forks the programs of others (`qemu-system-*`, `dpkg-deb`, `mkfs.ext4`, `python3`, ...); the product never does.
//!
//! **What it never does**: it is never part of the product, only of its tests; it never changes what it watches; it
//! never passes silently where it cannot do its work, that is an error; it never asserts how long something took.

mod alone;
pub mod bare;
pub mod crash;
mod error;
pub mod faulty;
mod machine;
pub mod moto;
pub mod netns;
mod parts;
pub mod power;
mod program;
pub mod proxy;
mod random;
mod socket;
pub mod vm;
pub mod whoami;

pub use alone::own_namespaces;
pub use error::{Error, Result};
pub use machine::{Diff, Machine, Snapshot, instance_name};
pub use parts::{PARTS, Parts, parts};
pub use program::run;
pub use random::Random;
pub use socket::receive;
