//! The embedded Kubernetes API server of one machine: what `kubectl`, kube-rs and the controllers of the wings talk to
//! when there is no cluster.
//!
//! It never runs a pod, never decides where one runs, and opens no port that it was not told to open.
//!
//! - [`contract`]: objects, statuses, errors of fields, selectors, quantities. No I/O.
//! - [`schema`]: what fields a kind has, how its lists merge.
//! - [`resource`]: what a resource is to the server, and the rules of its kind ([`resource::Strategy`]).
//! - [`store`]: objects over redb, with revisions and watches.

pub mod contract;
pub mod resource;
pub mod schema;
pub mod store;
