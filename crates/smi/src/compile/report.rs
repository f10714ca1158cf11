//! What the authors of objects are told.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::contract::{Finding, Id, MOST, Name};
use crate::model::{Entry, Key};

/// What there is to say about an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The object's uid.
    pub uid: String,
    /// The generation that was looked at.
    pub generation: i64,
    /// For events; in order, each once, and of very many the first.
    pub findings: Vec<Finding>,
    /// For `status.parents` of a route: one for each parent that is a Service.
    pub parents: Vec<ParentStatus>,
}

/// What is said about a route at one of its parents.
#[derive(Debug, Clone, PartialEq)]
pub struct ParentStatus {
    /// `parentRef`, as it stands in the route.
    pub reference: Value,
    /// In the order of their types.
    pub conditions: Vec<Condition>,
}

impl ParentStatus {
    /// A condition.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// A condition, without the times that whoever writes it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs` or `PartiallyInvalid`.
    pub kind: &'static str,
    /// `True` or `False`.
    pub status: bool,
    /// A reason as Gateway API has it.
    pub reason: &'static str,
    /// For people; not empty.
    pub message: String,
}

/// What came of compiling one unit.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) entries: Vec<(Key, Entry)>,
    pub(super) findings: BTreeMap<Id, Vec<Finding>>,
    /// By route and the place of the parent among the route's.
    pub(super) parents: BTreeMap<(Id, usize), ParentStatus>,
    /// Services that were looked for.
    pub(super) uses: Vec<Name>,
}

impl Made {
    /// Says something of an object, as far as it has not too much said of it already.
    pub(super) fn say(&mut self, id: &Id, finding: Finding) {
        let findings = self.findings.entry(id.clone()).or_default();
        if findings.len() < MOST {
            findings.push(finding);
        }
    }
}
