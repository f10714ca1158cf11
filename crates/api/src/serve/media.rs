//! In which form a client sends and wants its objects.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use super::protobuf;
use crate::contract::{Details, Reason, Result, Status};
use crate::decode::Media;
use crate::registry::{Meta, PatchKind};

/// A form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Json,
    Yaml,
}

impl Form {
    /// Its `Content-Type`.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Yaml => "application/yaml",
        }
    }
}

/// As what a client wants objects (`as=` of its `Accept`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    Object,
    Table(Meta),
    Metadata(Meta),
    MetadataList(Meta),
    /// Aggregated discovery, of version `v2` or `v2beta1`.
    Discovery(&'static str),
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) form: Form,
    pub(crate) what: As,
}

impl Agreed {
    pub(crate) const JSON: Agreed = Agreed { form: Form::Json, what: As::Object };
}

/// The best of what a client accepts among what `serves` says can be had. Without an `Accept`, JSON.
pub(crate) fn agree(headers: &HeaderMap, stream: bool, serves: impl Fn(As) -> bool) -> Result<Agreed> {
    let values: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = values.join(",");
    if accept.trim().is_empty() {
        return Ok(Agreed::JSON);
    }
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::read).collect();
    // Sorted by weight; clauses of one weight stay in the client's order.
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.weight));
    let found = clauses.iter().find_map(|clause| clause.agree(stream, &serves));
    found.ok_or_else(not_acceptable)
}

struct Clause<'a> {
    kind: &'a str,
    weight: u16,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn read(text: &'a str) -> Option<Clause<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let kind = parts.next().filter(|kind| !kind.is_empty())?;
        let mut clause = Clause { kind, weight: 1000, parameters: Vec::new() };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name == "q" {
                let weight: f32 = value.parse().unwrap_or(1.0);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
                let thousandths = (weight.clamp(0.0, 1.0) * 1000.0) as u16;
                clause.weight = thousandths;
            } else {
                clause.parameters.push((name, value));
            }
        }
        Some(clause)
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    fn agree(&self, stream: bool, serves: &impl Fn(As) -> bool) -> Option<Agreed> {
        let form = match self.kind {
            "*/*" | "application/*" | "application/json" => Form::Json,
            "application/yaml" | "application/x-yaml" if !stream => Form::Yaml,
            _ => return None,
        };
        let what = match self.parameter("as") {
            None => As::Object,
            Some(kind) => named(kind, self.parameter("g"), self.parameter("v"))?,
        };
        serves(what).then_some(Agreed { form, what })
    }
}

fn named(kind: &str, group: Option<&str>, version: Option<&str>) -> Option<As> {
    match (group, version) {
        (Some("meta.k8s.io"), Some(version)) => {
            let meta = match version {
                "v1" => Meta::V1,
                "v1beta1" => Meta::V1Beta1,
                _ => return None,
            };
            match kind {
                "Table" => Some(As::Table(meta)),
                "PartialObjectMetadata" => Some(As::Metadata(meta)),
                "PartialObjectMetadataList" => Some(As::MetadataList(meta)),
                _ => None,
            }
        }
        (Some("apidiscovery.k8s.io"), Some(version)) if kind == "APIGroupDiscoveryList" => match version {
            "v2" => Some(As::Discovery("v2")),
            "v2beta1" => Some(As::Discovery("v2beta1")),
            _ => None,
        },
        _ => None,
    }
}

/// 406. Protobuf, which Kubernetes lists too, is read and never written.
pub(crate) fn not_acceptable() -> Status {
    let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
                   application/json;stream=watch";
    Status::new(406, Reason::NotAcceptable, message).with(Details::default())
}

/// In which form a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Json,
    Yaml,
    Protobuf,
}

impl Sent {
    /// A body as it is handed on: protobuf becomes JSON.
    pub(crate) fn read(self, bytes: Bytes) -> Result<(Bytes, Media)> {
        match self {
            Sent::Json => Ok((bytes, Media::Json)),
            Sent::Yaml => Ok((bytes, Media::Yaml)),
            Sent::Protobuf => Ok((protobuf::to_json(&bytes)?.to_string().into(), Media::Json)),
        }
    }
}

/// In which form a body is.
pub(crate) fn of_body(headers: &HeaderMap) -> Result<Sent> {
    match content_type(headers)? {
        "" | "application/json" => Ok(Sent::Json),
        "application/yaml" | "application/x-yaml" => Ok(Sent::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Sent::Protobuf),
        _ => Err(unsupported()),
    }
}

/// 415 of a body that is no object in a form that is read.
fn unsupported() -> Status {
    let message = "the body of the request was in an unknown format - accepted media types include: \
                   application/json, application/yaml, application/vnd.kubernetes.protobuf";
    Status::new(415, Reason::UnsupportedMediaType, message)
}

/// How a patch is meant, and in which form it is.
pub(crate) fn of_patch(headers: &HeaderMap) -> Result<(PatchKind, Media)> {
    match content_type(headers)? {
        "application/json-patch+json" => Ok((PatchKind::Json, Media::Json)),
        "application/merge-patch+json" => Ok((PatchKind::Merge, Media::Json)),
        "application/strategic-merge-patch+json" => Ok((PatchKind::Strategic, Media::Json)),
        "application/apply-patch+yaml" => Ok((PatchKind::Apply, Media::Yaml)),
        _ => {
            let status = Status::new(415, Reason::UnsupportedMediaType, "415: Unsupported Media Type");
            Err(status.with(Details::default()))
        }
    }
}

/// The media type of a body without its parameters, empty when not told.
fn content_type(headers: &HeaderMap) -> Result<&str> {
    match headers.get(CONTENT_TYPE).map(http::HeaderValue::to_str) {
        None => Ok(""),
        Some(Ok(value)) => Ok(value.split(';').next().unwrap_or_default().trim()),
        Some(Err(_)) => Err(unsupported()),
    }
}

/// Whether JSON is to be written for people: on `pretty`, and for programs that people run by hand.
pub(crate) fn is_pretty(headers: &HeaderMap, query: &[(String, String)]) -> bool {
    if let Some((_, value)) = query.iter().find(|(name, _)| name == "pretty") {
        return !matches!(value.as_str(), "0" | "false" | "False" | "FALSE" | "f" | "F");
    }
    let agent = headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| ["curl", "Wget", "Mozilla/5.0"].iter().any(|name| agent.starts_with(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(name: http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    fn agreed(accept: &'static str) -> Result<Agreed> {
        agree(&headers(ACCEPT, accept), false, |what| matches!(what, As::Object | As::Table(_)))
    }

    #[test]
    fn the_first_that_is_served_is_taken() {
        assert_eq!(agreed("application/json").unwrap(), Agreed::JSON);
        assert_eq!(agreed("*/*").unwrap(), Agreed::JSON);
        assert_eq!(agreed("application/yaml").unwrap().form, Form::Yaml);
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;\
                       g=meta.k8s.io,application/json";
        assert_eq!(agreed(kubectl).unwrap().what, As::Table(Meta::V1));
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(agreed(old).unwrap().what, As::Table(Meta::V1Beta1));
        assert_eq!(agreed("application/json;as=Table;v=v2;g=meta.k8s.io").unwrap_err().code, 406);
        assert_eq!(agreed("application/vnd.kubernetes.protobuf, */*").unwrap(), Agreed::JSON);
        let later = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(agreed(later).unwrap().what, As::Object);
        assert_eq!(agreed("application/yaml;q=0.5,application/json;q=0.9").unwrap().form, Form::Json);
    }

    #[test]
    fn what_is_not_served_is_refused() {
        assert_eq!(agreed("text/csv").unwrap_err().code, 406);
        assert_eq!(agreed("application/vnd.kubernetes.protobuf").unwrap_err().code, 406);
        let watch = headers(ACCEPT, "application/yaml");
        assert_eq!(agree(&watch, true, |_| true).unwrap_err().code, 406);
    }

    #[test]
    fn bodies_and_patches_say_what_they_are() {
        assert_eq!(of_body(&HeaderMap::new()).unwrap(), Sent::Json);
        assert_eq!(of_body(&headers(CONTENT_TYPE, "application/json; charset=utf-8")).unwrap(), Sent::Json);
        assert_eq!(of_body(&headers(CONTENT_TYPE, "text/plain")).unwrap_err().code, 415);
        let json = of_patch(&headers(CONTENT_TYPE, "application/json")).unwrap_err();
        assert_eq!((json.code, json.message.as_str()), (415, "415: Unsupported Media Type"));
        let apply = of_patch(&headers(CONTENT_TYPE, "application/apply-patch+yaml")).unwrap();
        assert_eq!(apply, (PatchKind::Apply, Media::Yaml));
    }
}
