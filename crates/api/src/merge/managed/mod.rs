//! Who set which field (`metadata.managedFields`), and server-side apply.

use crate::contract::{Object, Result, Status};
use crate::schema::Schema;

/// How a manager wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

/// Who writes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// `fieldManager` of the request, or what its user agent begins with (see [`name_of`]).
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// `apps/v1`.
    pub api_version: String,
    /// `status`, `scale`, or empty.
    pub subresource: String,
    /// When: RFC 3339 in UTC with whole seconds.
    pub time: String,
}

/// Which fields a part of an object owns, as paths of field names; `*` stands for any item of a list or key of a map.
/// What is outside is never owned through this part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owned<'a> {
    /// All.
    All,
    /// All but what lies at or below these paths.
    Without(&'a [&'a [&'a str]]),
    /// Only what lies at or below these paths.
    Only(&'a [&'a [&'a str]]),
}

/// The manager's name of a request without `fieldManager`: its user agent up to the first slash, at most 128 bytes of
/// printable characters.
#[must_use]
pub fn name_of(user_agent: &str) -> String {
    user_agent.split('/').next().unwrap_or_default().to_owned()
}

/// Writes into `new` (an object as a create, update or patch leaves it, defaults included, before admission) who manages
/// which of its fields. `old` is what it was, of the same version; `None` at a create.
///
/// As in Kubernetes it never refuses: managed fields that cannot be read are begun anew.
pub fn record(
    old: Option<&Object>,
    new: &mut Object,
    schema: Schema<'_>,
    manager: &Manager,
    owned: Owned<'_>,
) {
    let _ = (old, new, schema, manager, owned);
}

/// Server-side apply: the object that comes of `config` applied to `live` (`None` at a create), with its managed fields.
///
/// # Errors
/// 400 where the configuration is malformed, 409 with a cause for each conflict unless `force`.
pub fn apply(
    live: Option<&Object>,
    config: &Object,
    schema: Schema<'_>,
    manager: &Manager,
    force: bool,
    owned: Owned<'_>,
) -> Result<Object> {
    let _ = (live, config, schema, manager, force, owned);
    Err(Status::internal("server-side apply is not there yet"))
}
