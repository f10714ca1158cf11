//! The evaluator. Each step costs what it costs in Kubernetes, and evaluation ends when the limit is reached: of cost, of
//! bytes that are made, or of bytes that are looked at.

use super::Program;
use super::ast::{Comprehension, Expr, Kind, Literal, NOT_STRICTLY_FALSE};
use super::lazy::Lazy;
use super::library::{self, regex};
use super::meter::Meter;
use super::value::{List, Map, Text, Value};
use ::regex::Regex;
use std::collections::HashMap;
use std::fmt;
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

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Limit => "operation cancelled: actual cost limit exceeded",
            Failure::Error(message) => message,
        })
    }
}

pub(crate) type Outcome<'a> = Result<Value<'a>, Failure>;

/// Evaluates a program with variables, and counts what it costs.
pub(crate) struct Evaluator<'r, 'a> {
    program: &'a Program,
    scope: Vec<(&'a str, Value<'a>)>,
    lazy: Option<&'r Lazy<'a>>,
    meter: Meter,
    /// Patterns that are known only while it is evaluated.
    patterns: HashMap<String, Result<Regex, String>>,
}

impl<'r, 'a> Evaluator<'r, 'a> {
    /// `lazy`: variables that are evaluated when they are first read.
    pub(crate) fn new(
        program: &'a Program,
        variables: Vec<(&'a str, Value<'a>)>,
        lazy: Option<&'r Lazy<'a>>,
    ) -> Evaluator<'r, 'a> {
        Evaluator { program, scope: variables, lazy, meter: Meter::default(), patterns: HashMap::new() }
    }

    /// The value of the program, and what that cost.
    pub(crate) fn whole(mut self) -> (Outcome<'a>, u64) {
        let value = self.value(&self.program.expr);
        (value, self.meter.cost())
    }

    fn value(&mut self, expr: &'a Expr) -> Outcome<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(of_literal(literal)),
            Kind::Ident(name) => {
                self.meter.spend(1)?;
                self.variable(name)
            }
            Kind::Select { operand, field, test: true } => {
                let operand = self.value(operand)?;
                present(&operand, field).map(Value::Bool)
            }
            Kind::Select { operand, field, test: false } => {
                let operand = self.value(operand)?;
                self.meter.spend(1)?;
                let found = select(&operand, field)?;
                self.meter.read(&found)?;
                Ok(found)
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
        if let Some(value) = self.lazy.and_then(|lazy| lazy.value(name)) {
            return value;
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
                self.meter.spend(1)?;
                return match value {
                    Err(Failure::Limit) => Err(Failure::Limit),
                    value => Ok(Value::Bool(!matches!(value, Ok(Value::Bool(false))))),
                };
            }
            // Collecting loops: what is collected is taken out of its variable, so that it grows in place.
            ("_+_", [Expr { kind: Kind::Ident(name), .. }, item]) if name == super::ast::ACCUMULATOR => {
                return self.grow(name, item);
            }
            ("cel.@mapInsert", [Expr { kind: Kind::Ident(name), .. }, more @ ..])
                if name == super::ast::ACCUMULATOR =>
            {
                return self.insert(name, more);
            }
            ("_[_]", [operand, index]) => {
                let (operand, index) = (self.value(operand)?, self.value(index)?);
                self.meter.spend(library::index_cost(&operand))?;
                let found = library::index(&operand, &index)?;
                self.meter.read(&found)?;
                return Ok(found);
            }
            _ => {}
        }
        let pattern = if target.is_some() { args.first() } else { args.get(1) };
        let target = target.map(|target| self.value(target)).transpose()?;
        // `or` and `orValue` look at their argument only if they need it.
        if let (Some(Value::Optional(Some(held))), "or" | "orValue") = (&target, function) {
            self.meter.spend(1)?;
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
        self.meter.spend(library::cost(function, &values))?;
        self.meter.makes(function, &values)?;
        if let (true, [Value::String(text), Value::String(written), rest @ ..], Some(pattern)) =
            (regex::takes_pattern(function), values.as_slice(), pattern)
        {
            return self.matched(function, text, (pattern.id, written), rest);
        }
        let made = library::call(function, &values)?;
        if function == "format" {
            self.meter.made(made.size())?;
        }
        Ok(made)
    }

    /// A function of a regular expression, which is compiled with the program where it is written there.
    fn matched(
        &mut self,
        function: &str,
        text: &str,
        pattern: (usize, &str),
        rest: &[Value<'a>],
    ) -> Outcome<'a> {
        let compiled = match self.program.patterns.get(&pattern.0) {
            Some(compiled) => Ok(compiled),
            None => {
                if !self.patterns.contains_key(pattern.1) {
                    self.meter.compiles(pattern.1)?;
                    self.patterns.insert(pattern.1.to_owned(), regex::compile(pattern.1));
                }
                self.patterns[pattern.1].as_ref().map_err(String::as_str)
            }
        };
        let found = regex::call(function, compiled, text, rest, self.meter.room())?;
        if let Value::List(list) = &found {
            self.meter.items(list.len())?;
        }
        Ok(found)
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

    /// Takes what a loop collects out of its variable.
    fn taken(&mut self, name: &str) -> Outcome<'a> {
        let slot = self.scope.iter_mut().rev().find(|(known, _)| *known == name);
        let Some((_, slot)) = slot else { return Err(Failure::new("no such attribute(s): @result")) };
        Ok(std::mem::replace(slot, Value::Null))
    }

    fn grow(&mut self, name: &'a str, item: &'a Expr) -> Outcome<'a> {
        let item = self.value(item)?;
        self.meter.spend(2)?;
        match (self.taken(name)?, item) {
            (Value::List(List::Made(mut items)), Value::List(List::Made(more))) => {
                self.meter.items(more.len())?;
                let list = Arc::make_mut(&mut items);
                list.extend(more.iter().cloned());
                Ok(Value::List(List::Made(items)))
            }
            (accu, item) => {
                let values = [accu, item];
                self.meter.makes("_+_", &values)?;
                library::call("_+_", &values)
            }
        }
    }

    fn insert(&mut self, name: &'a str, more: &'a [Expr]) -> Outcome<'a> {
        let mut values = Vec::with_capacity(more.len());
        for value in more {
            values.push(self.value(value)?);
        }
        let accu = self.taken(name)?;
        // In Kubernetes each round of a loop that makes a map copies it.
        self.meter.spend(accu.size().max(1).saturating_add(1))?;
        self.meter.items(2)?;
        match (accu, values.as_slice()) {
            (Value::Map(Map::Made(mut entries)), [key, value]) => {
                library::unique(&entries, key)?;
                Arc::make_mut(&mut entries).push((key.clone(), value.clone()));
                Ok(Value::Map(Map::Made(entries)))
            }
            (accu, _) => {
                values.insert(0, accu);
                self.meter.makes("cel.@mapInsert", &values)?;
                library::call("cel.@mapInsert", &values)
            }
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
        self.meter.spend(10)?;
        self.meter.items(out.len())?;
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
            // The last of equal keys counts.
            match out.iter_mut().find(|(known, _)| known.equals(&key)) {
                Some((_, held)) => *held = value,
                None => out.push((key, value)),
            }
        }
        self.meter.spend(30)?;
        self.meter.items(out.len() * 2)?;
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
        for (key, value) in pairs(&range, loops.var2.is_some())? {
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

/// Keys and values, one after the other.
type Pairs<'p, 'a> = Box<dyn Iterator<Item = (Value<'a>, Value<'a>)> + 'p>;

/// What a loop runs over: with two variables keys and values, else the items of a list or the keys of a map (first).
fn pairs<'p, 'a>(range: &'p Value<'a>, two: bool) -> Result<Pairs<'p, 'a>, Failure> {
    match range {
        Value::List(list) if two => Ok(Box::new((0..).map(Value::Int).zip(list.iter()))),
        Value::List(list) => Ok(Box::new(list.iter().map(|item| (item, Value::Null)))),
        Value::Map(map) => Ok(map.iter()),
        other => {
            let name = match other {
                Value::Null => "types.Null",
                Value::Bool(_) => "types.Bool",
                Value::Int(_) => "types.Int",
                Value::Uint(_) => "types.Uint",
                Value::Double(_) => "types.Double",
                Value::String(_) => "types.String",
                Value::Bytes(_) => "types.Bytes",
                other => other.type_name(),
            };
            Err(Failure::new(format!("got '{name}', expected iterable type")))
        }
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
        Value::Map(map) => Ok(match map.field(field) {
            // A field of an object that is null is as good as absent.
            Some(Value::Null) => !matches!(map, Map::Object(..)),
            found => found.is_some(),
        }),
        Value::Optional(None) => Ok(false),
        Value::Optional(Some(value)) => present(value, field),
        _ => Err(Failure::new("no such overload")),
    }
}

pub(crate) fn of_literal(literal: &Literal) -> Value<'_> {
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
