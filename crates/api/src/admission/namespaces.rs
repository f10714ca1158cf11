//! Objects are made in namespaces that are there and are not ending; some namespaces stay for ever.

use super::{Admission, Operation, Request, Reserved};
use crate::contract::{Cause, Result, Status};
use crate::registry::{BoxFuture, unavailable};
use crate::store::{Expect, Key, Write};

/// Namespaces that may not be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// What Kubernetes calls NamespaceLifecycle.
pub(super) struct Lifecycle;

impl Admission for Lifecycle {
    fn handles(&self, request: &Request<'_>) -> bool {
        if request.kind() == "namespaces" {
            return request.operation == Operation::Delete;
        }
        !request.target.namespace.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update)
            && request.target.resource.verbs.read
    }

    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(checked(request)))
    }

    fn reserve<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<Reserved>> {
        Box::pin(std::future::ready(stays(request)))
    }
}

/// A new object is kept as long as its namespace is there and stays: admission may have taken a while.
fn stays(request: &Request<'_>) -> Result<Reserved> {
    let mut reserved = Reserved::default();
    if request.operation == Operation::Create {
        let name = request.target.namespace.clone();
        let key = Key { resource: "namespaces".to_owned(), namespace: String::new(), name };
        // What is checked is of this revision or a later one, which the condition refuses.
        let found = request.registry.store().get(&key).map_err(unavailable)?;
        checked(request)?;
        let expect = Expect::Still(found.map_or(0, |stored| stored.revision));
        reserved.writes.push(Write { key, expect, value: None });
    }
    Ok(reserved)
}

/// Refuses an object where it is to be made in a namespace that is not there or is ending, and the end of those that stay.
fn checked(request: &Request<'_>) -> Result<()> {
    if request.operation == Operation::Delete {
        return if IMMORTAL.contains(&request.target.name.as_str()) {
            Err(request.forbidden("this namespace may not be deleted"))
        } else {
            Ok(())
        };
    }
    let name = request.target.namespace.as_str();
    let Some(namespace) = request.registry.peek("namespaces", "", name)? else {
        return Err(Status::not_found("", "namespaces", name));
    };
    if request.operation == Operation::Update || namespace.text(&["status", "phase"]) != "Terminating" {
        return Ok(());
    }
    let cause = format!("unable to create new content in namespace {name} because it is being terminated");
    let names = &request.target.resource.names;
    let mut status = Status::forbidden(&names.group, &names.plural, &request.name(), &cause);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(status)
}
