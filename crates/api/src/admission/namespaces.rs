//! Objects are made in namespaces that are there and are not ending; some namespaces stay for ever.

use super::{Admission, Operation, Request};
use crate::contract::{Cause, Result, Status};
use crate::registry::BoxFuture;

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
        Box::pin(std::future::ready(checked(request, &request.name())))
    }
}

/// Refuses `object` where it is to be made in a namespace that is not there or is ending, and the end of those that stay.
pub(crate) fn checked(request: &Request<'_>, object: &str) -> Result<()> {
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
    let mut status = Status::forbidden(&names.group, &names.plural, object, &cause);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(status)
}
