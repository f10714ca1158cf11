//! A small blocking D-Bus client: what starting and stopping units takes, and no more.
//!
//! It connects to a unix socket, marshals calls, and reads replies and signals. It offers no objects, passes no
//! descriptors, and talks to no bus on another machine. What it reads is outside bytes: a message is taken whole and
//! valid by the specification, or not at all; the target `dbus_message` of `fuzz/` sees to it.
//!
//! The wire is that of the [D-Bus specification](https://dbus.freedesktop.org/doc/dbus-specification.html), version
//! 0.43, sections "Type System" to "Authentication Protocol".

mod address;
mod connection;
mod message;
mod read;
mod value;
mod write;

pub use address::{Socket, parse_address};
pub use connection::{Connection, Failure};
pub use message::{Kind, MAX_MESSAGE, Message};
pub use value::{Type, Value};

/// Bytes that are no D-Bus message, or a value that none can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed D-Bus message: {0}")]
pub struct Malformed(pub &'static str);
