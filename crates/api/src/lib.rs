//! The embedded Kubernetes API server of one machine: what `kubectl`, kube-rs and the controllers of the wings talk to
//! when there is no cluster.
//!
//! It never runs a pod, never decides where one runs, and opens no port that it was not told to open.
//!
//! - [`contract`]: objects, statuses, errors of fields, names, selectors, quantities. No I/O.
//! - [`schema`]: what fields a kind has, how its lists merge; [`decode`] reads bodies by it, [`openapi`] tells it.
//! - [`merge`]: the patches and server-side apply.
//! - [`resource`]: what a resource is to the server, and the rules of its kind ([`resource::Strategy`]); [`kinds`] has those
//!   that are built in, [`crd`] makes them of custom resource definitions, whose rules are written in [`cel`].
//! - [`store`]: objects over redb, with revisions and watches.
//! - [`registry`]: create, get, list, update, patch, delete and watch, for HTTP and for controllers in the process alike;
//!   [`admission`] has its say before something is kept.
//! - [`aggregation`]: groups that others serve, in this process or behind a service.
//! - [`auth`]: who asks and what they may.
//! - [`serve`](mod@serve): HTTP.
//! - [`controllers`]: what keeps the objects themselves in order (garbage, namespaces, tokens).

pub mod admission;
pub mod aggregation;
pub mod auth;
pub mod cel;
pub mod contract;
pub mod controllers;
pub mod crd;
pub mod decode;
mod dial;
pub mod kinds;
pub mod kubelet;
mod lane;
pub mod merge;
pub mod openapi;
pub mod registry;
pub mod resource;
pub mod schema;
pub mod serve;
pub mod store;
