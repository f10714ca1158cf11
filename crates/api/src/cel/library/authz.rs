//! Questions to an authorizer: `authorizer.group('apps').resource('deployments').check('create').allowed()`.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::Value;
use std::fmt;
use std::sync::Arc;

pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
pub(crate) const PATH_CHECK: &str = "kubernetes.authorization.PathCheck";
pub(crate) const GROUP_CHECK: &str = "kubernetes.authorization.GroupCheck";
pub(crate) const RESOURCE_CHECK: &str = "kubernetes.authorization.ResourceCheck";
pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";

/// Who answers the questions of an expression.
pub(crate) trait Authorize: Send + Sync {
    /// Whether the one who asks may do something; with `account` (namespace and name) whether that service account may.
    fn decide(&self, account: Option<(&str, &str)>, what: &Check) -> Answer;

    /// What the request itself is about, as `authorizer.requestResource` begins with it.
    fn request_resource(&self) -> ResourceCheck;
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Path { path: String, verb: String },
    Resource(ResourceCheck),
}

/// What is asked of a resource. Empty: not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceCheck {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) field_selector: String,
    pub(crate) label_selector: String,
}

/// What an authorizer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
    pub(crate) error: Option<String>,
}

/// A question on its way, or its answer.
#[derive(Clone)]
pub(crate) enum Authz<'a> {
    Authorizer(Asked<'a>),
    Path(Asked<'a>, String),
    Group(Asked<'a>, String),
    Resource(Asked<'a>, ResourceCheck),
    Decision(Answer),
}

/// Who is asked, and of whom.
#[derive(Clone)]
pub(crate) struct Asked<'a> {
    by: &'a dyn Authorize,
    account: Option<(String, String)>,
}

impl<'a> Authz<'a> {
    /// `authorizer`.
    pub(crate) fn authorizer(by: &'a dyn Authorize) -> Value<'a> {
        Value::Authz(Arc::new(Authz::Authorizer(Asked { by, account: None })))
    }

    /// `authorizer.requestResource`.
    pub(crate) fn request_resource(by: &'a dyn Authorize) -> Value<'a> {
        let check = by.request_resource();
        Value::Authz(Arc::new(Authz::Resource(Asked { by, account: None }, check)))
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Authz::Authorizer(_) => AUTHORIZER,
            Authz::Path(..) => PATH_CHECK,
            Authz::Group(..) => GROUP_CHECK,
            Authz::Resource(..) => RESOURCE_CHECK,
            Authz::Decision(_) => DECISION,
        }
    }
}

impl fmt::Debug for Authz<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}

impl Asked<'_> {
    fn decide(&self, what: &Check) -> Answer {
        let account = self.account.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
        self.by.decide(account, what)
    }
}

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    let [Value::Authz(authz), rest @ ..] = args else { return None };
    let texts: Vec<&str> = rest.iter().filter_map(Value::as_str).collect();
    if texts.len() != rest.len() {
        return None;
    }
    Some(next(function, authz, &texts)?.map(|next| match next {
        Told::Authz(authz) => Value::Authz(Arc::from(authz)),
        Told::Bool(value) => Value::Bool(value),
        Told::Text(text) => Value::text(text),
    }))
}

enum Told<'a> {
    Authz(Box<Authz<'a>>),
    Bool(bool),
    Text(String),
}

fn next<'a>(function: &str, authz: &Authz<'a>, texts: &[&str]) -> Option<Result<Told<'a>, Failure>> {
    let refused = |message: &str| Some(Err(Failure::new(message)));
    Some(Ok(Told::Authz(Box::new(match (authz, function, texts) {
        (Authz::Authorizer(_), "path", [path]) if path.trim().is_empty() => {
            return refused("path must not be empty");
        }
        (Authz::Authorizer(asked), "path", [path]) => Authz::Path(asked.clone(), (*path).to_owned()),
        (Authz::Authorizer(asked), "group", [group]) => Authz::Group(asked.clone(), (*group).to_owned()),
        (Authz::Authorizer(asked), "serviceAccount", [namespace, name]) => {
            if !crate::contract::names::dns_subdomain(name, false).is_empty() {
                return refused("Invalid service account name");
            }
            if !crate::contract::names::dns_label(namespace, false).is_empty() {
                return refused("Invalid service account namespace");
            }
            let account = Some(((*namespace).to_owned(), (*name).to_owned()));
            Authz::Authorizer(Asked { by: asked.by, account })
        }
        (Authz::Group(..), "resource", [resource]) if resource.trim().is_empty() => {
            return refused("resource must not be empty");
        }
        (Authz::Group(asked, group), "resource", [resource]) => {
            let check = ResourceCheck {
                group: group.clone(),
                resource: (*resource).to_owned(),
                ..ResourceCheck::default()
            };
            Authz::Resource(asked.clone(), check)
        }
        (Authz::Resource(asked, check), "check", [verb]) => {
            let what = Check::Resource(ResourceCheck { verb: (*verb).to_owned(), ..check.clone() });
            Authz::Decision(asked.decide(&what))
        }
        (Authz::Resource(asked, check), function, [text]) => {
            let mut check = check.clone();
            let field = match function {
                "subresource" => &mut check.subresource,
                "namespace" => &mut check.namespace,
                "name" => &mut check.name,
                "fieldSelector" => &mut check.field_selector,
                "labelSelector" => &mut check.label_selector,
                _ => return None,
            };
            (*text).clone_into(field);
            Authz::Resource(asked.clone(), check)
        }
        (Authz::Path(asked, path), "check", [verb]) => {
            let what = Check::Path { path: path.clone(), verb: (*verb).to_owned() };
            Authz::Decision(asked.decide(&what))
        }
        (Authz::Decision(answer), function, []) => {
            return Some(Ok(match function {
                "allowed" => Told::Bool(answer.allowed),
                "errored" => Told::Bool(answer.error.is_some()),
                "error" => Told::Text(answer.error.clone().unwrap_or_default()),
                "reason" => Told::Text(answer.reason.clone()),
                _ => return None,
            }));
        }
        _ => return None,
    }))))
}

/// What a function of this library costs; `None` of others. Two questions are all that an expression can pay for.
pub(crate) fn cost(function: &str, args: &[Value<'_>]) -> Option<u64> {
    matches!(args, [Value::Authz(_), ..]).then(|| match function {
        "check" => 350_000,
        "fieldSelector" | "labelSelector" => {
            let length = args.get(1).map_or(0, Value::size);
            10 + length.div_ceil(10) + length.div_ceil(2).saturating_mul(50)
        }
        _ => 1,
    })
}
