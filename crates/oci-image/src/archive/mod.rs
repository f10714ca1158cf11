//! Images as files: OCI layouts (a folder or a tar) and docker archives (`docker save`), in and out; and images made on
//! the spot from parts.
//!
//! Everything that comes in goes through [`crate::pull`], so it is verified and unpacked like what comes from a registry.

mod build;
mod docker;
mod error;
mod export;
mod import;
mod place;
mod tarball;

pub use build::{Content, Part, build};
pub use error::{Error, Result};
pub use export::{Format, export, export_folder};
pub use import::{Input, contents, import};

#[cfg(test)]
mod tests;
