//! Roles and bindings (`rbac.authorization.k8s.io`): what they allow, kept in memory as the store changes.
//!
//! [`Rbac::start`] reads them, follows them and decides. [`bootstrap`] makes the roles that every cluster has,
//! [`aggregate`] fills those that are made of others, [`Escalation`] lets nobody give away what he has not.

pub(crate) mod aggregate;
pub mod bootstrap;
mod escalation;
mod follow;
mod policy;
mod rule;

pub use escalation::Escalation;
pub use follow::Rbac;
pub(crate) use rule::Rule;
