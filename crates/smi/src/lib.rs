//! SMI, the contract of service meshes, and the part of Gateway API that followed it.
//!
//! [`contract`] reads objects: the four SMI APIs in every version that was published, and Gateway API's routes with a Service for a
//! parent. [`compile`] turns what a cluster has of them, with its Services and pods, into one [`model`], and into what the objects'
//! authors are to be told. [`matching`] finds a request's rule, [`gate`] decides whether a peer may ask at all: both work on the model
//! alone, and are what a proxy uses. [`latency`] is how long requests took, as proxies count it and metrics tell it.
//!
//! **What it never does**: I/O. It asks no API server, opens no socket, and knows no proxy. It never guesses in favour of a caller:
//! what cannot be read of a policy allows nothing.
//!
//! Invariants: the same objects give the same model, in whatever order and however often they came
//! ([`compile::Compiler`] is checked against a compilation from nothing); what is wrong with an object stays with that object; what
//! was tolerated or left out is a [`contract::Finding`] that names the field, the value and what to do.

pub mod compile;
pub mod contract;
pub mod gate;
pub mod latency;
pub mod matching;
pub mod model;
