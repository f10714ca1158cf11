//! patch: the four kinds, server-side apply among them.

use super::change::{custom_again, manager, own, owned};
use super::target::{Answer, PatchKind, Target, View};
use super::{Context, Registry, document, view};
use crate::contract::field::{FieldError, Path};
use crate::contract::{Object, Result, Status};
use crate::decode::{self, Expected, FieldValidation, Media};
use crate::merge::{json_patch, managed, merge_patch, strategic};
use crate::resource::{Part, Resource};
use bytes::Bytes;
use serde_json::Value;
use std::borrow::Cow;

/// Bytes of a patch that its refusal shows.
const MOST_SHOWN: usize = 16 << 10;

/// A patch, and what it has twice.
pub(super) type Sent<'a> = (&'a Value, &'a [String]);

impl Registry {
    /// Patches an object, or the part of it; a server-side apply creates what is not there.
    ///
    /// # Errors
    /// 400 and 422 for patches that are none or do not fit, 404, 409 for conflicts, 415 for kinds of patches that the
    /// resource does not take, and what admission says.
    pub async fn patch(
        &self,
        context: &Context,
        target: &Target,
        part: Part,
        kind: PatchKind,
        body: Bytes,
        form: View,
    ) -> Result<Answer> {
        let resource = &target.resource;
        if kind == PatchKind::Strategic && resource.is_custom() {
            let message = "the body of the request was in an unknown format - accepted media types include: \
                           application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
            return Err(Status::new(415, crate::contract::Reason::UnsupportedMediaType, message));
        }
        let media = if kind == PatchKind::Apply { Media::Yaml } else { Media::Json };
        let (patch, twice) = decode::patch(&body, media, context.validation).map_err(|mut status| {
            let what = match kind {
                PatchKind::Json | PatchKind::Merge => "error decoding patch: ",
                PatchKind::Apply => "error decoding YAML: ",
                PatchKind::Strategic => "",
            };
            status.message.insert_str(0, what);
            status
        })?;
        if part == Part::Scale {
            return self.patch_scale(context, target, kind, (&patch, &twice), form).await;
        }
        let make = |live: Option<&Object>| match (kind, live) {
            (PatchKind::Apply, live) => applied(context, resource, part, (&patch, &twice), live),
            (_, Some(live)) => patched(context, resource, part, kind, (&patch, &twice), live),
            (_, None) => Err(target.not_found()),
        };
        let creates = kind == PatchKind::Apply && part == Part::Main;
        let (code, changed) = self.change(context, target, part, creates, "", &make).await?;
        Ok(Answer { code, json: view::one(resource, document::json(&changed), form)? })
    }
}

/// A patch of a value by rules that the kind of patch has.
pub(super) fn merged(kind: PatchKind, value: &Value, patch: &Value, resource: &Resource) -> Result<Value> {
    match kind {
        PatchKind::Json => json_patch::apply(value, patch),
        PatchKind::Merge | PatchKind::Apply => merge_patch::apply(value, patch),
        PatchKind::Strategic => strategic::apply(value, patch, resource.strategy.schema()),
    }
}

fn patched(
    context: &Context,
    resource: &Resource,
    part: Part,
    kind: PatchKind,
    (patch, twice): Sent<'_>,
    live: &Object,
) -> Result<Object> {
    let value = merged(kind, &live.clone().into_value(), patch, resource)?;
    let shown = shown(kind, patch, &value);
    let mut object =
        Object::from_value(value).ok_or_else(|| Status::bad_request("the patch leaves no object"))?;
    let told = told(context, kind, patch, twice);
    strictly(context, &told, &shown, || conformed(context, resource, &mut object))?;
    resource.strategy.default(&mut object);
    super::meta::unique_owners(&mut object, context);
    own(context, resource, part, Some(live), &mut object);
    Ok(object)
}

/// The patch as refusals of it show it: as much of it as anybody reads, for a refusal tells it twice.
pub(super) fn shown(kind: PatchKind, patch: &Value, patched: &Value) -> String {
    let mut shown = if kind == PatchKind::Strategic { in_go(patch) } else { patched.to_string() };
    if shown.len() > MOST_SHOWN {
        shown.truncate(shown.floor_char_boundary(MOST_SHOWN));
        shown.push_str("...");
    }
    shown
}

/// What a patch has twice, and the members that operations of a JSON patch do not have, where somebody wants to know.
pub(super) fn told<'a>(
    context: &Context,
    kind: PatchKind,
    patch: &Value,
    twice: &'a [String],
) -> Cow<'a, [String]> {
    if kind != PatchKind::Json || context.validation == FieldValidation::Ignore {
        return Cow::Borrowed(twice);
    }
    let twice = twice.iter().map(|what| format!("json patch {what}"));
    twice.chain(json_patch::unknown_fields(patch)).take(decode::MOST_TOLD).collect()
}

/// Tells what was `told` of a patch, as the client wishes, before what is wrong with what it makes of the object.
pub(super) fn strictly(
    context: &Context,
    told: &[String],
    shown: &str,
    conformed: impl FnOnce() -> Result<()>,
) -> Result<()> {
    const STRICT: &str = "strict decoding error: ";
    if context.validation == FieldValidation::Warn {
        context.warnings.extend(told.iter().cloned());
    }
    let made = conformed();
    if context.validation != FieldValidation::Strict || told.is_empty() {
        return made.map_err(|status| of_patch(cause(&status), shown));
    }
    let told = told.join(", ");
    match &made {
        Ok(()) => Err(of_patch(&format!("{STRICT}{told}"), shown)),
        Err(status) => Err(match cause(status).strip_prefix(STRICT) {
            Some(more) => of_patch(&format!("{STRICT}{told}, {more}"), shown),
            None => of_patch(cause(status), shown),
        }),
    }
}

fn applied(
    context: &Context,
    resource: &Resource,
    part: Part,
    (config, twice): Sent<'_>,
    live: Option<&Object>,
) -> Result<Object> {
    let Some(config) = Object::from_value(config.clone()) else {
        return Err(Status::bad_request("the body of an apply is no object"));
    };
    let names = &resource.names;
    if config.api_version() != names.api_version() || config.kind() != names.kind {
        let (group, version) = config.api_version().split_once('/').unwrap_or(("", config.api_version()));
        let told = format!("invalid object type: {group}/{version}, Kind={}", config.kind());
        return Err(Status::bad_request(told));
    }
    let manager = manager(context, resource, part, managed::Operation::Apply);
    let schema = resource.strategy.schema();
    // As it was written: what a kind always has, or has by default, is nobody's wish.
    let mut object = managed::apply(live, &config, schema, &manager, context.force, owned(resource, part))?;
    only_once(context, twice)?;
    conformed(context, resource, &mut object)?;
    resource.strategy.default(&mut object);
    Ok(object)
}

/// Tells of keys that an applied document has twice, as the client wishes.
pub(super) fn only_once(context: &Context, twice: &[String]) -> Result<()> {
    match context.validation {
        FieldValidation::Strict if !twice.is_empty() => Err(Status::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
            twice.join("\n  ")
        ))),
        FieldValidation::Warn => {
            context.warnings.extend(twice.iter().cloned());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Why a body would be refused that is what a patch makes of an object.
fn cause(status: &Status) -> &str {
    let cause = status.message.split_once(" cannot be handled as a ").map_or("", |(_, rest)| rest);
    cause.split_once(": ").map_or(status.message.as_str(), |(_, cause)| cause)
}

/// 422 of what a patch makes of an object.
fn of_patch(cause: &str, shown: &str) -> Status {
    let errors = vec![FieldError::invalid(&Path::new("patch"), shown, cause)];
    Status::invalid("", "", "", &errors)
}

/// A value as Go's `%+v` shows it.
fn in_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(in_go).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let fields: Vec<String> =
                map.iter().map(|(name, value)| format!("{name}:{}", in_go(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

/// Checks what came of a patch as if it had been sent as a whole.
fn conformed(context: &Context, resource: &Resource, object: &mut Object) -> Result<()> {
    if resource.is_custom() {
        return custom_again(context, resource, object);
    }
    let api_version = resource.names.api_version();
    let expected = Expected {
        api_version: &api_version,
        kind: &resource.names.kind,
        schema: resource.strategy.schema(),
    };
    context.warnings.extend(decode::conform(object, &expected, context.validation)?);
    Ok(())
}
