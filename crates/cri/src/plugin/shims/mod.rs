//! The shims of pods, without a thread that waits.

mod connection;

pub(crate) use connection::{Connection, Error, Event, Sender, Stream};
