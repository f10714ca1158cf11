//! Tags of a repository, in pages (end-8).

use hyper::{Response, StatusCode, Uri};

use super::Shared;
use super::reply::{Code, Failure, Payload, reply};
use super::route;

pub(super) fn list(shared: &Shared, uri: &Uri, name: &str) -> Result<Response<Payload>, Failure> {
    if !shared.storage.has_repository(name) {
        let words = format!("there is no repository {name}");
        return Err(Failure::new(StatusCode::NOT_FOUND, Code::NameUnknown, words));
    }
    let mut tags = shared.storage.tags(name)?;
    if let Some(last) = route::parameter(uri, "last") {
        tags.retain(|tag| *tag > last);
    }
    let count = match route::parameter(uri, "n") {
        None => tags.len(),
        Some(text) => text.parse::<usize>().map_err(|_| {
            Failure::new(StatusCode::BAD_REQUEST, Code::SizeInvalid, format!("n={text:?} is not a number"))
        })?,
    };
    let more = tags.len() > count;
    tags.truncate(count);
    let next = tags
        .last()
        .filter(|_| more)
        .map(|last| format!("</v2/{name}/tags/list?n={count}&last={last}>; rel=\"next\""));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(next.as_deref().map(|link| ("link", link)));
    let body = serde_json::json!({ "name": name, "tags": tags });
    Ok(reply(StatusCode::OK, &headers, Payload::full(body.to_string())))
}
