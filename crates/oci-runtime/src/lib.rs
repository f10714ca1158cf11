//! The OCI runtime as a library: from a runtime-spec configuration to a running process, and into a running one.
//!
//! A container is planned by the parent ([`create`]): every string, descriptor and program is prepared before one
//! clone3 into the cgroup, so that the child only makes system calls, allocates nothing, and needs a few pages of
//! memory. Mounts are made detached and attached last; the host's mount table never sees them, unless the configuration
//! has no mount namespace and the caller takes that on ([`Setup::shares_mounts`]).
//!
//! **What it never does**: it keeps no state on disk (but [`command`]), starts no thread, knows no image and no network;
//! it does not reap what it did not clone; it ignores no field of the configuration: what it cannot do yet is an error
//! that names the field.
//!
//! Entry points: [`contract::parse`], [`create`], [`join`], [`command::main`]. The calling process must have one thread.
mod agent;
mod birth;
pub mod command;
pub mod contract;
mod create;
mod created;
pub mod default_spec;
mod describe;
mod error;
mod features;
pub mod hooks;
mod init;
mod netdevices;
mod outside;
mod plan;
pub mod rdt;
pub mod seccomp;
pub mod systemd;
mod timestamp;
mod unix;
pub mod users;

pub use create::{Join, Setup, begin, begin_join, create, join, limits, limits_of, null_stdio};
pub use created::{Created, start_waiting};
pub use error::{Error, Result};
pub use features::features;
pub use init::copyup::copy as copy_tree;
pub use timestamp::timestamp;
