//! Who is asked once more: where a webhook changed the object, those that had seen it before and wish to, and everybody of
//! the server itself. Once more, and not until nothing changes: two that disagree would never end.

use crate::contract::Object;
use std::collections::BTreeSet;

/// What is known of a request's rounds.
#[derive(Default)]
pub(crate) struct Reinvocation {
    second: bool,
    asked_for: bool,
    seen: BTreeSet<String>,
    required: BTreeSet<String>,
    left: Option<Object>,
}

impl Reinvocation {
    /// Whether this is the second round.
    pub(super) fn is_second(&self) -> bool {
        self.second
    }

    /// A second round is needed.
    pub(super) fn ask(&mut self) {
        self.asked_for = true;
    }

    /// Begins the second round, if it is needed.
    pub(super) fn begin(&mut self) -> bool {
        let begins = self.asked_for && !self.second;
        self.second |= begins;
        begins
    }

    /// A webhook that wishes to be asked again has seen the object.
    pub(super) fn has_seen(&mut self, key: String) {
        self.seen.insert(key);
    }

    /// Those that have seen an object that is another now have to be asked again.
    pub(super) fn require_those_before(&mut self) {
        self.required.append(&mut self.seen);
    }

    pub(super) fn is_required(&self, key: &str) -> bool {
        self.required.contains(key)
    }

    /// The object as the webhooks left it.
    pub(super) fn leave(&mut self, object: Option<&Object>) {
        if self.asked_for {
            self.left = object.cloned();
        }
    }

    /// Whether it is another than they left.
    pub(super) fn has_changed(&self, object: Option<&Object>) -> bool {
        self.left.as_ref() != object
    }
}
