//! Refusals, as Kubernetes words them.

use super::field::FieldErrors;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::fmt;

/// So many of the things that are wrong with an object are told one by one.
const MOST_CAUSES: usize = 500;

/// What a request was refused with.
pub type Result<T> = std::result::Result<T, Status>;

/// `reason` of a status: for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own, and so is their meaning")]
pub enum Reason {
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
}

impl Reason {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Unknown => "",
            Reason::Unauthorized => "Unauthorized",
            Reason::Forbidden => "Forbidden",
            Reason::NotFound => "NotFound",
            Reason::AlreadyExists => "AlreadyExists",
            Reason::Conflict => "Conflict",
            Reason::Gone => "Gone",
            Reason::Invalid => "Invalid",
            Reason::ServerTimeout => "ServerTimeout",
            Reason::StoreReadError => "StorageReadError",
            Reason::Timeout => "Timeout",
            Reason::TooManyRequests => "TooManyRequests",
            Reason::BadRequest => "BadRequest",
            Reason::MethodNotAllowed => "MethodNotAllowed",
            Reason::NotAcceptable => "NotAcceptable",
            Reason::RequestEntityTooLarge => "RequestEntityTooLarge",
            Reason::UnsupportedMediaType => "UnsupportedMediaType",
            Reason::InternalError => "InternalError",
            Reason::Expired => "Expired",
            Reason::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}

/// One cause of a refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// For programs.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The field; may be empty.
    pub field: String,
}

/// What a refusal is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The object's name.
    pub name: String,
    /// The API group, empty for the core group.
    pub group: String,
    /// The resource (`pods`) or, in refusals of validation, the kind (`Pod`).
    pub kind: String,
    /// The object's uid.
    pub uid: String,
    /// Each cause.
    pub causes: Vec<Cause>,
    /// Seconds after which to try again; 0: not said.
    pub retry_after_seconds: u32,
}

/// A refusal, or (`kind: Status`, `status: Success`) what some deletions answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// What it is about. Boxed: refusals travel through many returns.
    pub details: Option<Box<Details>>,
}

impl Status {
    /// A refusal without details.
    #[must_use]
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Status {
        Status { code, reason, message: message.into(), details: None }
    }

    /// The same with details.
    #[must_use]
    pub fn with(mut self, details: Details) -> Status {
        self.details = Some(Box::new(details));
        self
    }

    /// 404 of an object: `pods "x" not found`.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} {name:?} not found", qualified(resource, group));
        Status::new(404, Reason::NotFound, message).with(about(group, resource, name))
    }

    /// 409 of a create: `pods "x" already exists`.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        let message = format!("{} {name:?} already exists", qualified(resource, group));
        Status::new(409, Reason::AlreadyExists, message).with(about(group, resource, name))
    }

    /// 409 of an update: `Operation cannot be fulfilled on pods "x": ...`.
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, cause: &str) -> Status {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {cause}", qualified(resource, group));
        Status::new(409, Reason::Conflict, message).with(about(group, resource, name))
    }

    /// 403: `pods "x" is forbidden: ...`; without a name `pods is forbidden: ...`.
    #[must_use]
    pub fn forbidden(group: &str, resource: &str, name: &str, cause: &str) -> Status {
        let resource_name = qualified(resource, group);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {cause}"),
            (false, true) => format!("{resource_name} is forbidden: {cause}"),
            (false, false) => format!("{resource_name} {name:?} is forbidden: {cause}"),
        };
        Status::new(403, Reason::Forbidden, message).with(about(group, resource, name))
    }

    /// 422 of validation: `Pod "x" is invalid: [...]`, with a cause for each error.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &FieldErrors) -> Status {
        let causes = errors
            .iter()
            .take(MOST_CAUSES)
            .map(|error| Cause {
                reason: error.kind.reason().to_owned(),
                message: error.body(),
                field: error.field.clone(),
            })
            .collect();
        let mut told = HashSet::new();
        let mut seen: Vec<String> = Vec::new();
        for error in errors.iter().take(MOST_CAUSES) {
            let text = error.to_string();
            // As Kubernetes' aggregate does: the same text is told once.
            if told.insert(text.clone()) {
                seen.push(text);
            }
        }
        if errors.len() > MOST_CAUSES {
            seen.push(format!("and {} more", errors.len() - MOST_CAUSES));
        }
        let what = if seen.len() == 1 { seen.remove(0) } else { format!("[{}]", seen.join(", ")) };
        let message = format!("{} {} is invalid: {what}", qualified(kind, group), super::field::quoted(name));
        Status::new(422, Reason::Invalid, message).with(Details { causes, ..about(group, kind, name) })
    }

    /// 400: what the client sent cannot be understood.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, Reason::BadRequest, message)
    }

    /// 401.
    #[must_use]
    pub fn unauthorized() -> Status {
        Status::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 410 of a watch or a continued list whose version is no longer kept.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, Reason::Expired, message)
    }

    /// 500: `Internal error occurred: ...`.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Status {
        let cause = cause.to_string();
        let message = format!("Internal error occurred: {cause}");
        let causes = vec![Cause { message: cause, ..Cause::default() }];
        Status::new(500, Reason::InternalError, message).with(Details { causes, ..Details::default() })
    }

    /// The body that a client gets.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": if self.code < 400 { "Success" } else { "Failure" },
            "code": self.code,
        });
        let map = status.as_object_mut().expect("written as an object above");
        put(map, "message", &self.message);
        put(map, "reason", self.reason.as_str());
        if let Some(details) = &self.details {
            map.insert("details".to_owned(), details.to_value());
        }
        status
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        put(&mut map, "name", &self.name);
        put(&mut map, "group", &self.group);
        put(&mut map, "kind", &self.kind);
        put(&mut map, "uid", &self.uid);
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(|cause| {
                let mut map = Map::new();
                put(&mut map, "reason", &cause.reason);
                put(&mut map, "message", &cause.message);
                put(&mut map, "field", &cause.field);
                Value::Object(map)
            });
            map.insert("causes".to_owned(), causes.collect());
        }
        if self.retry_after_seconds > 0 {
            map.insert("retryAfterSeconds".to_owned(), self.retry_after_seconds.into());
        }
        Value::Object(map)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// `deployments.apps`, or `pods` of the core group.
fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn about(group: &str, kind: &str, name: &str) -> Details {
    Details { name: name.to_owned(), group: group.to_owned(), kind: kind.to_owned(), ..Details::default() }
}

fn put(map: &mut Map<String, Value>, name: &str, value: &str) {
    if !value.is_empty() {
        map.insert(name.to_owned(), value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::field::{FieldError, Path};

    #[test]
    fn what_is_wrong_many_times_is_told_as_often_as_is_of_use() {
        let errors: FieldErrors =
            (0..100_000).map(|number| FieldError::invalid(&Path::new("a"), number, "no")).collect();
        let status = Status::invalid("", "ConfigMap", "x", &errors);
        assert_eq!(status.details.as_ref().unwrap().causes.len(), MOST_CAUSES);
        assert!(
            status.message.ends_with("a: Invalid value: 499: no, and 99500 more]"),
            "{}",
            status.message.len()
        );
        let same: FieldErrors = vec![FieldError::invalid(&Path::new("a"), 1, "no"); 2];
        assert_eq!(
            Status::invalid("", "X", "x", &same).message,
            "X \"x\" is invalid: a: Invalid value: 1: no"
        );
    }
}
