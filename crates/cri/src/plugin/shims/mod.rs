//! The shims of pods, without a thread that waits.

use std::time::Duration;

mod connection;
mod scope;

/// How long a shim may take for what takes no time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) use scope::Scope;

pub(crate) use connection::{Connection, Error, Event, Sender, Stream};
