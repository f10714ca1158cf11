//! Who set which field (`metadata.managedFields`), and server-side apply.
//!
//! [`record`] is for creates, updates and patches: it compares the object before and after and gives what changed to the one
//! who changed it. [`apply`] merges a configuration into an object, takes away what its manager no longer applies, and
//! refuses to change what others own.
//!
//! Managers of other versions than the one at hand are compared in this one: kinds whose versions differ in their fields
//! and not only in their name get the ownership of those fields wrong.

mod check;
mod compare;
mod conflict;
mod entries;
mod field_set;
mod last_applied;
mod path;
mod remove;
mod set;
mod structured;
mod typed;
mod update;
mod wire;

use crate::contract::{Object, Reason, Result, Status};
use crate::schema::Schema;
use entries::{Entries, Identity};
use serde_json::Value;
use typed::Type;
use update::Failure;

/// How many managers that update are kept apart; of more, the oldest become one.
const MOST_UPDATERS: usize = 10;

/// How a manager wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

impl Operation {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
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
    let mut name = String::new();
    for character in user_agent.split('/').next().unwrap_or_default().chars() {
        if character.is_control() || (character.is_whitespace() && character != ' ') {
            continue;
        }
        if name.len() + character.len_utf8() > 128 {
            break;
        }
        name.push(character);
    }
    name
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
    let mut entries = before(old, new, &manager.subresource);
    new.remove(&["metadata", "managedFields"]);
    // Of an object whose fields were never managed they begin to be with its first apply.
    if entries.is_empty() && old.is_some_and(|old| !old.uid().is_empty()) {
        return;
    }
    let old = old.map(without_managed).unwrap_or_default().into_value();
    let after = std::mem::take(new).into_value();
    let now = (&*manager.api_version, &*manager.time);
    update::update(&mut entries, Type::Of(schema), &old, &after, &Identity::of(manager), now, owned);
    cap(&mut entries);
    if let Value::Object(after) = after {
        new.0 = after;
    }
    entries::put(new, &entries);
}

/// The managed fields that a write begins with: the client's, if it sent some that can be read, else those of the object.
fn before(old: Option<&Object>, new: &Object, subresource: &str) -> Entries {
    let of_old = || old.and_then(|old| entries::of(old).ok()).unwrap_or_default();
    if !subresource.is_empty() {
        return of_old();
    }
    if entries::is_reset(new) {
        return Entries::new();
    }
    entries::of(new).ok().filter(|entries| !entries.is_empty()).unwrap_or_else(of_old)
}

fn without_managed(object: &Object) -> Object {
    let mut object = object.clone();
    object.remove(&["metadata", "managedFields"]);
    object
}

/// Makes one of the oldest managers that update, of each version, until there are few enough.
fn cap(entries: &mut Entries) {
    let mut updaters: Vec<(String, String, Identity)> = entries
        .iter()
        .filter(|(identity, _)| identity.operation == Operation::Update)
        .map(|(identity, entry)| (entry.time.clone(), identity.sorts_as(), identity.clone()))
        .collect();
    let mut count = updaters.len();
    updaters.sort();
    let mut first_of: Vec<(String, Identity)> = Vec::new();
    for (time, _, identity) in updaters {
        if count <= MOST_UPDATERS {
            return;
        }
        let Some(version) = entries.get(&identity).map(|entry| entry.api_version.clone()) else { continue };
        let Some((_, first)) = first_of.iter().find(|(of, _)| *of == version) else {
            first_of.push((version, identity));
            continue;
        };
        let bucket = Identity::new("ancient-changes", Operation::Update, &version, "");
        if !entries.contains_key(&bucket)
            && let Some(entry) = entries.remove(first)
        {
            entries.insert(bucket.clone(), entry);
        }
        if bucket == identity {
            continue;
        }
        if let (Some(merged), Some(bucket)) = (entries.remove(&identity), entries.get_mut(&bucket)) {
            bucket.set = bucket.set.union(&merged.set);
            bucket.time = time;
            count -= 1;
        }
    }
}

/// Server-side apply: the object that comes of `config` applied to `live` (`None` at a create), with its managed fields.
/// Where it changes nothing, the result is the live object, times of managed fields included.
///
/// # Errors
/// 400 where the configuration is of another kind or names managed fields, 409 with a cause for each conflict unless
/// `force`, 500 (as Kubernetes) where the configuration is not of the schema.
pub fn apply(
    live: Option<&Object>,
    config: &Object,
    schema: Schema<'_>,
    manager: &Manager,
    force: bool,
    owned: Owned<'_>,
) -> Result<Object> {
    let kind = Type::Of(schema);
    let begun = match live {
        Some(live) => {
            entries::of(live).map_err(|cause| other(&format!("failed to decode managed fields: {cause}")))?
        }
        None => Entries::new(),
    };
    checked(config, live, schema, manager)?;
    let live = live.map(without_managed).unwrap_or_else(|| empty(config));
    let apply = |force: bool| attempt(&live, begun.clone(), config, kind, manager, (force, owned));
    let applied = match apply(force) {
        Err(Failure::Conflicts(conflicts)) if manager.name == "kubectl" => {
            match last_applied::not_allowed(conflicts, &live, kind, &manager.api_version) {
                None => apply(true),
                Some(conflicts) => Err(Failure::Conflicts(conflicts)),
            }
        }
        applied => applied,
    };
    let (mut object, entries) = applied.map_err(|failure| match failure {
        Failure::Merge(cause) => other(&format!("failed to merge config: {cause}")),
        Failure::Conflicts(conflicts) => conflict::status(conflicts),
    })?;
    if manager.name == "kubectl" {
        last_applied::refresh(&mut object, config);
    }
    entries::put(&mut object, &entries);
    Ok(object)
}

fn attempt(
    live: &Object,
    mut entries: Entries,
    config: &Object,
    kind: Type<'_>,
    manager: &Manager,
    how: (bool, Owned<'_>),
) -> std::result::Result<(Object, Entries), Failure> {
    let identity = Identity::of(manager);
    let now = (&*manager.api_version, &*manager.time);
    let live_value = live.clone().into_value();
    if entries.is_empty() && !live.uid().is_empty() {
        let first = Identity::new(
            "before-first-apply",
            Operation::Update,
            &manager.api_version,
            &manager.subresource,
        );
        let nothing = empty(config).into_value();
        update::update(&mut entries, kind, &nothing, &live_value, &first, now, how.1);
    }
    let config = config.clone().into_value();
    let new = update::apply(&mut entries, kind, &live_value, &config, &identity, now, how)?;
    let object = new.and_then(Object::from_value).unwrap_or_else(|| live.clone());
    Ok((object, entries))
}

/// What a configuration is applied to where there is nothing.
fn empty(config: &Object) -> Object {
    let mut object = Object::default();
    for name in ["apiVersion", "kind"] {
        if let Some(value) = config.0.get(name) {
            object.0.insert(name.to_owned(), value.clone());
        }
    }
    object
}

fn checked(config: &Object, live: Option<&Object>, schema: Schema<'_>, manager: &Manager) -> Result<()> {
    let (group, version) = group_and_version(config.api_version());
    let named = schema.node().name.as_deref().and_then(|name| name.rsplit('.').next());
    let expected = live.map(Object::kind).filter(|kind| !kind.is_empty()).or(named);
    if config.api_version() != manager.api_version
        || expected.is_some_and(|expected| expected != config.kind())
    {
        let kind = config.kind();
        return Err(Status::bad_request(format!("invalid object type: {group}/{version}, Kind={kind}")));
    }
    if config.at(&["metadata", "managedFields"]).is_some_and(|fields| !fields.is_null()) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    check::check(Type::Of(schema), &Value::Object(config.0.clone())).map_err(|cause| {
        other(&format!(
            "failed to create typed patch object ({}/{}; {group}/{version}, Kind={}): {cause}",
            config.namespace(),
            config.name(),
            config.kind()
        ))
    })
}

fn group_and_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// What Kubernetes has no status for: 500 without a reason.
fn other(message: &str) -> Status {
    Status::new(500, Reason::Unknown, message)
}

/// Whether two objects differ in nothing but the times of their managed fields: such a write is not one, as Kubernetes has
/// it, and the object that was stays.
#[must_use]
pub fn is_same_but_for_times(one: &Object, other: &Object) -> bool {
    let timeless = |object: &Object| {
        let mut object = object.clone();
        let fields = object.0.get_mut("metadata").and_then(|metadata| metadata.get_mut("managedFields"));
        for entry in fields.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Value::Object(entry) = entry {
                entry.remove("time");
            }
        }
        object
    };
    one == other || timeless(one) == timeless(other)
}

#[cfg(test)]
mod tests;
