//! What has its say before something is kept: it changes objects, or refuses them.
//!
//! [`Admission::admit`] sees an object with its defaults, before the rules of its kind; [`Admission::validate`] sees it after
//! them, and changes nothing. [`builtin`] are those of the server itself, in their order.

pub(crate) mod amounts;
mod cached;
mod conditions;
mod limits;
mod matching;
mod namespaces;
mod pod_security;
mod pods;
mod policies;
pub(crate) mod quota;
mod reinvocation;
mod runtime_classes;
mod service_accounts;
mod shown;
mod volumes;
mod webhooks;

use crate::auth::Authorizer;
use crate::contract::{Object, Result, Status};
use crate::registry::{BoxFuture, Context, Registry, Target, Turn};
use crate::store::Write;
use reinvocation::Reinvocation;
use std::sync::Arc;

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// Somebody connects to it (exec, attach, port-forward, proxy).
    Connect,
}

/// What is to be admitted.
pub struct Request<'a> {
    /// Where the objects are.
    pub registry: &'a Registry,
    /// Who asks, and how.
    pub context: &'a Context,
    /// What is done.
    pub operation: Operation,
    /// To what; the name is empty at a create that leaves it to the server.
    pub target: &'a Target,
    /// Through which subresource; empty for the object itself.
    pub subresource: &'a str,
    /// The object as it is to be; `None` of a deletion.
    pub object: Option<Object>,
    /// The object as it is; `None` of a create.
    pub old: Option<&'a Object>,
    /// Group with version and kind of the object, where they are not the resource's own: those of an eviction.
    pub shown_as: Option<(&'static str, &'static str)>,
    /// Who is asked once more.
    pub(crate) reinvocation: Reinvocation,
}

/// What is kept together with an object: in the same transaction, or not at all.
#[derive(Default)]
pub struct Reserved {
    /// The writes.
    pub writes: Vec<Write>,
    /// Held until they are kept.
    pub turns: Vec<Turn>,
}

impl<'a> Request<'a> {
    /// A request without objects.
    #[must_use]
    pub fn new(
        registry: &'a Registry,
        context: &'a Context,
        operation: Operation,
        target: &'a Target,
        subresource: &'a str,
    ) -> Request<'a> {
        let (object, old, shown_as) = (None, None, None);
        let reinvocation = Reinvocation::default();
        Request { registry, context, operation, target, subresource, object, old, shown_as, reinvocation }
    }

    /// The name under which objects of the kind are kept.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.target.resource.stored_as
    }

    /// Whether it is `operation` on the objects of a kind themselves.
    #[must_use]
    pub fn is(&self, operation: Operation, stored_as: &str) -> bool {
        self.operation == operation && self.subresource.is_empty() && self.kind() == stored_as
    }

    /// 403 with a cause, in the words of Kubernetes' admission.
    #[must_use]
    pub fn forbidden(&self, cause: &str) -> Status {
        let names = &self.target.resource.names;
        Status::forbidden(&names.group, &names.plural, &self.name(), cause)
    }

    /// The name as refusals tell it: the server has not made one up yet.
    #[must_use]
    pub fn name(&self) -> String {
        if !self.target.name.is_empty() {
            return self.target.name.clone();
        }
        let object = self.object.as_ref();
        let name = object.map(Object::name).filter(|name| !name.is_empty());
        let base = object.map(|object| object.text(&["metadata", "generateName"]));
        name.or(base.filter(|base| !base.is_empty())).unwrap_or("Unknown").to_owned()
    }
}

/// Somebody who has a say.
pub trait Admission: Send + Sync {
    /// Whether it has something to say to such a request at all.
    fn handles(&self, request: &Request<'_>) -> bool;

    /// Changes the object, or refuses the request.
    fn admit<'a>(&'a self, request: &'a mut Request<'_>) -> BoxFuture<'a, Result<()>> {
        let _ = request;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Refuses the request, or lets it go.
    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        let _ = request;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Says what is to be kept together with the object, or refuses the request. It is asked last, and again where what it
    /// said was overtaken.
    fn reserve<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<Reserved>> {
        let _ = request;
        Box::pin(std::future::ready(Ok(Reserved::default())))
    }
}

/// Whether objects of a kind say who has a say: about them nobody else has one.
pub(crate) fn is_configuration(kind: &str) -> bool {
    kind.ends_with(".admissionregistration.k8s.io")
}

/// Those of the server itself, in their order. Expressions of webhooks and policies may ask `authorizer`.
#[must_use]
pub fn builtin(authorizer: Option<&Arc<dyn Authorizer>>) -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(namespaces::Lifecycle),
        Arc::new(limits::Limits),
        Arc::new(service_accounts::ServiceAccounts),
        Arc::new(pod_security::PodSecurity),
        Arc::new(pods::Priority),
        Arc::new(pods::Tolerations),
        Arc::new(volumes::DefaultClass),
        Arc::new(volumes::InUse),
        Arc::new(runtime_classes::RuntimeClasses),
        Arc::new(webhooks::Mutating::new(authorizer.cloned())),
        Arc::new(policies::Policies::new(authorizer.cloned())),
        Arc::new(webhooks::Validating::new(authorizer.cloned())),
        Arc::new(quota::Quota),
    ]
}

impl Registry {
    /// Asks everybody who may change the object.
    pub(crate) async fn admit(&self, request: &mut Request<'_>) -> Result<()> {
        loop {
            for admission in self.admission() {
                if admission.handles(request) {
                    admission.admit(request).await?;
                }
            }
            // What a webhook put in gets its defaults from the others as well.
            if !request.reinvocation.begin() {
                return Ok(());
            }
        }
    }

    /// Asks everybody who may refuse it.
    pub(crate) async fn validate(&self, request: &Request<'_>) -> Result<()> {
        for admission in self.admission() {
            if admission.handles(request) {
                admission.validate(request).await?;
            }
        }
        Ok(())
    }

    /// What everybody wants to be kept together with the object.
    pub(crate) async fn reserve(&self, request: &Request<'_>) -> Result<Reserved> {
        let mut all = Reserved::default();
        for admission in self.admission() {
            if admission.handles(request) {
                let reserved = admission.reserve(request).await?;
                all.writes.extend(reserved.writes);
                all.turns.extend(reserved.turns);
            }
        }
        Ok(all)
    }
}
