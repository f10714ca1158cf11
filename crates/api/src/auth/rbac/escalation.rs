//! Nobody gives away what he has not: who makes a role or binds one holds its rules himself, or may `escalate` or `bind`.

use std::sync::Arc;

use serde_json::Value;

use super::super::{Attributes, Authorizer as _, MASTERS, ResourceAttributes};
use super::policy::Reference;
use super::rule::missing;
use super::{Rbac, Rule};
use crate::admission::{Admission, Operation, Request};
use crate::contract::{Object, Result, Status};
use crate::registry::BoxFuture;
use crate::resource::Asker;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Looks at roles and bindings before they are kept.
pub struct Escalation(Arc<Rbac>);

impl Escalation {
    /// By the roles that `rbac` knows.
    #[must_use]
    pub fn new(rbac: Arc<Rbac>) -> Escalation {
        Escalation(rbac)
    }

    fn look(&self, request: &Request<'_>) -> Result<()> {
        let (asker, target) = (&request.context.asker, request.target);
        let Some(object) = &request.object else { return Ok(()) };
        if asker.groups.iter().any(|group| group == MASTERS) || is_unchanged(object, request.old) {
            return Ok(());
        }
        let plural = target.resource.names.plural.as_ref();
        let may = |verb: &str, resource: &str, name: &str| {
            let wanted = Attributes::Resource(ResourceAttributes {
                verb: verb.to_owned(),
                group: GROUP.to_owned(),
                version: "*".to_owned(),
                resource: resource.to_owned(),
                subresource: String::new(),
                namespace: target.namespace.clone(),
                name: name.to_owned(),
            });
            self.0.authorize(asker, &wanted).is_allowed()
        };
        let wanted: Vec<Rule> = if plural.ends_with("bindings") {
            let role = Reference::of(object);
            let resource = if role.kind == "Role" { "roles" } else { "clusterroles" };
            if may("bind", resource, &role.name) {
                return Ok(());
            }
            match self.0.rules_of(&role, &target.namespace) {
                Some(rules) => rules.to_vec(),
                None => return Err(Status::not_found(GROUP, resource, &role.name)),
            }
        } else {
            if may("escalate", plural, &target.name) {
                return Ok(());
            }
            let own = object.0.get("rules").and_then(Value::as_array).into_iter().flatten().map(Rule::read);
            // What it selects may be anything, now or later.
            let selects = |role: &Object| role.0.get("aggregationRule").is_some_and(|rule| !rule.is_null());
            let selects = selects(object) || request.old.is_some_and(selects);
            own.chain(selects.then(Rule::everything).into_iter().flatten()).collect()
        };
        let (own, problems) = self.0.rules_for(asker, &target.namespace);
        let lacking = missing(&own, &wanted);
        if lacking.is_empty() { Ok(()) } else { Err(request.forbidden(&refusal(asker, &lacking, &problems))) }
    }
}

impl Admission for Escalation {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.target.resource.names.group == GROUP
            && matches!(request.operation, Operation::Create | Operation::Update)
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(self.look(request)))
    }
}

/// Whether an update changes nothing but what garbage collection does. Labels count: by them roles are gathered in others.
fn is_unchanged(object: &Object, old: Option<&Object>) -> bool {
    const COLLECTION: [&str; 5] =
        ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"];
    let of_interest = |object: &Object| {
        let mut object = object.clone();
        let metadata = object.metadata_mut();
        COLLECTION.iter().for_each(|field| drop(metadata.remove(*field)));
        object
    };
    old.is_some_and(|old| of_interest(object) == of_interest(old))
}

fn refusal(asker: &Asker, lacking: &[String], problems: &[String]) -> String {
    let groups: Vec<String> =
        asker.groups.iter().map(|group| crate::contract::field::quoted(group)).collect();
    let user = crate::contract::field::quoted(&asker.user);
    let mut text = format!(
        "user {user} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        groups.join(" "),
        lacking.join("\n")
    );
    if !problems.is_empty() {
        text.push_str(&format!("; resolution errors: [{}]", problems.join(", ")));
    }
    text
}
