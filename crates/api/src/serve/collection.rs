//! Requests about a collection: list, watch, create, deletecollection.

use std::sync::Arc;

use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::answer::{self, Response};
use super::api::Api;
use super::body::{Body, Ending};
use super::media::{self, Agreed, As, Form};
use super::object::{self, delete_options};
use super::path::ResourcePath;
use super::request::{Call, Verb, method_not_allowed};
use crate::contract::{Result, Status};
use crate::registry::options::{ListOptions, Verb as Write, WriteOptions};
use crate::registry::{Body as Sent, Context, Include, Target, View};
use crate::resource::Resource;

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
    let answer = api.registry.list(&context, target, &options, view(agreed, call)?).await?;
    let mut response = call.style(agreed).json(answer.code, answer.json);
    answer::warn(&mut response, &context.warnings.take());
    Ok(response)
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
    let agreed = media::agree(call.headers(), false, |what| !matches!(what, As::Discovery(_)))?;
    let (view, style) = (view(agreed, &call)?, call.style(agreed));
    let options = WriteOptions::from_query(Write::Create, &call.query)?;
    let context = options.context(call.asker.clone(), call.agent());
    let media = media::of_body(call.headers());
    let (bytes, media) = media?.read(api.body(call.body).await?)?;
    let answer = api.registry.create(&context, target, Sent::Bytes(bytes, media), view).await;
    object::answered(style, &context, answer)
}

async fn delete(api: &Api, call: Call, target: &Target) -> Result<Response> {
    let agreed = media::agree(call.headers(), false, |what| !matches!(what, As::Discovery(_)))?;
    let (view, style) = (view(agreed, &call)?, call.style(agreed));
    let list = ListOptions::from_query(&call.query)?;
    let context = Context::of(call.asker.clone(), call.agent());
    let options = delete_options(api, call).await?;
    let answer = api.registry.delete_collection(&context, target, &list, &options, view).await;
    object::answered(style, &context, answer)
}

/// In what form objects are answered.
pub(super) fn view(agreed: Agreed, call: &Call) -> Result<View> {
    Ok(match agreed.what {
        As::Table => View::Table(match call.parameter("includeObject").unwrap_or_default() {
            "" | "Metadata" => Include::Metadata,
            "None" => Include::None,
            "Object" => Include::Object,
            other => {
                return Err(Status::bad_request(format!(
                    "unrecognized includeObject value: {}",
                    crate::contract::field::quoted(other)
                )));
            }
        }),
        As::Metadata | As::MetadataList => View::Metadata,
        As::Object | As::Discovery(_) => View::Full,
    })
}
