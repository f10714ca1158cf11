//! The tables.

mod apply;
mod change;
mod create;
mod custom;
mod delete;
mod discover;
mod get;
mod node;
mod pods;
mod who;

pub(crate) use apply::STEPS as APPLY;
pub(crate) use change::STEPS as CHANGE;
pub(crate) use create::STEPS as CREATE;
pub(crate) use custom::STEPS as CUSTOM;
pub(crate) use delete::STEPS as DELETE;
pub(crate) use discover::STEPS as DISCOVER;
pub(crate) use get::STEPS as GET;
pub(crate) use node::STEPS as NODE;
pub(crate) use pods::STEPS as PODS;
pub(crate) use who::STEPS as WHO;

use super::step;
