//! Requests about one object or a part of it: get, update, patch, delete, and what is created below it.

use std::sync::Arc;

use super::answer::{self, Response, Style};
use super::api::Api;
use super::collection::{view, watch};
use super::media::{self, As};
use super::path::ResourcePath;
use super::request::{Call, Verb, method_not_allowed, no_such_resource};
use crate::auth::Attributes;
use crate::contract::{Result, Status};
use crate::registry::options::{DeleteOptions, Verb as Write, WriteOptions};
use crate::registry::{Answer, Body as Sent, Context, MayCreate, Target, part_named};
use crate::resource::{Part, Resource};

/// What a path is about.
pub(super) fn target(resource: &Arc<Resource>, path: &ResourcePath) -> Target {
    let namespace = if resource.namespaced { path.namespace.clone() } else { String::new() };
    Target { resource: Arc::clone(resource), namespace, name: path.name.clone() }
}

/// Answers a request about one object.
pub(super) async fn answer(
    api: &Api,
    call: Call,
    resource: Arc<Resource>,
    path: &ResourcePath,
    verb: Verb,
) -> Result<Response> {
    let target = target(&resource, path);
    if is_created(&resource, &path.subresource) {
        return if verb == Verb::Create {
            create_part(api, call, &target, path).await
        } else {
            Err(method_not_allowed())
        };
    }
    let part = match path.subresource.as_str() {
        "" => Part::Main,
        name => part_named(name)
            .filter(|part| resource.strategy.parts().contains(part))
            .ok_or_else(no_such_resource)?,
    };
    let verbs = resource.verbs;
    match verb {
        Verb::Watch if part == Part::Main && verbs.read => watch(api, &call, &target).await,
        Verb::Get if verbs.read && part != Part::Finalize => get(api, &call, &target, part).await,
        Verb::Update if verbs.update => update(api, call, &target, part).await,
        Verb::Patch if verbs.update && part != Part::Finalize => patch(api, call, &target, part).await,
        Verb::Delete if part == Part::Main && verbs.delete => delete(api, call, &target).await,
        _ => Err(method_not_allowed()),
    }
}

/// Whether a subresource is created, and neither read nor changed.
fn is_created(resource: &Resource, subresource: &str) -> bool {
    resource.names.group.is_empty()
        && matches!(
            (resource.names.plural.as_ref(), subresource),
            ("pods", "binding" | "eviction") | ("serviceaccounts", "token")
        )
}

async fn get(api: &Api, call: &Call, target: &Target, part: Part) -> Result<Response> {
    let agreed = media::agree(call.headers(), false, is_of_one)?;
    let context = Context::of(call.asker.clone(), call.agent());
    let version = call.parameter("resourceVersion").unwrap_or_default();
    let answer = api.registry.get(&context, target, part, version, view(agreed, call)?).await;
    answered(call.style(agreed), &context, answer)
}

async fn update(api: &Api, call: Call, target: &Target, part: Part) -> Result<Response> {
    let agreed = media::agree(call.headers(), false, is_of_one)?;
    let (view, style) = (view(agreed, &call)?, call.style(agreed));
    let options = WriteOptions::from_query(Write::Update, &call.query)?;
    let context =
        Context { may_create: may_create(api, &call), ..options.context(call.asker.clone(), call.agent()) };
    let media = media::of_body(call.headers());
    let (bytes, media) = media?.read(call.body.come())?;
    let answer = api.registry.update(&context, target, part, Sent::Bytes(bytes, media), view).await;
    answered(style, &context, answer)
}

/// Whether who sends this update or patch may create the object too, asked when it comes to that.
fn may_create(api: &Api, call: &Call) -> MayCreate {
    let (authorizer, asker) = (Arc::clone(&api.access.authorizer), call.asker.clone());
    let mut attributes = call.attributes();
    if let Attributes::Resource(wanted) = &mut attributes {
        wanted.verb = "create".to_owned();
    }
    MayCreate::by(move || {
        let decision = authorizer.authorize(&asker, &attributes);
        if decision.is_allowed() { Ok(()) } else { Err(attributes.forbidden(&asker, decision.reason())) }
    })
}

async fn patch(api: &Api, call: Call, target: &Target, part: Part) -> Result<Response> {
    let (kind, _) = media::of_patch(call.headers())?;
    let agreed = media::agree(call.headers(), false, is_of_one)?;
    let (view, style) = (view(agreed, &call)?, call.style(agreed));
    let options = WriteOptions::from_query(Write::Patch(kind), &call.query)?;
    let context =
        Context { may_create: may_create(api, &call), ..options.context(call.asker.clone(), call.agent()) };
    let bytes = call.body.come();
    let answer = api.registry.patch(&context, target, part, kind, bytes, view).await;
    answered(style, &context, answer)
}

async fn delete(api: &Api, call: Call, target: &Target) -> Result<Response> {
    let agreed = media::agree(call.headers(), false, is_of_one)?;
    let (view, style) = (view(agreed, &call)?, call.style(agreed));
    let context = Context::of(call.asker.clone(), call.agent());
    let options = delete_options(call)?;
    let answer = api.registry.delete(&context, target, &options, view).await;
    answered(style, &context, answer)
}

async fn create_part(api: &Api, call: Call, target: &Target, path: &ResourcePath) -> Result<Response> {
    let agreed = media::agree(call.headers(), false, is_of_one)?;
    let (view, style) = (view(agreed, &call)?, call.style(agreed));
    let options = WriteOptions::from_query(Write::Create, &call.query)?;
    let context = options.context(call.asker.clone(), call.agent());
    let media = media::of_body(call.headers());
    let (bytes, media) = media?.read(call.body.come())?;
    let sent = Sent::Bytes(bytes, media);
    let answer = api.registry.create_part(&context, target, &path.subresource, sent, view).await;
    answered(style, &context, answer)
}

fn is_of_one(what: As) -> bool {
    matches!(what, As::Object | As::Table(_) | As::Metadata(_))
}

/// Options of a delete: those in its body, or if it has none those in its query.
pub(super) fn delete_options(call: Call) -> Result<DeleteOptions> {
    let media = media::of_body(call.headers());
    let bytes = call.body.come();
    if bytes.is_empty() {
        return DeleteOptions::from_query(&call.query);
    }
    let (bytes, media) = media?.read(bytes)?;
    DeleteOptions::from_body(&bytes, media)
}

/// An answer or a refusal of the registry, with the warnings that came with it.
pub(super) fn answered(
    style: Style,
    context: &Context,
    answer: std::result::Result<Answer, Status>,
) -> Result<Response> {
    let mut response = match answer {
        Ok(answer) => style.json(answer.code, answer.json),
        Err(status) => style.status(&status),
    };
    answer::warn(&mut response, &context.warnings.take());
    // For the audit log.
    response.extensions_mut().insert(context.notes.clone());
    Ok(response)
}
