//! `/openapi/v2` and `/openapi/v3`: rendered when asked for, one at a time, and forgotten; only the small index of v3 is
//! kept.

mod gnostic;
mod rendered;

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, EXPIRES, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;

use super::answer::{self, Response, takes_gzip};
use super::api::Api;
use super::media::{self, Agreed};
use super::request::Call;
use crate::contract::Result;
use crate::openapi;
use crate::resource::Resource;
pub(crate) use rendered::Cache;
use rendered::Wanted;

/// The form of OpenAPI v2 that kubectl asks for first.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The same under its older name.
const PROTOBUF_OLD: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Answers a path below `/openapi/`.
pub(crate) async fn answer(api: &Api, call: Call, path: &str) -> Result<Response> {
    let place = path.strip_prefix("/openapi/v3/apis/").and_then(|place| place.split_once('/'));
    if let Some((group, version)) = place
        && let Some(entry) = api.registry.aggregation().find(group, version)
        && entry.openapi.is_some()
    {
        return super::aggregated::answer(api, call, &entry).await;
    }
    let call = &call;
    match path.strip_prefix("/openapi/").unwrap_or_default() {
        "v2" => v2(api, call).await,
        "v3" => index(api, call).await,
        below => match below.strip_prefix("v3/") {
            Some(place) => v3(api, call, place).await,
            None => Ok(answer::page_not_found()),
        },
    }
}

async fn v2(api: &Api, call: &Call) -> Result<Response> {
    let as_protobuf = wants_protobuf(call.headers());
    if !as_protobuf {
        media::agree(call.headers(), false, |what| what == media::As::Object)?;
    }
    let version = api.registry.resources().version();
    let tag = tag(format!("v2/{}/{version}/{as_protobuf}", started()).as_bytes());
    if is_known(call.headers(), &tag) {
        return Ok(answer::tagged(
            answer::plain(200, "application/json", Bytes::new()),
            call.headers(),
            &tag,
        ));
    }
    let resources = all(api);
    let wanted = Wanted { what: format!("v2/{as_protobuf}"), version, gzip: takes_gzip(call.headers()) };
    let bytes = api.openapi.get(wanted, move || {
        let document = openapi::v2(&resources);
        Some(if as_protobuf { gnostic::document(&document) } else { document.to_string().into_bytes() })
    });
    let Some(document) = bytes.await? else { return Ok(answer::page_not_found()) };
    let response = document.answer(if as_protobuf { PROTOBUF } else { "application/json" });
    Ok(answer::tagged(response, call.headers(), &tag))
}

async fn index(api: &Api, call: &Call) -> Result<Response> {
    let mut told = Value::clone(&*paths(api).await?);
    for entry in api.registry.aggregation().entries().iter() {
        if let (Some(url), Some(paths)) = (&entry.openapi, told["paths"].as_object_mut()) {
            let place = format!("apis/{}/{}", entry.group, entry.version);
            paths.insert(place, serde_json::json!({"serverRelativeURL": url}));
        }
    }
    let json = Bytes::from(told.to_string());
    let tag = tag(&json);
    Ok(answer::tagged(call.style(Agreed::JSON).json(200, json), call.headers(), &tag))
}

/// One group and version: `api/v1`, `apis/apps/v1`.
async fn v3(api: &Api, call: &Call, place: &str) -> Result<Response> {
    let told = paths(api).await?;
    let url = told.get("paths").and_then(|paths| paths.get(place)?.get("serverRelativeURL")?.as_str());
    let Some(url) = url else {
        return Ok(answer::page_not_found());
    };
    let hash = url.split_once("hash=").map_or("", |(_, hash)| hash);
    let asked = call.parameter("hash").unwrap_or_default();
    if !asked.is_empty() && asked != hash {
        let mut response = answer::text(301, "");
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        if let Ok(url) = HeaderValue::from_str(url) {
            response.headers_mut().insert(LOCATION, url);
        }
        return Ok(response);
    }
    let mut response = if is_known(call.headers(), hash) {
        answer::plain(200, "application/json", Bytes::new())
    } else {
        let (resources, place) = (all(api), place.to_owned());
        let style = call.style(Agreed::JSON);
        let gzip = style.gzip && !style.pretty;
        let wanted =
            Wanted { what: format!("v3/{place}"), version: api.registry.resources().version(), gzip };
        let document = api
            .openapi
            .get(wanted, move || openapi::v3(&resources, &place).map(|told| told.to_string().into_bytes()));
        match document.await? {
            None => return Ok(answer::page_not_found()),
            Some(document) if style.pretty => style.json(200, document.bytes()),
            Some(document) => document.answer("application/json"),
        }
    };
    response = answer::tagged(response, call.headers(), hash);
    if !asked.is_empty() {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        headers.insert(EXPIRES, HeaderValue::from_static("Fri, 31 Dec 2100 00:00:00 GMT"));
    }
    Ok(response)
}

/// The index, rendered once for each set of resources.
async fn paths(api: &Api) -> Result<Arc<Value>> {
    let resources = all(api);
    let version = api.registry.resources().version();
    api.openapi.index(version, move || openapi::v3_paths(&resources)).await
}

fn all(api: &Api) -> Vec<Resource> {
    api.registry.resources().iter().map(|resource| Resource::clone(resource)).collect()
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let first = values.flat_map(|value| value.split(',')).next().unwrap_or_default();
    let kind = first.split(';').next().unwrap_or_default().trim();
    kind == PROTOBUF || kind == PROTOBUF_OLD
}

fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    headers
        .get(http::header::IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == format!("\"{tag}\"").as_bytes())
}

/// A number of this process, for tags of what may be another after an update.
fn started() -> u64 {
    static STARTED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *STARTED.get_or_init(|| jiff::Timestamp::now().as_microsecond().unsigned_abs())
}

/// An `ETag` of some bytes.
pub(crate) fn tag(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}
