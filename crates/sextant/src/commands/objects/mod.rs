//! Commands about objects of a Kubernetes API server, for machines without kubectl: `get`, `apply`, `delete`, `describe`, `rollout`,
//! `wait --for`.

mod apply;
mod awaited;
mod delete;
mod describe;
mod get;
mod rollout;
mod rows;

pub(crate) use apply::{run as apply, tell as told};
pub(crate) use awaited::run as wait;
pub(crate) use delete::run as delete;
pub(crate) use describe::{events, run as describe};
pub(crate) use get::run as get;
pub(crate) use rollout::run as rollout;

use crate::failure::{Failure, Result};

/// All that went wrong, if something did.
fn ended(failures: Vec<Failure>) -> Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::new(texts.join("\nsextant: ")))
}
