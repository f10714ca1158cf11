//! OCI images: from a reference to directories that overlayfs takes, and back.
//!
//! [`contract`] has the image-spec's documents as types; [`mod@reference`] the names people use; [`registry`] the
//! distribution-spec, called and served; [`store`] the images on this machine, an OCI layout; [`layer`] tars in and
//! out of directories; [`pull`](mod@pull) the pipeline from a source to the store; [`archive`] images as files.
//!
//! **What it never does**: it runs nothing, mounts nothing and knows no container; it never writes outside the store's
//! folder (and the archives it is asked for); it never names or records a thing before its digest is right and its
//! bytes are durable.
//!
//! Entry points: [`pull::pull`] with a [`pull::Source`], and [`store::Store`].
//!
//! Invariants: what has a digest for a name has that digest; an image that is recorded is whole; a killed process
//! leaves nothing that the next one does not use or remove; no entry of a layer, whatever its name or links, touches
//! anything outside the layer's directory.

pub mod archive;
pub mod contract;
pub mod layer;
pub mod pull;
pub mod reference;
pub mod registry;
pub mod store;
