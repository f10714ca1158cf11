//! Match conditions: expressions that have to hold before a webhook or a policy is asked.

use super::Request;
use super::shown::{self, Shown};
use crate::auth::{Attributes, Authorizer, ResourceAttributes};
use crate::cel::admission::{Given, Run, Scope};
use crate::cel::{Answer, Authorize, BUDGET_CONDITIONS, Check, Program, ResourceCheck, Value as Cel, Wanted};
use crate::contract::Result;
use crate::resource::Asker;
use serde_json::Value;

/// What is said where the expressions of one webhook or policy cost too much together.
pub(super) const SPENT: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// A compiled expression with its text.
pub(super) struct Expression {
    pub(super) source: String,
    pub(super) program: std::result::Result<Program, String>,
}

impl Expression {
    pub(super) fn new(scope: &Scope, source: &str, wanted: &[Wanted]) -> Expression {
        let program = scope.compile(source, wanted);
        Expression { source: source.trim().to_owned(), program }
    }

    /// Its value, or why there is none; `Err(None)` where the budget is spent.
    pub(super) fn run<'a>(&'a self, run: &mut Run<'a>) -> std::result::Result<Cel<'a>, Option<String>> {
        let program = self.program.as_ref().map_err(|error| Some(error.clone()))?;
        let value = run.value(program);
        if run.is_spent() {
            return Err(None);
        }
        value.map_err(|failure| Some(format!("expression '{}' resulted in error: {failure}", self.source)))
    }
}

/// The conditions of one webhook or policy.
#[derive(Default)]
pub(super) struct Conditions(Vec<Expression>);

impl Conditions {
    pub(super) fn new(scope: &Scope, list: &[Value]) -> Conditions {
        let text = |condition: &Value| {
            condition.get("expression").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Conditions(
            list.iter().map(|condition| Expression::new(scope, &text(condition), &[Wanted::Bool])).collect(),
        )
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold; one that does not settles it, whatever fails beside it.
    pub(super) fn hold(&self, scope: &Scope, given: Given<'_>) -> std::result::Result<bool, String> {
        let mut run = scope.run(given, BUDGET_CONDITIONS);
        let mut errors = Vec::new();
        for condition in &self.0 {
            match condition.run(&mut run) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => errors.push("the condition is no boolean".to_owned()),
                Err(Some(error)) => errors.push(error),
                Err(None) => return Err(SPENT.to_owned()),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }
}

/// Everything that expressions are given for a request.
pub(super) struct Inputs<'a> {
    pub(super) shown: &'a Shown,
    pub(super) namespace: Option<Value>,
    asked: Option<Asked<'a>>,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(
        request: &'a Request<'a>,
        shown: &'a Shown,
        authorizer: Option<&'a dyn Authorizer>,
    ) -> Result<Inputs<'a>> {
        let namespace = shown::namespace(request)?;
        Ok(Inputs { shown, namespace, asked: authorizer.map(|authorizer| Asked { authorizer, request }) })
    }

    /// The same for match conditions of webhooks, which see no namespace.
    pub(super) fn for_conditions(
        request: &'a Request<'a>,
        shown: &'a Shown,
        authorizer: Option<&'a dyn Authorizer>,
    ) -> Inputs<'a> {
        Inputs { shown, namespace: None, asked: authorizer.map(|authorizer| Asked { authorizer, request }) }
    }

    pub(super) fn given<'b>(&'b self, params: Option<&'b Value>) -> Given<'b> {
        Given {
            object: self.shown.object.as_ref(),
            old_object: self.shown.old.as_ref(),
            request: Some(&self.shown.request),
            namespace: self.namespace.as_ref(),
            params,
            authorizer: self.asked.as_ref().map(|asked| asked as &dyn Authorize),
        }
    }
}

/// The authorizer, as expressions ask it about who made a request.
struct Asked<'a> {
    authorizer: &'a dyn Authorizer,
    request: &'a Request<'a>,
}

impl Authorize for Asked<'_> {
    fn decide(&self, account: Option<(&str, &str)>, what: &Check) -> Answer {
        let account = account.map(|(namespace, name)| Asker {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            ..Asker::default()
        });
        let attributes = match what {
            Check::Path { path, verb } => Attributes::Path { verb: verb.clone(), path: path.clone() },
            Check::Resource(check) => Attributes::Resource(ResourceAttributes {
                verb: check.verb.clone(),
                group: check.group.clone(),
                version: "*".to_owned(),
                resource: check.resource.clone(),
                subresource: check.subresource.clone(),
                namespace: check.namespace.clone(),
                name: check.name.clone(),
            }),
        };
        let asker = account.as_ref().unwrap_or(&self.request.context.asker);
        let decision = self.authorizer.authorize(asker, &attributes);
        Answer { allowed: decision.is_allowed(), reason: decision.reason().to_owned(), error: None }
    }

    fn request_resource(&self) -> ResourceCheck {
        let target = self.request.target;
        ResourceCheck {
            group: target.resource.names.group.to_string(),
            resource: target.resource.names.plural.to_string(),
            subresource: self.request.subresource.to_owned(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            ..ResourceCheck::default()
        }
    }
}
