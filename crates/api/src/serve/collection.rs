//! Requests about a collection: list, watch, create, deletecollection.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::answer::{self, Response};
use super::api::Api;
use super::body::{Body, Ending};
use super::media::{self, Agreed, As, Form};
use super::object::{self, delete_options};
use super::path::ResourcePath;
use super::request::{Call, Verb, method_not_allowed};
use crate::contract::{Reason, Result, Status};
use crate::registry::options::{ListOptions, Verb as Write, WriteOptions};
use crate::registry::{Body as Sent, Context, Include, Target, View};
use crate::resource::Resource;

/// What a list that is made while it is sent holds of the objects.
const LIST_COSTS: usize = 256 * 1024;
/// What a byte of JSON takes that becomes YAML.
const YAML_COSTS: usize = 8;

/// Answers a request about all objects of a resource (in a namespace).
pub(super) async fn answer(
    api: &Api,
    call: Call,
    resource: Arc<Resource>,
    path: &ResourcePath,
    verb: Verb,
) -> Result<Response> {
    let can = match verb {
        Verb::List | Verb::Watch => resource.verbs.read,
        Verb::Create => resource.verbs.create && (!resource.namespaced || !path.namespace.is_empty()),
        Verb::DeleteCollection => {
            resource.verbs.delete_collection && (!resource.namespaced || !path.namespace.is_empty())
        }
        _ => false,
    };
    if !can {
        return Err(method_not_allowed());
    }
    let target = object::target(&resource, path);
    match verb {
        Verb::Watch => watch(api, &call, &target).await,
        Verb::List => list(api, &call, &target).await,
        Verb::Create => create(api, call, &target).await,
        _ => delete(api, call, &target).await,
    }
}

async fn list(api: &Api, call: &Call, target: &Target) -> Result<Response> {
    let agreed = media::agree(call.headers(), false, |what| !matches!(what, As::Discovery(_)))?;
    let options = ListOptions::from_query(&call.query)?;
    let context = Context::of(call.asker.clone(), call.agent());
    let held = Arc::new(Mutex::new(api.answers.of(&call.asker.user)));
    let ration = Arc::clone(&held);
    let more = move |bytes| ration.lock().unwrap_or_else(PoisonError::into_inner).more(bytes);
    let listing = api.registry.listing(&context, target, &options, view(agreed, call)?)?;
    let mut listing = listing.rationed(Box::new(more.clone()));
    let style = call.style(agreed);
    let mut response = if style.form == Form::Yaml {
        let (mut whole, mut costs) = (BytesMut::new(), 0);
        // Also a list with a limit, which is one piece.
        while let Some(piece) = listing.next().await? {
            costs += piece.len() * YAML_COSTS;
            if costs > api.answers.share() {
                return Err(too_large_for_yaml());
            }
            more(piece.len() * YAML_COSTS)?;
            whole.extend_from_slice(&piece);
        }
        style.json(200, whole.freeze())
    } else {
        let first = listing.next().await?.unwrap_or_default();
        if listing.has_ended() {
            style.json(200, first)
        } else {
            more(LIST_COSTS)?;
            style.list(first, listing)
        }
    };
    response.body_mut().keep(held);
    answer::warn(&mut response, &context.warnings.take());
    Ok(response)
}

/// It would never be had, however often somebody comes again.
fn too_large_for_yaml() -> Status {
    let message =
        "the list is too large to be written as YAML: ask for JSON, or for less at a time with `limit`";
    Status::new(413, Reason::RequestEntityTooLarge, message)
}

/// Also the watch of one object.
pub(super) async fn watch(api: &Api, call: &Call, target: &Target) -> Result<Response> {
    let agreed = media::agree(call.headers(), true, |what| !matches!(what, As::Discovery(_)))?;
    let mut query = call.query.clone();
    // The old paths of watches say it in the path alone.
    if !call.flag("watch") {
        query.push(("watch".to_owned(), "true".to_owned()));
    }
    let options = ListOptions::from_query(&query)?;
    let context = Context::of(call.asker.clone(), call.agent());
    let watching = api.registry.watch(&context, target, &options, view(agreed, call)?).await?;
    let ending = Ending { stop: api.stop.clone(), counted: Some(api.metrics.watch()) };
    let mut response = Response::new(Body::watch(watching, ending));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Form::Json.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer::warn(&mut response, &context.warnings.take());
    Ok(response)
}

async fn create(api: &Api, call: Call, target: &Target) -> Result<Response> {
    // What is answered and not kept (a review) has no other form than its own.
    let is_kept = target.resource.verbs.read;
    let serves = |what| if is_kept { !matches!(what, As::Discovery(_)) } else { what == As::Object };
    let agreed = media::agree(call.headers(), false, serves)?;
    let (view, style) = (view(agreed, &call)?, call.style(agreed));
    let options = WriteOptions::from_query(Write::Create, &call.query)?;
    let context = options.context(call.asker.clone(), call.agent());
    let media = media::of_body(call.headers());
    let (bytes, media) = media?.read(call.body.come())?;
    let answer = api.registry.create(&context, target, Sent::Bytes(bytes, media), view).await;
    object::answered(style, &context, answer)
}

async fn delete(api: &Api, call: Call, target: &Target) -> Result<Response> {
    let agreed = media::agree(call.headers(), false, |what| !matches!(what, As::Discovery(_)))?;
    let (view, style) = (view(agreed, &call)?, call.style(agreed));
    let list = ListOptions::from_query(&call.query)?;
    let context = Context::of(call.asker.clone(), call.agent());
    let options = delete_options(call)?;
    let answer = api.registry.delete_collection(&context, target, &list, &options, view).await;
    object::answered(style, &context, answer)
}

/// In what form objects are answered.
pub(super) fn view(agreed: Agreed, call: &Call) -> Result<View> {
    Ok(match agreed.what {
        As::Table(meta) => {
            let include = match call.parameter("includeObject").unwrap_or_default() {
                "" | "Metadata" => Include::Metadata,
                "None" => Include::None,
                "Object" => Include::Object,
                other => {
                    return Err(Status::bad_request(format!(
                        "unrecognized includeObject value: {}",
                        crate::contract::field::quoted(other)
                    )));
                }
            };
            View::Table(include, meta)
        }
        As::Metadata(meta) | As::MetadataList(meta) => View::Metadata(meta),
        As::Object | As::Discovery(_) => View::Full,
    })
}
