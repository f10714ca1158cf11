//! Cgroups through systemd: a container is a transient scope, asked for over D-Bus and written to by cgroupfs.
//!
//! systemd is the only writer of the cgroups above a scope; what is in it is ours (`Delegate=yes`). So that the two do
//! not undo each other's work, systemd is told the limits that it has properties for, and all of them are written to
//! the cgroup's files as well.
//!
//! **What it never does**: it runs no D-Bus library's threads and no `systemctl`, and asks as little as can be: one
//! connection, one match for the unit's own jobs, one StartTransientUnit with everything in it. A bus that many
//! containers ask at a time is the bottleneck of their start.
//!
//! Entry points: [`Unit::parse`], [`Scope::prepare`], [`update`], [`remove`]; [`Systemd`] for what is asked of it.
//! The decision for a client of our own is docs/adr/0011.

mod annotation;
mod calls;
pub mod dbus;
mod devices;
mod error;
mod properties;
mod scope;
mod unit;

pub use annotation::from_annotations;
pub use calls::Systemd;
pub use error::Error;
pub use properties::{Property, of_limits, of_unit};
pub use scope::{Scope, is_own, remove, update};
pub use unit::Unit;
