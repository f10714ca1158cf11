//! What is written down of a request when it is over: its line in the audit log and what is counted. Whoever sees its end
//! does it, and it is done once: a change goes on when its client has gone, and has its line all the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::answer::Response;
use super::api::Api;
use super::metrics::Kind;
use crate::auth::Attributes;
use crate::auth::audit::Record;
use crate::registry::Notes;

/// A request until it is over.
pub(super) struct Outcome {
    api: Arc<Api>,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is to be written; nothing once it has been.
    record: Option<Record>,
    attributes: Option<Attributes>,
    kind: Option<Kind>,
    /// Whether a task carries it to its end, whoever waits for it.
    is_carried: bool,
    is_over: bool,
}

impl Outcome {
    pub(super) fn new(api: &Arc<Api>, record: Option<Record>) -> Arc<Outcome> {
        let state = State { record, ..State::default() };
        Arc::new(Outcome { api: Arc::clone(api), began: Instant::now(), state: Mutex::new(state) })
    }

    /// More is known.
    pub(super) fn learn(&self, change: impl FnOnce(Record) -> Record) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.record = state.record.take().map(change);
    }

    /// What it is about.
    pub(super) fn is_about(&self, attributes: Attributes, kind: Kind) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.attributes, state.kind) = (Some(attributes), Some(kind));
    }

    /// A task carries it on from now.
    pub(super) fn is_carried(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_carried = true;
    }

    /// It has this answer.
    pub(super) fn answered(&self, response: &Response) {
        if let Some(notes) = response.extensions().get::<Notes>() {
            self.learn(|record| record.noted(notes.all()));
        }
        self.over(Some(response.status().as_u16()));
    }

    /// It is over; with the code of its answer if it has one.
    pub(super) fn over(&self, code: Option<u16>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.is_over, true) {
            return;
        }
        if let (Some(kind), Some(code)) = (state.kind.take(), code) {
            self.api.metrics.answered(kind, code, self.began.elapsed());
        }
        if let (Some(audit), Some(record)) = (&self.api.audit, state.record.take()) {
            audit.write(record.event(state.attributes.as_ref(), code));
        }
    }
}

/// Who waits for the answer. Gone before it has one, it is over unless a task carries it on.
pub(super) struct Waiting(pub(super) Arc<Outcome>);

impl Drop for Waiting {
    fn drop(&mut self) {
        let is_carried = self.0.state.lock().unwrap_or_else(PoisonError::into_inner).is_carried;
        if !is_carried {
            self.0.over(None);
        }
    }
}
