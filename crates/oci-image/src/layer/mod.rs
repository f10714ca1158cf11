//! Layers: from compressed bytes to a directory that overlayfs takes as a lower layer.
//!
//! [`Inflate`] turns a layer's bytes into a tar and hashes that tar as it goes; [`unpack`] writes what the tar says
//! below a directory. Neither ever leaves that directory: each component of a name is opened on its own, links are
//! resolved by us inside the layer, and `..` is refused. Whiteouts become what overlayfs wants: a character device 0/0,
//! or `trusted.overlay.opaque` on the directory.

mod clock;
mod compare;
mod directories;
mod error;
mod gzip;
mod inflate;
mod limits;
mod name;
pub mod tar;
mod times;
mod unpack;
mod write;

pub use compare::Differences;
pub use directories::remove_tree;
pub use error::{Error, Result};
pub use inflate::{Busy, Inflate};
pub use limits::{LimitExceeded, Limits};
pub use unpack::{Unpacked, unpack};
pub(crate) use {
    clock::thread_time,
    compare::{Untold, compare},
    error::hint,
    unpack::open_root,
};

#[cfg(test)]
mod tests;
