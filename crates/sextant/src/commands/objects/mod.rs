//! Commands about objects of a Kubernetes API server, for machines without kubectl: `get`, `apply`, `delete`, `describe`, `rollout`,
//! `scale`, `wait --for`.

mod apply;
mod awaited;
mod delete;
mod describe;
mod get;
mod revisions;
mod rollout;
mod rows;
mod scale;

pub(crate) use apply::{run as apply, tell as told};
pub(crate) use awaited::run as wait;
pub(crate) use delete::run as delete;
pub(crate) use describe::{events, last_seen, run as describe};
pub(crate) use get::run as get;
pub(crate) use rollout::run as rollout;
pub(crate) use scale::run as scale;

use crate::cli::Selected;
use crate::failure::{Failure, Result};
use crate::objects::{Kinds, Named, named};

/// What is named, unless it is to be selected otherwise at the same time: half of what was typed would be left aside.
fn wanted(kinds: &Kinds, words: &[String], of: &Selected, fields: &str) -> Result<Vec<Named>> {
    let all = named(kinds, words)?;
    for one in &all {
        let Some(name) = &one.name else { continue };
        if of.all_namespaces && one.kind.is_namespaced {
            let title = one.kind.of(name);
            return Err(Failure::new(format!(
                "cannot look for {title} in all namespaces: give -n NAMESPACE, or leave the name out"
            )));
        }
        if !of.selector.is_empty() || !fields.is_empty() {
            return Err(Failure::new(
                "cannot look for names and for labels or fields at once: leave one of them out",
            ));
        }
    }
    Ok(all)
}

/// All that went wrong, if something did.
fn ended(failures: Vec<Failure>) -> Result<()> {
    if failures.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    Err(Failure::new(texts.join("\nsextant: ")))
}
