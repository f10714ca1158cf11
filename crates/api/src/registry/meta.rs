//! What the server writes into `metadata`, and what it refuses there.

use super::Context;
use super::target::Target;
use crate::contract::{Object, Result, Status};
use crate::resource::{Part, Resource};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::HashSet;

/// The letters of generated names: no vowels, and nothing that looks like something else.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// So many are put behind `generateName`.
const GENERATED: usize = 5;
/// A generated name is no longer than a label.
const LONGEST_GENERATED: usize = 63;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the kernel's random numbers do not fail");
    bytes
}

/// A random uid (version 4).
#[must_use]
pub fn uid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits"));
        text.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits"));
    }
    text
}

/// A name that begins with `base`.
pub(super) fn generated(base: &str) -> String {
    let mut end = base.len().min(LONGEST_GENERATED - GENERATED);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    name.push_str(&suffix());
    name
}

/// Five random letters.
pub(crate) fn suffix() -> String {
    random::<GENERATED>()
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// A time as objects have it: RFC 3339 in UTC with whole seconds.
pub(super) fn time_text(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Now, as objects have it.
#[must_use]
pub fn now_text() -> String {
    time_text(Timestamp::now())
}

/// Puts the object into the namespace of the request.
pub(super) fn in_namespace(object: &mut Object, target: &Target) -> Result<()> {
    let wanted = if target.resource.namespaced { target.namespace.as_str() } else { "" };
    let found = object.namespace();
    if found == wanted {
        return Ok(());
    }
    if !found.is_empty() && !wanted.is_empty() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if wanted.is_empty() {
        object.remove(&["metadata", "namespace"]);
    } else {
        object.metadata_mut().insert("namespace".to_owned(), wanted.into());
    }
    Ok(())
}

/// Checks that an object that replaces another says its name: who forgot that forgot the rest of it, too.
pub(super) fn says_name(object: &Object, target: &Target) -> Result<()> {
    if !object.name().is_empty() {
        return Ok(());
    }
    let name = &target.name;
    Err(Status::bad_request(format!(
        "the name of the object ({name} based on URL) was undeterminable: name must be provided"
    )))
}

/// Checks that the object has the name of the path, and gives it that where it has none.
pub(super) fn with_name(object: &mut Object, target: &Target) -> Result<()> {
    let found = object.name();
    if found == target.name {
        return Ok(());
    }
    if found.is_empty() {
        object.metadata_mut().insert("name".to_owned(), target.name.as_str().into());
        return Ok(());
    }
    let message =
        format!("the name of the object ({found}) does not match the name on the URL ({})", target.name);
    Err(Status::bad_request(message))
}

/// Whether the server has to make up its name.
pub(super) fn is_nameless(object: &Object) -> bool {
    object.name().is_empty() && !object.text(&["metadata", "generateName"]).is_empty()
}

/// Makes up another name.
pub(super) fn name_anew(object: &mut Object) {
    let name = generated(object.text(&["metadata", "generateName"]));
    object.metadata_mut().insert("name".to_owned(), name.into());
}

/// What a new object gets from the server, and what a client cannot give it.
pub(super) fn begin(object: &mut Object) {
    if is_nameless(object) {
        name_anew(object);
    }
    let metadata = object.metadata_mut();
    for field in
        ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"]
    {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), uid().into());
    metadata.insert("creationTimestamp".to_owned(), now_text().into());
}

/// What an updated object keeps of the old one whatever the client sent.
pub(super) fn keep(object: &mut Object, old: &Object) {
    let metadata = object.metadata_mut();
    for field in ["creationTimestamp", "generation", "deletionTimestamp"] {
        match old.at(&["metadata", field]) {
            Some(value) => metadata.insert(field.to_owned(), value.clone()),
            None => metadata.remove(field),
        };
    }
    let grace = old.at(&["metadata", "deletionGracePeriodSeconds"]);
    if let (Some(grace), false) = (grace, metadata.contains_key("deletionGracePeriodSeconds")) {
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.clone());
    }
    if metadata.get("uid").and_then(Value::as_str).unwrap_or_default().is_empty() {
        metadata.insert("uid".to_owned(), old.uid().into());
    }
    metadata.remove("selfLink");
}

/// Counts the change where it is one of what the kind counts.
pub(super) fn count(object: &mut Object, old: &Object, resource: &Resource, part: Part) {
    if !resource.strategy.has_generation() || matches!(part, Part::Status | Part::Approval | Part::Finalize) {
        return;
    }
    let has_status = resource.strategy.parts().contains(&Part::Status);
    let counts = |name: &str| name != "metadata" && !(name == "status" && has_status) && name != "apiVersion";
    let old_fields = old.0.iter().filter(|(name, _)| counts(name));
    let new_fields = object.0.iter().filter(|(name, _)| counts(name));
    let annotated = resource.stored_as == "deployments.apps"
        && old.strings("annotations") != object.strings("annotations");
    if annotated || !old_fields.eq(new_fields) {
        let next = old.generation() + 1;
        object.metadata_mut().insert("generation".to_owned(), next.into());
    }
}

/// Takes away owners that are there twice, and tells the client.
pub(super) fn unique_owners(object: &mut Object, context: &Context) {
    let Some(Value::Array(owners)) = object.metadata_mut().get_mut("ownerReferences") else { return };
    let before = owners.len();
    let mut seen = HashSet::with_capacity(before);
    owners.retain(|owner| seen.insert(owner.to_string()));
    if owners.len() < before {
        context.warnings.add(
            "metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may \
             reject such requests as early as 1.24; please fix your requests; duplicate UIDs were dropped",
        );
    }
}

/// Whether an update leaves nothing that would keep a deleted object.
pub(super) fn is_gone(object: &Object, old: &Object, resource: &Resource) -> bool {
    let grace = old.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(0);
    object.finalizers().next().is_none()
        && old.is_terminating()
        && grace == 0
        && !namespace_held(resource, object)
}

/// Namespaces are held by `spec.finalizers` too.
pub(super) fn namespace_held(resource: &Resource, object: &Object) -> bool {
    resource.stored_as == "namespaces"
        && object.at(&["spec", "finalizers"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// Marks the object as one that is being deleted, as of now.
pub(super) fn mark_deleted(object: &mut Object, resource: &Resource) {
    if !object.is_terminating() && object.generation() > 0 {
        let next = object.generation() + 1;
        object.metadata_mut().insert("generation".to_owned(), next.into());
    }
    let now = now_text();
    let later = object.text(&["metadata", "deletionTimestamp"]) > now.as_str();
    let metadata = object.metadata_mut();
    if later || !metadata.contains_key("deletionTimestamp") {
        metadata.insert("deletionTimestamp".to_owned(), now.into());
    }
    if resource.stored_as != "namespaces" {
        metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
    }
}
