//! Paths of the distribution API: `/v2/<name>/<what>/<which>`, where a name has any number of slashes.

use hyper::{StatusCode, Uri};

use super::reply::{Code, Failure};
use crate::contract::Digest;
use crate::reference::{is_repository, is_tag};

/// How a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selector {
    Tag(String),
    Digest(Digest),
}

/// What a path names; repository names, tags and digests in it are well formed, so they are safe in file names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Root,
    Blob(String, Digest),
    Uploads(String),
    Upload(String, String),
    Manifest(String, Selector),
    Tags(String),
    Referrers(String, Digest),
}

pub(super) fn route(path: &str) -> Result<Route, Failure> {
    let path = decode(path, false);
    let unknown =
        || Failure::new(StatusCode::NOT_FOUND, Code::NameUnknown, format!("{path} is not of this API"));
    let rest = match path.as_str() {
        "/v2" | "/v2/" => return Ok(Route::Root),
        path => path.strip_prefix("/v2/").ok_or_else(unknown)?,
    };
    if let Some((name, id)) = rest.rsplit_once("/blobs/uploads/") {
        let name = repository(name)?;
        return Ok(if id.is_empty() { Route::Uploads(name) } else { Route::Upload(name, id.to_owned()) });
    }
    if let Some(name) = rest.strip_suffix("/blobs/uploads") {
        return Ok(Route::Uploads(repository(name)?));
    }
    let (front, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
    let (name, kind) = front.rsplit_once('/').ok_or_else(unknown)?;
    match kind {
        "blobs" => Ok(Route::Blob(repository(name)?, digest(last)?)),
        "manifests" => Ok(Route::Manifest(repository(name)?, selector(last)?)),
        "tags" if last == "list" => Ok(Route::Tags(repository(name)?)),
        "referrers" => Ok(Route::Referrers(repository(name)?, digest(last)?)),
        _ => Err(unknown()),
    }
}

pub(super) fn repository(name: &str) -> Result<String, Failure> {
    match is_repository(name) {
        true => Ok(name.to_owned()),
        false => {
            let words = format!("{name:?} is not a repository name");
            Err(Failure::new(StatusCode::BAD_REQUEST, Code::NameInvalid, words))
        }
    }
}

pub(super) fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|error: crate::contract::Error| {
        Failure::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, error.to_string())
    })
}

fn selector(text: &str) -> Result<Selector, Failure> {
    match text {
        text if text.contains(':') => digest(text).map(Selector::Digest),
        text if is_tag(text) => Ok(Selector::Tag(text.to_owned())),
        text => {
            let words = format!("{text:?} is neither a tag nor a digest");
            Err(Failure::new(StatusCode::BAD_REQUEST, Code::ManifestInvalid, words))
        }
    }
}

/// A parameter of the query.
pub(super) fn parameter(uri: &Uri, name: &str) -> Option<String> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| decode(value, true))
}

/// Percent-decoding; what is not UTF-8 afterwards matches no name.
fn decode(text: &str, form: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let decoded = hex.filter(|_| *first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(if form && *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        let hex = "a".repeat(64);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let name = || "a/b-c/blobs".to_owned();
        for (path, expected) in [
            ("/v2/".to_owned(), Route::Root),
            (format!("/v2/a/b-c/blobs/blobs/sha256%3A{hex}"), Route::Blob(name(), digest.clone())),
            ("/v2/a/b-c/blobs/blobs/uploads/".to_owned(), Route::Uploads(name())),
            ("/v2/a/b-c/blobs/blobs/uploads/x1".to_owned(), Route::Upload(name(), "x1".into())),
            ("/v2/a/b-c/blobs/manifests/v1".to_owned(), Route::Manifest(name(), Selector::Tag("v1".into()))),
            (format!("/v2/x/referrers/sha256:{hex}"), Route::Referrers("x".into(), digest)),
            ("/v2/tags/tags/list".to_owned(), Route::Tags("tags".into())),
        ] {
            assert_eq!(route(&path).ok(), Some(expected), "{path}");
        }
        for bad in [
            "/",
            "/v1/",
            "/v2/x",
            "/v2/../x/tags/list",
            "/v2/%2e%2e/tags/list",
            "/v2/A/tags/list",
            "/v2/x/blobs/sha256:zz",
            "/v2/x/manifests/.a",
        ] {
            assert!(route(bad).is_err(), "{bad}");
        }
    }
}
