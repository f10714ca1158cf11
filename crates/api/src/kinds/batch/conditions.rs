//! The conditions of a Job.

use crate::contract::Object;
use crate::kinds::base::Fields;
use crate::kinds::base::table;

/// Whether a condition is `True`.
pub(super) fn is(object: &Object, kind: &str) -> bool {
    has_status(object, kind, "True")
}

/// Whether a condition is there and `False`.
pub(super) fn is_not(object: &Object, kind: &str) -> bool {
    has_status(object, kind, "False")
}

/// Whether the Job has come to an end.
pub(super) fn is_finished(object: &Object) -> bool {
    is(object, "Complete") || is(object, "Failed")
}

fn has_status(object: &Object, kind: &str, status: &str) -> bool {
    table::condition(object, kind).is_some_and(|condition| condition.text("status") == status)
}
