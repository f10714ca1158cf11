//! The data path of the mesh: connections of pods are answered by the mesh's model, one request or one connection at a time.
//!
//! [`http1`] reads and writes HTTP/1.1, [`h2`] HTTP/2, [`balance`] chooses among endpoints, [`reactor`] is the loop that one thread runs, and [`proxy`] is the
//! outbound side that they make: [`proxy::Proxy`] with [`proxy::Tables`] of [`smi::model`] (docs/mesh.md). [`identity`] is who is who, and [`hbone`] what
//! members speak with each other, over [`tls`]; who comes to a pod is let in by its policies. [`capture`] leads connections of a pod, and to it, to a
//! [`node::Node`], which is that proxy for all pods of a node; over UDP it has no part, and [`datagrams`] says whose addresses a pod takes them from.
//! [`telemetry`] is what it counts.
//!
//! **What it never does**: it decides nothing about an object, asks no API server, and knows of Kubernetes what the model says. It reads
//! nothing that it need not read, and passes nothing on that two readers could take for different things. A connection without a request holds
//! no buffer. No lock is held over anything that is waited for: one thread has all of a proxy but the tables it is handed.

// Tests of the crate have helpers that those beside it use, too.
#[cfg(test)]
extern crate self as mesh;
#[cfg(test)]
#[path = "../tests/hbone/authority.rs"]
mod authority;

pub mod balance;
pub mod capture;
pub mod datagrams;
pub mod h2;
pub mod hbone;
pub mod http1;
pub mod identity;
pub mod node;
pub mod proxy;
pub mod reactor;
pub mod sources;
pub mod telemetry;
pub mod tls;
