//! A policy and its bindings, read and compiled once.

use super::super::conditions::{Conditions, Expression, Inputs, SPENT};
use super::super::matching::Matching;
use crate::cel::admission::{Run, Scope};
use crate::cel::{BUDGET, Value as Cel, Wanted};
use crate::contract::Object;
use serde_json::Value;

/// The longest text that a `messageExpression` may give.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// A ValidatingAdmissionPolicy.
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) matching: Matching,
    /// `apiVersion` and `kind` of what it is given.
    pub(super) param_kind: Option<(String, String)>,
    /// `failurePolicy: Ignore`.
    pub(super) ignores: bool,
    /// With the authorizer, for what decides.
    scope: Scope,
    /// Without it, for messages and notes.
    telling: Scope,
    conditions: Conditions,
    validations: Vec<Validation>,
    notes: Vec<(String, Expression)>,
}

struct Validation {
    rule: Expression,
    message: String,
    told: Option<Expression>,
    reason: String,
}

/// A ValidatingAdmissionPolicyBinding.
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) matching: Matching,
    /// `paramRef`.
    pub(super) params: Option<Value>,
    /// `validationActions`.
    pub(super) actions: Vec<String>,
}

/// What one validation came to.
pub(super) enum Decision {
    Admit,
    Deny { message: String, reason: String },
}

/// What a policy says of a request.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) decisions: Vec<Decision>,
    /// Notes that failed, where that refuses.
    pub(super) errors: Vec<String>,
    /// For the audit log.
    pub(super) notes: Vec<(String, String)>,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Object, field: &str) -> &'a [Value] {
    object.at(&["spec", field]).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Binding {
    pub(super) fn read(object: &Object) -> Binding {
        let actions = list(object, "validationActions").iter().filter_map(Value::as_str);
        let none = Value::Null;
        Binding {
            name: object.name().to_owned(),
            policy: object.text(&["spec", "policyName"]).to_owned(),
            matching: Matching::of_policy(object.at(&["spec", "matchResources"]).unwrap_or(&none)),
            params: object.at(&["spec", "paramRef"]).filter(|value| value.is_object()).cloned(),
            actions: actions.map(str::to_owned).collect(),
        }
    }
}

impl Policy {
    pub(super) fn read(object: &Object) -> Policy {
        let kind = object.at(&["spec", "paramKind"]).filter(|value| value.is_object());
        let kind = kind.map(|kind| (text(kind, "apiVersion").to_owned(), text(kind, "kind").to_owned()));
        let (mut scope, mut telling) = (Scope::new(kind.is_some(), true), Scope::new(kind.is_some(), false));
        let conditions = Conditions::new(&scope, list(object, "matchConditions"));
        for variable in list(object, "variables") {
            for scope in [&mut scope, &mut telling] {
                // What does not compile fails where it is read.
                let _ = scope.define(text(variable, "name"), text(variable, "expression"));
            }
        }
        let validation = |told: &Value| Validation {
            rule: Expression::new(&scope, text(told, "expression"), &[Wanted::Bool]),
            message: text(told, "message").trim().to_owned(),
            told: Some(text(told, "messageExpression"))
                .filter(|source| !source.is_empty())
                .map(|source| Expression::new(&telling, source, &[Wanted::String])),
            reason: text(told, "reason").to_owned(),
        };
        let validations = list(object, "validations").iter().map(validation).collect();
        let notes = list(object, "auditAnnotations").iter().map(|told| {
            let wanted = [Wanted::String, Wanted::Null];
            let value = Expression::new(&telling, text(told, "valueExpression"), &wanted);
            (text(told, "key").to_owned(), value)
        });
        let notes = notes.collect();
        let none = Value::Null;
        Policy {
            name: object.name().to_owned(),
            matching: Matching::of_policy(object.at(&["spec", "matchConstraints"]).unwrap_or(&none)),
            param_kind: kind,
            ignores: object.text(&["spec", "failurePolicy"]) == "Ignore",
            conditions,
            validations,
            notes,
            scope,
            telling,
        }
    }

    /// What an error comes to.
    fn failed(&self, message: String) -> Decision {
        if self.ignores { Decision::Admit } else { Decision::Deny { message, reason: String::new() } }
    }

    /// Judges a request with one of the objects that it is given.
    pub(super) fn run(&self, inputs: &Inputs<'_>, params: Option<&Value>) -> Outcome {
        let given = inputs.given(params);
        if !self.conditions.is_empty() {
            match self.conditions.hold(&self.scope, given) {
                Ok(true) => {}
                Ok(false) => return Outcome::default(),
                Err(message) => {
                    return Outcome { decisions: vec![self.failed(message)], ..Outcome::default() };
                }
            }
        }
        let mut run = self.scope.run(given, BUDGET);
        let mut telling = self.telling.run(given, BUDGET);
        let mut outcome = Outcome::default();
        for validation in &self.validations {
            let decision = match validation.rule.run(&mut run) {
                Ok(Cel::Bool(true)) => Decision::Admit,
                Ok(_) => Decision::Deny {
                    message: validation.message(&mut telling),
                    reason: validation.reason.clone(),
                },
                Err(Some(message)) => self.failed(message),
                // Nothing that was found before counts any more.
                Err(None) => {
                    outcome.decisions = vec![self.failed(SPENT.to_owned())];
                    return outcome;
                }
            };
            outcome.decisions.push(decision);
        }
        let mut noting = self.telling.run(given, BUDGET);
        for (key, expression) in &self.notes {
            let value = expression.run(&mut noting);
            match value {
                Ok(value) => {
                    let text = value.as_str().map(str::trim).unwrap_or_default();
                    if !text.is_empty() {
                        outcome.notes.push((key.clone(), text.to_owned()));
                    }
                }
                Err(_) if self.ignores => {}
                Err(error) => outcome.errors.push(error.unwrap_or_else(|| SPENT.to_owned())),
            }
        }
        outcome
    }
}

impl Validation {
    /// Why it does not hold: what its message expression says, else its message, else the rule itself.
    fn message<'a>(&'a self, telling: &mut Run<'a>) -> String {
        let told = self.told.as_ref().and_then(|told| told.run(telling).ok());
        let told = told.as_ref().and_then(|value| value.as_str()).map(str::trim);
        let told =
            told.filter(|text| !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n'));
        match (told, self.message.as_str()) {
            (Some(text), _) => text.to_owned(),
            (None, "") => format!("failed expression: {}", self.rule.source),
            (None, message) => message.to_owned(),
        }
    }
}
