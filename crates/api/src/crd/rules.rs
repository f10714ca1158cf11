//! The rules (`x-kubernetes-validations`) of a schema: compiled once, run over objects.

use super::fieldpath;
use super::ratchet::Old;
use super::schema::{Props, Rule, declared};
use crate::cel::types::Declared;
use crate::cel::{BUDGET, Failure, Program, Value as Cel, Wanted};
use crate::contract::field::{ErrorKind, FieldError, FieldErrors, Path};
use serde_json::Value;
use std::collections::BTreeMap;

/// The longest text that a `messageExpression` may give.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// The rules at and below one node of a schema.
#[derive(Debug)]
pub(super) struct Rules {
    declared: Option<Declared>,
    rules: Vec<Compiled>,
    items: Option<Box<Rules>>,
    values: Option<Box<Rules>>,
    properties: BTreeMap<String, Rules>,
}

/// One rule.
#[derive(Debug)]
struct Compiled {
    rule: Rule,
    program: Result<Program, String>,
    message: Option<Program>,
    /// Where its errors point to, below the node.
    at: String,
}

impl Rules {
    /// The rules of a schema; `None` where it has none. `root`: of the whole resource.
    pub(super) fn compile(props: &Props, root: bool) -> Option<Rules> {
        if !props.has_rules() {
            return None;
        }
        let declared = declared(props, root, "selfType");
        let rules = declared
            .as_ref()
            .map(|declared| props.rules.iter().map(|rule| compiled(rule, props, declared)).collect());
        let below = |props: &Props| Rules::compile(props, props.embedded);
        Some(Rules {
            rules: rules.unwrap_or_default(),
            items: props.items.as_deref().and_then(below).map(Box::new),
            values: props.values().and_then(below).map(Box::new),
            properties: props
                .properties
                .iter()
                .filter_map(|(name, props)| Some((name.clone(), below(props)?)))
                .collect(),
            declared,
        })
    }

    /// Runs all rules over `value`.
    pub(super) fn validate(&self, props: &Props, value: &Value, path: &Path, old: Old<'_>) -> FieldErrors {
        let mut runner = Runner { errors: FieldErrors::new(), budget: BUDGET };
        // Out of budget: what has been found stands.
        let _ = runner.node(self, props, value, path, Seen { old, own: old, nearest: None });
        runner.errors
    }
}

fn compiled(rule: &Rule, props: &Props, declared: &Declared) -> Compiled {
    let optional = rule.optional_old_self == Some(true);
    let program = Program::compile(&rule.rule, declared, optional, Wanted::Bool);
    let message = (!rule.message_expression.is_empty())
        .then(|| Program::compile(&rule.message_expression, declared, optional, Wanted::String).ok())
        .flatten();
    let at = fieldpath::find(&rule.field_path, props, true).map(|found| found.path).unwrap_or_default();
    Compiled { rule: rule.clone(), program, message, at }
}

struct Runner {
    errors: FieldErrors,
    budget: u64,
}

/// The budget is spent: no further rule runs.
struct Spent;

/// What was there before: `old` for `oldSelf`; for ratcheting `own`, or where that cannot be told the nearest value above
/// that can, with what it is now.
#[derive(Clone, Copy)]
struct Seen<'a> {
    old: Old<'a>,
    own: Old<'a>,
    nearest: Option<(Old<'a>, &'a Value)>,
}

impl<'a> Seen<'a> {
    fn below(self, value: &'a Value, old: Old<'a>, own: Old<'a>) -> Seen<'a> {
        let nearest = if self.own.value().is_some() { Some((self.own, value)) } else { self.nearest };
        Seen { old, own, nearest }
    }

    /// Whether an update did not change the value.
    fn is_same(&self, value: &Value) -> bool {
        match self.own.value() {
            Some(_) => self.own.is_same(value),
            None => self.nearest.is_some_and(|(old, value)| old.is_same(value)),
        }
    }
}

impl Runner {
    fn node<'v>(
        &mut self,
        rules: &Rules,
        props: &Props,
        value: &'v Value,
        path: &Path,
        seen: Seen<'v>,
    ) -> Result<(), Spent> {
        if value.is_null() {
            return Ok(());
        }
        if !rules.rules.is_empty() {
            self.own(rules, props, value, path, seen)?;
        }
        match value {
            Value::Array(items) => {
                let (Some(below), Some(schema)) = (&rules.items, &props.items) else { return Ok(()) };
                let (olds, owns) = (seen.old.items(props), seen.own.items(props));
                for (index, item) in items.iter().enumerate() {
                    let (old, own) = (olds.of(item), owns.of(item));
                    self.node(below, schema, item, &path.index(index), seen.below(value, old, own))?;
                }
            }
            Value::Object(map) => {
                for (key, inner) in map {
                    let (old, own) =
                        (Old::of(seen.old.value().and_then(|old| old.get(key))), seen.own.key(key));
                    if let (Some(below), Some(schema)) = (&rules.values, props.values()) {
                        self.node(below, schema, inner, &path.key(key), seen.below(value, old, own))?;
                    }
                    if let (Some(below), Some(schema)) =
                        (rules.properties.get(key), props.properties.get(key))
                    {
                        self.node(below, schema, inner, &path.child(key), seen.below(value, old, own))?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn own(
        &mut self,
        rules: &Rules,
        props: &Props,
        value: &Value,
        path: &Path,
        seen: Seen<'_>,
    ) -> Result<(), Spent> {
        let declared = rules.declared.as_ref();
        let old = seen.old.value().filter(|old| !old.is_null());
        for compiled in &rules.rules {
            let program = match &compiled.program {
                Ok(program) => program,
                Err(message) => {
                    self.failed(props, path, format!("rule compile error: {message}"));
                    continue;
                }
            };
            let optional = compiled.rule.optional_old_self == Some(true);
            if program.reads("oldSelf") && old.is_none() && !optional {
                continue;
            }
            let before = old.map(|old| Cel::of(old, declared));
            let before = if optional { Some(Cel::optional(before)) } else { before };
            let (outcome, cost) = program.run(Cel::of(value, declared), before.clone());
            self.spend(cost, props, path, "validation failed")?;
            match outcome {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    let error = self.broken(compiled, props, value, path, (declared, before))?;
                    // What breaks a rule and has not changed may stay.
                    if program.reads("oldSelf") || !seen.is_same(value) {
                        self.errors.push(error);
                    }
                }
                Err(failure) => self.crashed(compiled, props, path, failure)?,
            }
        }
        Ok(())
    }

    fn spend(&mut self, cost: u64, props: &Props, path: &Path, what: &str) -> Result<(), Spent> {
        match self.budget.checked_sub(cost) {
            Some(left) => {
                self.budget = left;
                Ok(())
            }
            None => {
                let rest = "due to running out of cost budget, no further validation rules will be run";
                self.failed(props, path, format!("{what} {rest}"));
                Err(Spent)
            }
        }
    }

    fn failed(&mut self, props: &Props, path: &Path, detail: String) {
        self.errors.push(FieldError::invalid(path, props.type_.as_str(), detail));
    }

    fn crashed(
        &mut self,
        compiled: &Compiled,
        props: &Props,
        path: &Path,
        failure: Failure,
    ) -> Result<(), Spent> {
        let rule = told(&compiled.rule);
        match failure {
            Failure::Limit => {
                let detail = format!(
                    "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: {rule}"
                );
                self.failed(props, path, detail);
                return Err(Spent);
            }
            Failure::Error(message) if message.starts_with("no such overload") => {
                let detail = format!(
                    "'{message}': call arguments did not match a supported operator, function or macro signature for rule: {rule}"
                );
                self.failed(props, path, detail);
            }
            Failure::Error(message) => self.failed(props, path, format!("{message} evaluating rule: {rule}")),
        }
        Ok(())
    }

    /// The error of a rule that does not hold.
    fn broken<'a>(
        &mut self,
        compiled: &'a Compiled,
        props: &Props,
        value: &'a Value,
        path: &Path,
        (declared, before): (Option<&'a Declared>, Option<Cel<'a>>),
    ) -> Result<FieldError, Spent> {
        let at = if compiled.at.is_empty() { path.clone() } else { below(path, &compiled.at) };
        let mut detail = None;
        if let Some(program) = &compiled.message {
            let (outcome, cost) = program.run(Cel::of(value, declared), before);
            self.spend(cost, props, &at, "messageExpression evaluation failed")?;
            if outcome.as_ref().is_err_and(|failure| *failure == Failure::Limit) {
                let source = crate::contract::field::quoted(&compiled.rule.message_expression);
                let detail = format!(
                    "no further validation rules will be run due to call cost exceeds limit for messageExpression: {source}"
                );
                self.failed(props, &at, detail);
                return Err(Spent);
            }
            detail = outcome.ok().and_then(|value| message(&value));
        }
        let detail = detail.unwrap_or_else(|| match compiled.rule.message.trim() {
            "" => format!("failed rule: {}", told(&compiled.rule)),
            message => message.to_owned(),
        });
        Ok(error(&at, &compiled.rule, props, value, detail))
    }
}

fn error(at: &Path, rule: &Rule, props: &Props, value: &Value, detail: String) -> FieldError {
    let shown = match props.type_.as_str() {
        "object" | "array" => None,
        _ => FieldError::duplicate(at, value.clone()).shown,
    };
    let (kind, shown, detail) = match rule.reason.as_deref() {
        Some("FieldValueForbidden") => (ErrorKind::Forbidden, None, detail),
        Some("FieldValueRequired") => (ErrorKind::Required, None, detail),
        Some("FieldValueDuplicate") => (ErrorKind::Duplicate, shown, String::new()),
        _ => (ErrorKind::Invalid, shown, detail),
    };
    FieldError { kind, field: at.as_str().to_owned(), shown, detail }
}

/// The path that `fieldPath` names (`.spec.x`, `.map[key]`) below another.
fn below(path: &Path, at: &str) -> Path {
    path.child(at.trim_start_matches('.'))
}

/// What a message expression said, if it may be told.
fn message(value: &Cel<'_>) -> Option<String> {
    let text = value.as_str()?.trim();
    (!text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n')).then(|| text.to_owned())
}

/// How errors name a rule: by its message, or as it is written.
fn told(rule: &Rule) -> &str {
    if rule.message.is_empty() { rule.rule.trim() } else { rule.message.trim() }
}
