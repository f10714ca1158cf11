//! One pod: what it is to become, and how it gets there.

mod admission;
pub(crate) mod backoff;
pub(crate) mod containers;
pub(crate) mod ending;
pub(crate) mod env;
pub(crate) mod fields;
pub(crate) mod fit;
mod health;
pub(crate) mod hooks;
mod image_name;
pub(crate) mod images;
pub(crate) mod memory;
pub(crate) mod plan;
pub(crate) mod probes;
pub(crate) mod resize;
pub(crate) mod resources;
pub(crate) mod sandbox;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod sync;
mod told;
pub(crate) mod users;
pub(crate) mod words;
