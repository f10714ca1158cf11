//! `sextant.shim.v1`: what one says to a shim, as ttrpc carries it.

mod frame;
mod messages;
mod methods;
pub mod metrics;
mod pod;
pub mod task;

pub use frame::{Frame, FrameError, HEADER_LENGTH, Kind, MAX_PAYLOAD, REMOTE_CLOSED, REMOTE_OPEN};
pub use messages::*;
pub use methods::*;
pub use pod::*;

/// The service's name on the wire.
pub const SERVICE: &str = "sextant.shim.v1.Shim";
