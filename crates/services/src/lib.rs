//! Services and DNS of a node: nftables maps in place of kube-proxy, names in place of CoreDNS.
//!
//! A [`world`] holds what is known of Services and their endpoints, from the caches of an API server. A [`plan`] says what of a
//! Service is to be reached where: no more than a function. The [`plane`] makes it true in the kernel: one nftables table, in which a
//! change touches elements of maps and little else. [`dns`] answers for the names in it, and asks others for the rest. [`run`] is all of
//! it beside an API server. [`balancers`] says which addresses of load balancers nodes have to answer for; others do that, and [`refused`] refuses what no
//! Service has there.
//!
//! It never: looks at a packet of a connection itself, runs a program, or touches a table of others.
//!
//! Invariants: a change is one transaction; a packet that is on its way meanwhile may find half of it, and is dropped then, never let
//! through. What a Service's change costs does not depend on how many other Services there are, but for what is announced ([`balancers`]). The kernel keeps the table when the
//! process ends; the next one makes the difference.

pub mod balancers;
pub mod dns;
pub mod effects;
pub mod health;
pub mod plan;
pub mod plane;
pub mod refused;
pub mod run;
mod table;
pub mod world;
