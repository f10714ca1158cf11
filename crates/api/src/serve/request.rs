//! A request, read as far as every answer needs it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::answer::{self, Style};
use super::media::{self, Agreed, As};
use super::metrics::Kind;
use super::path::{self, Meaning, ResourcePath};
use crate::auth::{Attributes, ResourceAttributes};
use crate::contract::{Details, Reason, Result, Status};
use crate::resource::Asker;

/// What is done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// In roles and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }

    /// Whether it changes nothing.
    pub(crate) fn is_read(self) -> bool {
        matches!(self, Verb::Get | Verb::List | Verb::Watch)
    }

    fn counted(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::List => "LIST",
            Verb::Watch => "WATCH",
            Verb::Create => "POST",
            Verb::Update => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
            Verb::DeleteCollection => "DELETECOLLECTION",
        }
    }
}

/// A request.
pub(crate) struct Call {
    pub(crate) parts: Parts,
    pub(crate) body: Content,
    pub(crate) meaning: Meaning,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) asker: Asker,
}

/// What came with a request.
pub(crate) enum Content {
    /// It is still to be read: of what may last, and of what is read by nobody.
    Coming(Incoming),
    /// All of it.
    Come(Bytes),
}

impl Content {
    /// How many bytes have come.
    pub(crate) fn len(&self) -> usize {
        match self {
            Content::Come(bytes) => bytes.len(),
            Content::Coming(_) => 0,
        }
    }

    /// All of it.
    pub(crate) fn come(self) -> Bytes {
        match self {
            Content::Come(bytes) => bytes,
            Content::Coming(_) => Bytes::new(),
        }
    }
}

/// As it is sent on.
impl http_body::Body for Content {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Content::Come(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Come(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Coming(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Come(bytes) => bytes.is_empty(),
            Content::Coming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Come(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Coming(body) => body.size_hint(),
        }
    }
}

/// Subresources that are counted by name: clients make up others.
const SUBRESOURCES: [&str; 14] = [
    "approval",
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "finalize",
    "log",
    "portforward",
    "proxy",
    "resize",
    "scale",
    "status",
    "token",
];

impl Call {
    /// Reads the path and the query of a request of `asker`.
    pub(crate) fn read(parts: Parts, asker: Asker) -> Result<Call> {
        let malformed = || Status::bad_request("the path or query holds an escape that is none");
        let meaning = path::read(parts.uri.path()).ok_or_else(malformed)?;
        let query = path::query(parts.uri.query().unwrap_or_default()).ok_or_else(malformed)?;
        Ok(Call { parts, body: Content::Come(Bytes::new()), meaning, query, asker })
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The first value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there and not false.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| !matches!(value, "0" | "false"))
    }

    /// What calls itself the client.
    pub(crate) fn agent(&self) -> &str {
        let agent = self.headers().get(http::header::USER_AGENT);
        agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default()
    }

    /// What is done with the resource of the path. `None` of a method that means nothing there.
    pub(crate) fn verb(&self) -> Option<Verb> {
        let Meaning::Resource(path) = &self.meaning else {
            return None;
        };
        let is_collection = path.name.is_empty();
        Some(match self.parts.method {
            Method::GET | Method::HEAD if is_collection => {
                if path.watch || self.flag("watch") {
                    Verb::Watch
                } else {
                    Verb::List
                }
            }
            Method::GET | Method::HEAD
                if path.watch || (path.subresource.is_empty() && self.flag("watch")) =>
            {
                Verb::Watch
            }
            Method::GET | Method::HEAD => Verb::Get,
            Method::POST => Verb::Create,
            Method::PUT => Verb::Update,
            Method::PATCH => Verb::Patch,
            Method::DELETE if is_collection => Verb::DeleteCollection,
            Method::DELETE => Verb::Delete,
            _ => return None,
        })
    }

    /// What an authorizer is asked.
    pub(crate) fn attributes(&self) -> Attributes {
        match &self.meaning {
            Meaning::Resource(path) => Attributes::Resource(ResourceAttributes {
                verb: self.verb().map_or_else(
                    || self.parts.method.as_str().to_ascii_lowercase(),
                    |verb| verb.name().to_owned(),
                ),
                group: path.group.clone(),
                version: path.version.clone(),
                resource: path.resource.clone(),
                subresource: path.subresource.clone(),
                namespace: path.namespace.clone(),
                name: self.name_asked(path),
            }),
            _ => Attributes::Path {
                verb: self.parts.method.as_str().to_ascii_lowercase(),
                path: self.parts.uri.path().to_owned(),
            },
        }
    }

    /// The name in the path, or the one to which a list or watch is restricted.
    fn name_asked(&self, path: &ResourcePath) -> String {
        if !path.name.is_empty() || !self.verb().is_some_and(Verb::is_read) {
            return path.name.clone();
        }
        let selector = self.parameter("fieldSelector").unwrap_or_default();
        let names = selector.split(',').find_map(|term| term.trim().strip_prefix("metadata.name="));
        names.map(|name| name.trim_start_matches('=').to_owned()).unwrap_or_default()
    }

    /// Under what it is counted. Names that no resource has are not told, for clients make them up.
    pub(crate) fn counted(&self, known: bool) -> Kind {
        match &self.meaning {
            Meaning::Resource(path) if known => Kind {
                verb: match path.subresource.as_str() {
                    "exec" | "attach" | "portforward" => "CONNECT",
                    "log" if self.flag("follow") => "CONNECT",
                    _ => self.verb().map_or("OTHER", Verb::counted),
                },
                group: path.group.clone(),
                version: path.version.clone(),
                resource: path.resource.clone(),
                subresource: if SUBRESOURCES.contains(&path.subresource.as_str()) {
                    path.subresource.clone()
                } else {
                    String::new()
                },
            },
            _ => Kind { verb: known_method(&self.parts.method), ..Kind::default() },
        }
    }

    /// How answers are written that are agreed to be in `form`.
    pub(crate) fn style(&self, agreed: Agreed) -> Style {
        Style {
            form: agreed.form,
            pretty: media::is_pretty(self.headers(), &self.query),
            gzip: answer::takes_gzip(self.headers()),
        }
    }

    /// How refusals are written: in the form that the client accepts, JSON if there is none.
    pub(crate) fn refusal_style(&self) -> Style {
        let agreed = media::agree(self.headers(), false, |what| matches!(what, As::Object));
        self.style(agreed.unwrap_or(Agreed::JSON))
    }

    /// The group and version that its path is of.
    pub(crate) fn group_version(&self) -> Option<(&str, &str)> {
        match &self.meaning {
            Meaning::Resource(path) => Some((&path.group, &path.version)),
            Meaning::Version(group, version) => Some((group, version)),
            _ => None,
        }
    }

    /// Whether it may last: a watch, a log that is followed, an upgraded connection.
    pub(crate) fn is_long_running(&self) -> bool {
        match &self.meaning {
            Meaning::Resource(path) => {
                self.verb() == Some(Verb::Watch)
                    || matches!(path.subresource.as_str(), "log" | "exec" | "attach" | "portforward")
            }
            _ => false,
        }
    }
}

fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// 404 of a path that no resource has.
pub(crate) fn no_such_resource() -> Status {
    let message = "the server could not find the requested resource";
    Status::new(404, Reason::NotFound, message).with(Details::default())
}

/// 405.
pub(crate) fn method_not_allowed() -> Status {
    let message = "the server does not allow this method on the requested resource";
    Status::new(405, Reason::MethodNotAllowed, message).with(Details::default())
}
