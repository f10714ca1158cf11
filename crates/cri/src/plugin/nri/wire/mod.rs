//! `nri.pkg.api.v1alpha1` as it is on the wire: the connections in a connection, and the messages.
//!
//! A number or a text that may be absent is in a message of its own, as protobuf's wrappers are.

mod adjust;
mod calls;
mod container;
mod events;
mod mux;
mod pod;
mod resources;

pub use adjust::*;
pub use calls::*;
pub use container::*;
pub use events::{ContainerState, Event, Field};
pub use mux::{Chunk, ChunkError, MAX_CHUNK, PLUGIN, RUNTIME, decode, encode};
pub use pod::*;
pub use resources::*;

/// The service that plugins serve.
pub const PLUGIN_SERVICE: &str = "nri.pkg.api.v1alpha1.Plugin";
/// The service that the node serves.
pub const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";
/// The protocol is that of this release.
pub const VERSION: &str = "v0.12.1";

/// What a key means: a mark of removal before it, or not.
#[must_use]
pub fn removal(key: &str) -> Option<&str> {
    key.strip_prefix('-')
}
