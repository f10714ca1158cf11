//! The evaluator. Each step costs what it costs in Kubernetes, and evaluation ends when the limit is reached.

use super::ast::{Comprehension, Expr, Kind, Literal, NOT_STRICTLY_FALSE};
use super::library;
use super::value::{List, Map, Text, Value};
use std::sync::Arc;

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It cost more than it may.
    Limit,
    /// In cel-go's words.
    Error(String),
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        Failure::Error(message.into())
    }
}

pub(crate) type Outcome<'a> = Result<Value<'a>, Failure>;

/// Evaluates an expression with variables, and counts what it costs.
pub(crate) struct Evaluator<'a> {
    scope: Vec<(&'a str, Value<'a>)>,
    cost: u64,
    limit: u64,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(variables: Vec<(&'a str, Value<'a>)>, limit: u64) -> Evaluator<'a> {
        Evaluator { scope: variables, cost: 0, limit }
    }

    /// What has been spent.
    pub(crate) fn cost(&self) -> u64 {
        self.cost
    }

    fn spend(&mut self, cost: u64) -> Result<(), Failure> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(Failure::Limit) } else { Ok(()) }
    }

    pub(crate) fn value(&mut self, expr: &'a Expr) -> Outcome<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(of_literal(literal)),
            Kind::Ident(name) => {
                self.spend(1)?;
                self.variable(name)
            }
            Kind::Select { operand, field, test: true } => {
                let operand = self.value(operand)?;
                present(&operand, field).map(Value::Bool)
            }
            Kind::Select { operand, field, test: false } => {
                let operand = self.value(operand)?;
                self.spend(1)?;
                select(&operand, field)
            }
            Kind::Call { function, target, args } => self.call(function, target.as_deref(), args),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Comprehension(loops) => self.comprehension(loops),
        }
    }

    fn variable(&self, name: &str) -> Outcome<'a> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        super::check::type_named(name)
            .map(|type_| Value::Type(library::type_name(&type_)))
            .ok_or_else(|| Failure::new(format!("no such attribute(s): {name}")))
    }

    fn call(&mut self, function: &'a str, target: Option<&'a Expr>, args: &'a [Expr]) -> Outcome<'a> {
        match (function, args) {
            ("_&&_", [left, right]) => return self.logical(left, right, false),
            ("_||_", [left, right]) => return self.logical(left, right, true),
            ("_?_:_", [condition, yes, no]) => {
                return match self.value(condition)? {
                    Value::Bool(true) => self.value(yes),
                    Value::Bool(false) => self.value(no),
                    _ => Err(Failure::new("no such overload")),
                };
            }
            (NOT_STRICTLY_FALSE, [arg]) => {
                let value = self.value(arg);
                self.spend(1)?;
                return match value {
                    Err(Failure::Limit) => Err(Failure::Limit),
                    value => Ok(Value::Bool(!matches!(value, Ok(Value::Bool(false))))),
                };
            }
            // Collecting loops: the list is taken out of its variable, so that it grows in place.
            ("_+_", [Expr { kind: Kind::Ident(name), .. }, item]) if name == super::ast::ACCUMULATOR => {
                return self.grow(name, item);
            }
            ("_[_]", [operand, index]) => {
                let (operand, index) = (self.value(operand)?, self.value(index)?);
                self.spend(1)?;
                return library::index(&operand, &index);
            }
            _ => {}
        }
        let target = target.map(|target| self.value(target)).transpose()?;
        // `or` and `orValue` look at their argument only if they need it.
        if let (Some(Value::Optional(Some(held))), "or" | "orValue") = (&target, function) {
            self.spend(1)?;
            return Ok(if function == "or" {
                Value::Optional(Some(Arc::clone(held)))
            } else {
                (**held).clone()
            });
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        values.extend(target);
        for arg in args {
            values.push(self.value(arg)?);
        }
        self.spend(library::cost(function, &values))?;
        library::call(function, &values)
    }

    /// The side that decides wins, even over an error of the other.
    fn logical(&mut self, left: &'a Expr, right: &'a Expr, decides: bool) -> Outcome<'a> {
        let left = self.value(left);
        match left {
            Err(Failure::Limit) => return left,
            Ok(Value::Bool(value)) if value == decides => return left,
            _ => {}
        }
        let right = self.value(right);
        match (left, right) {
            (_, Err(Failure::Limit)) => Err(Failure::Limit),
            (_, Ok(Value::Bool(value))) if value == decides => Ok(Value::Bool(value)),
            (Err(failure), _) => Err(failure),
            (Ok(Value::Bool(_)), Ok(Value::Bool(value))) => Ok(Value::Bool(value)),
            (Ok(Value::Bool(_)), Err(failure)) => Err(failure),
            _ => Err(Failure::new("no such overload")),
        }
    }

    fn grow(&mut self, name: &'a str, item: &'a Expr) -> Outcome<'a> {
        let item = self.value(item)?;
        self.spend(2)?;
        let slot = self.scope.iter_mut().rev().find(|(known, _)| *known == name);
        let Some((_, slot)) = slot else { return Err(Failure::new("no such attribute(s): @result")) };
        let accu = std::mem::replace(slot, Value::Null);
        match (accu, item) {
            (Value::List(List::Made(mut items)), Value::List(List::Made(more))) => {
                let list = Arc::make_mut(&mut items);
                list.extend(more.iter().cloned());
                Ok(Value::List(List::Made(items)))
            }
            (accu, item) => library::call("_+_", &[accu, item]),
        }
    }

    fn list(&mut self, items: &'a [(Expr, bool)]) -> Outcome<'a> {
        let mut out = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match (self.value(item)?, optional) {
                (Value::Optional(value), true) => out.extend(value.map(|value| (*value).clone())),
                (value, _) => out.push(value),
            }
        }
        self.spend(10)?;
        Ok(Value::list(out))
    }

    fn map(&mut self, entries: &'a [(Expr, Expr, bool)]) -> Outcome<'a> {
        let mut out: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let key = self.value(key)?;
            let value = match (self.value(value)?, optional) {
                (Value::Optional(None), true) => continue,
                (Value::Optional(Some(value)), true) => (*value).clone(),
                (value, _) => value,
            };
            if out.iter().any(|(known, _)| known.equals(&key)) {
                return Err(Failure::new(format!("duplicate key: {}", library::plain(&key))));
            }
            out.push((key, value));
        }
        self.spend(30)?;
        Ok(Value::Map(Map::Made(Arc::new(out))))
    }

    fn comprehension(&mut self, loops: &'a Comprehension) -> Outcome<'a> {
        let depth = self.scope.len();
        let out = self.rounds(loops);
        self.scope.truncate(depth);
        out
    }

    fn rounds(&mut self, loops: &'a Comprehension) -> Outcome<'a> {
        let depth = self.scope.len();
        let range = self.value(&loops.range)?;
        let init = self.value(&loops.init)?;
        if loops.is_binding() {
            self.scope.push((&loops.accu, init));
            return self.value(&loops.result);
        }
        let mut accu = Ok(init);
        let pairs = pairs(&range, loops.var2.is_some())?;
        for (key, value) in pairs {
            self.scope.truncate(depth);
            // An error that a loop carries is an error of its condition, which lets it go on.
            let carried = match accu {
                Ok(value) => value,
                Err(Failure::Limit) => return Err(Failure::Limit),
                Err(failure) => {
                    accu = self.after_error(loops, failure, (key, value));
                    continue;
                }
            };
            self.scope.push((&loops.accu, carried));
            self.scope.push((&loops.var, key));
            if let Some(var2) = &loops.var2 {
                self.scope.push((var2, value));
            }
            if let Ok(Value::Bool(false)) = self.condition(loops)? {
                accu = Ok(std::mem::replace(&mut self.scope[depth].1, Value::Null));
                break;
            }
            accu = self.value(&loops.step);
        }
        self.scope.truncate(depth);
        self.scope.push((&loops.accu, accu?));
        self.value(&loops.result)
    }

    fn condition(&mut self, loops: &'a Comprehension) -> Result<Outcome<'a>, Failure> {
        match self.value(&loops.condition) {
            Err(Failure::Limit) => Err(Failure::Limit),
            outcome => Ok(outcome),
        }
    }

    /// A round of `all` or `exists` after an error: the predicate alone may still decide. Other loops keep the error.
    fn after_error(
        &mut self,
        loops: &'a Comprehension,
        failure: Failure,
        pair: (Value<'a>, Value<'a>),
    ) -> Outcome<'a> {
        let (decides, predicate) = match &loops.step.kind {
            Kind::Call { function, args, .. } if function == "_&&_" => (false, args.get(1)),
            Kind::Call { function, args, .. } if function == "_||_" => (true, args.get(1)),
            _ => return Err(failure),
        };
        let depth = self.scope.len();
        self.scope.push((&loops.var, pair.0));
        if let Some(var2) = &loops.var2 {
            self.scope.push((var2, pair.1));
        }
        let outcome = predicate.map(|predicate| self.value(predicate));
        self.scope.truncate(depth);
        match outcome {
            Some(Err(Failure::Limit)) => Err(Failure::Limit),
            Some(Ok(Value::Bool(value))) if value == decides => Ok(Value::Bool(value)),
            _ => Err(failure),
        }
    }
}

/// What a loop runs over: with two variables keys and values, else the items of a list or the keys of a map (first).
fn pairs<'a>(range: &Value<'a>, two: bool) -> Result<Vec<(Value<'a>, Value<'a>)>, Failure> {
    match range {
        Value::List(list) if two => Ok((0..).map(Value::Int).zip(list.iter()).collect()),
        Value::List(list) => Ok(list.iter().map(|item| (item, Value::Null)).collect()),
        Value::Map(map) => Ok(map.entries()),
        other => Err(Failure::new(format!("got '{}', expected iterable type", other.type_name()))),
    }
}

/// `operand.field`.
pub(crate) fn select<'a>(operand: &Value<'a>, field: &str) -> Outcome<'a> {
    match operand {
        Value::Map(map) => map.field(field).ok_or_else(|| Failure::new(format!("no such key: {field}"))),
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(value)) => library::select_optional(value, field),
        _ => Err(Failure::new("no such overload")),
    }
}

/// `has(operand.field)`.
fn present(operand: &Value<'_>, field: &str) -> Result<bool, Failure> {
    match operand {
        Value::Map(map) => Ok(map.field(field).is_some()),
        Value::Optional(None) => Ok(false),
        Value::Optional(Some(value)) => present(value, field),
        _ => Err(Failure::new("no such overload")),
    }
}

fn of_literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Text::Made(Arc::clone(text))),
        Literal::Bytes(bytes) => Value::Bytes(Arc::clone(bytes)),
    }
}
