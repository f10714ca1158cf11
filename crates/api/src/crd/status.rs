//! The status of a definition: which names it got, whether it is served, in which versions objects may be kept.

use crate::contract::Object;
use crate::contract::field::quoted;
use crate::kinds::base::Fields;
use crate::registry::set_condition_at;
use serde_json::{Map, Value, json};

/// Brings the status of `object` up to date: `acceptedNames`, the conditions `NamesAccepted` and `Established`. `others`
/// are all other definitions (those of the same group may have taken the names). Returns whether anything changed.
/// `now` is an RFC 3339 time.
pub fn settle(object: &mut Object, others: &[Object], now: &str) -> bool {
    let before = object.0.get("status").cloned();
    let group = object.text(&["spec", "group"]).to_owned();
    let taken = Taken::of(others.iter().filter(|other| other.text(&["spec", "group"]) == group));
    let wished = Fields::map(object.spec(), "names").cloned().unwrap_or_default();
    let mut accepted = Fields::map(object.status(), "acceptedNames").cloned().unwrap_or_default();
    let conflict = accept(&wished, &mut accepted, &taken);
    object.make(&["status"]).insert("acceptedNames".to_owned(), Value::Object(accepted));
    match conflict {
        None => {
            set(object, now, "NamesAccepted", "True", "NoConflicts", "no conflicts found");
            if !is_established(object) {
                let message = "the initial names have been accepted";
                set(object, now, "Established", "True", "InitialNamesAccepted", message);
            }
        }
        Some((reason, message)) => {
            set(object, now, "NamesAccepted", "False", reason, &message);
            if !is_established(object) {
                set(object, now, "Established", "False", "NotAccepted", "not all names are accepted");
            }
        }
    }
    object.0.get("status").cloned() != before
}

/// Names that other definitions of the group have.
struct Taken {
    resources: Vec<String>,
    kinds: Vec<String>,
}

impl Taken {
    fn of<'a>(others: impl Iterator<Item = &'a Object>) -> Taken {
        let mut taken = Taken { resources: Vec::new(), kinds: Vec::new() };
        for other in others {
            let names = Fields::map(other.status(), "acceptedNames");
            taken.resources.extend(["plural", "singular"].map(|name| names.text(name).to_owned()));
            taken.resources.extend(names.texts("shortNames").map(str::to_owned));
            taken.kinds.extend(["kind", "listKind"].map(|name| names.text(name).to_owned()));
        }
        taken
    }
}

/// Takes over the names that are free; returns the last conflict.
fn accept(
    wished: &Map<String, Value>,
    accepted: &mut Map<String, Value>,
    taken: &Taken,
) -> Option<(&'static str, String)> {
    let in_use = |name: &str| format!("{} is already in use", quoted(name));
    let mut conflict = None;
    let resource = [("plural", "PluralConflict"), ("singular", "SingularConflict")];
    let kind = [("kind", "KindConflict"), ("listKind", "ListKindConflict")];
    let mut one = |accepted: &mut Map<String, Value>, field: &str, reason, taken: &[String]| {
        let name = wished.text(field);
        if name != accepted.text(field) && taken.iter().any(|other| other == name) {
            conflict = Some((reason, in_use(name)));
        } else if !name.is_empty() {
            accepted.insert(field.to_owned(), name.into());
        }
    };
    for (field, reason) in resource {
        one(accepted, field, reason, &taken.resources);
    }
    for (field, reason) in kind {
        one(accepted, field, reason, &taken.kinds);
    }
    let held: Vec<&str> = accepted.texts("shortNames").collect();
    let wrong: Vec<String> = wished
        .texts("shortNames")
        .filter(|name| !held.contains(name) && taken.resources.iter().any(|other| other == name))
        .map(in_use)
        .collect();
    if wrong.is_empty() {
        copy(wished, accepted, "shortNames");
    } else {
        let message =
            if let [one] = wrong.as_slice() { one.clone() } else { format!("[{}]", wrong.join(", ")) };
        conflict.get_or_insert(("ShortNamesConflict", message));
    }
    copy(wished, accepted, "categories");
    conflict
}

fn copy(from: &Map<String, Value>, to: &mut Map<String, Value>, field: &str) {
    match from.get(field) {
        Some(value) => drop(to.insert(field.to_owned(), value.clone())),
        None => drop(to.remove(field)),
    }
}

/// Sets a condition; its time changes with its status.
fn set(object: &mut Object, now: &str, kind: &str, status: &str, reason: &str, message: &str) {
    let condition = json!({"type": kind, "status": status, "reason": reason, "message": message});
    set_condition_at(object, condition, now);
}

fn is_true(object: &Object, kind: &str) -> bool {
    let conditions = object.status().list("conditions");
    conditions.iter().any(|condition| condition.text("type") == kind && condition.text("status") == "True")
}

/// Whether the definition is established, so that its resources are served.
#[must_use]
pub fn is_established(object: &Object) -> bool {
    is_true(object, "Established")
}

/// Marks a definition that is deleted for the first time: its finalizer, which keeps it until its objects are gone, and
/// the condition `Terminating`.
pub fn deleted(object: &mut Object, now: &str) {
    if !object.finalizers().any(|finalizer| finalizer == super::FINALIZER) {
        let finalizers = object.metadata_mut().entry("finalizers").or_insert_with(|| json!([]));
        if let Some(list) = finalizers.as_array_mut() {
            list.push(super::FINALIZER.into());
        }
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set(object, now, "Terminating", "True", "InstanceDeletionPending", message);
}

/// Says that what is kept of a definition cannot be served, and why. It stays established: its objects are there.
pub fn unserved(object: &mut Object, why: &str, now: &str) {
    set(object, now, "Served", "False", "CannotBeServed", why);
}

/// Sets the condition `Terminating` as the deletion of the objects goes: `left` of them are still there. Returns whether
/// anything changed. With none left the finalizer [`super::FINALIZER`] can go.
pub fn terminating(object: &mut Object, left: usize, now: &str) -> bool {
    let before = object.0.get("status").cloned();
    if left > 0 {
        let message = "CustomResource deletion is in progress";
        set(object, now, "Terminating", "True", "InstanceDeletionInProgress", message);
    } else {
        set(object, now, "Terminating", "False", "InstanceDeletionCompleted", "removed all instances");
    }
    object.0.get("status").cloned() != before
}

/// Adds the storage version to the versions in which objects may be kept.
pub(super) fn store_version(object: &mut Object) {
    let versions = object.spec().list("versions");
    let Some(name) =
        versions.iter().find(|version| version.is("storage")).map(|version| version.text("name").to_owned())
    else {
        return;
    };
    let stored = object.make(&["status"]).entry("storedVersions").or_insert_with(|| json!([]));
    if let Some(list) = stored.as_array_mut()
        && !list.iter().any(|known| known.as_str() == Some(&name))
    {
        list.push(name.into());
    }
}
