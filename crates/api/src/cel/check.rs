//! The type checker: what type each node has, and every complaint.

use super::ast::{Comprehension, Expr, Kind, Literal};
use super::functions::{self, Signature};
use super::issues::Issue;
use super::types::{Bindings, Type};

/// Of how many parts a type may be made.
const PARTS: usize = 200;

/// The types of all nodes, by their number.
pub(crate) struct Types(pub(crate) Vec<Type>);

impl Types {
    /// The type of a node.
    pub(crate) fn of(&self, expr: &Expr) -> &Type {
        &self.0[expr.id]
    }
}

/// What checking found.
pub(crate) struct Checked {
    pub(crate) types: Types,
    pub(crate) issues: Vec<Issue>,
    /// The names of the variables that the expression reads.
    pub(crate) reads: Vec<String>,
}

/// Checks an expression of `nodes` nodes in which `variables` are known. Calls of functions with dots in their names
/// (`optional.of(x)`) are brought into one form.
pub(crate) fn check(expr: &mut Expr, nodes: usize, variables: &[(String, Type)]) -> Checked {
    let mut checker = Checker {
        scope: variables.to_vec(),
        outer: variables.len(),
        types: vec![Type::Dyn; nodes],
        issues: Vec::new(),
        reads: Vec::new(),
    };
    checker.expr(expr);
    let Checker { types, mut issues, reads, .. } = checker;
    if issues.is_empty() {
        let types = Types(types);
        super::literals::check(expr, &types, &mut issues);
        return Checked { types, issues, reads };
    }
    Checked { types: Types(types), issues, reads }
}

struct Checker {
    scope: Vec<(String, Type)>,
    /// How many variables are not those of loops.
    outer: usize,
    types: Vec<Type>,
    issues: Vec<Issue>,
    reads: Vec<String>,
}

impl Checker {
    fn complain(&mut self, at: usize, message: String) -> Type {
        self.issues.push(Issue { at, message });
        Type::Error
    }

    fn expr(&mut self, expr: &mut Expr) -> Type {
        qualify(expr, &self.scope);
        let at = expr.at;
        let type_ = match &mut expr.kind {
            Kind::Literal(literal) => of_literal(literal),
            Kind::Ident(name) => self.ident(at, name),
            Kind::Select { operand, field, test } => {
                let operand = self.expr(operand);
                let found = self.select(at, &operand, field);
                if *test && !matches!(found, Type::Error) { Type::Bool } else { found }
            }
            Kind::Call { function, target, args } => {
                let function = function.clone();
                self.call(at, &function, target.as_deref_mut(), args)
            }
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Comprehension(loops) => self.comprehension(at, loops),
        };
        let type_ = self.bounded(at, type_);
        self.types[expr.id] = type_.clone();
        type_
    }

    /// Refuses types that are made of more parts than anybody writes: what is made of two of what was made of two of
    /// something doubles with each step, and so does all that looks at it.
    fn bounded(&mut self, at: usize, type_: Type) -> Type {
        if type_.parts(PARTS) <= PARTS {
            return type_;
        }
        self.complain(at, format!("type is made of more than {PARTS} parts"))
    }

    fn ident(&mut self, at: usize, name: &str) -> Type {
        if let Some(index) = self.scope.iter().rposition(|(known, _)| known == name) {
            if index < self.outer && !self.reads.iter().any(|read| read == name) {
                self.reads.push(name.to_owned());
            }
            return self.scope[index].1.clone();
        }
        match type_named(name) {
            Some(type_) => Type::Kind(std::sync::Arc::new(type_)),
            None => self.complain(at, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    fn select(&mut self, at: usize, operand: &Type, field: &str) -> Type {
        match operand {
            Type::Object(fields) => match fields.fields.get(field) {
                Some(field) => field.declared.type_(),
                None => self.complain(at, format!("undefined field '{field}'")),
            },
            Type::Map(pair) => pair.1.clone(),
            Type::Optional(inner) => match self.select(at, inner, field) {
                Type::Error => Type::Error,
                found @ Type::Optional(_) => found,
                found => Type::optional(found),
            },
            Type::Dyn => Type::Dyn,
            Type::Error => Type::Error,
            other => self.complain(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn call(&mut self, at: usize, function: &str, target: Option<&mut Expr>, args: &mut [Expr]) -> Type {
        if function == "_?._" {
            return self.select_optional(at, args);
        }
        if matches!(function, "_&&_" | "_||_") {
            for arg in args {
                let found = self.expr(arg);
                self.wants(&Type::Bool, &found, arg.at);
            }
            return Type::Bool;
        }
        let receiver = target.map(|target| self.expr(target));
        let args: Vec<Type> = args.iter_mut().map(|arg| self.expr(arg)).collect();
        let Some(signatures) = functions::named(function) else {
            return self.complain(at, format!("undeclared reference to '{function}' (in container '')"));
        };
        let fails = |type_: &Type| matches!(type_, Type::Error);
        if receiver.as_ref().is_some_and(fails) || args.iter().any(fails) {
            return Type::Error;
        }
        match resolve(signatures, receiver.as_ref(), &args) {
            Some(result) => result,
            None => {
                let list = args.iter().map(Type::to_string).collect::<Vec<_>>().join(", ");
                let applied = match receiver {
                    Some(receiver) => format!("{receiver}.({list})"),
                    None => format!("({list})"),
                };
                self.complain(
                    at,
                    format!("found no matching overload for '{function}' applied to '{applied}'"),
                )
            }
        }
    }

    fn select_optional(&mut self, at: usize, args: &mut [Expr]) -> Type {
        let [operand, name] = args else { return Type::Error };
        let operand = self.expr(operand);
        self.types[name.id] = Type::String;
        let Kind::Literal(Literal::String(field)) = &name.kind else { return Type::Error };
        match self.select(at, &operand, field) {
            Type::Error => Type::Error,
            found @ Type::Optional(_) => found,
            found => Type::optional(found),
        }
    }

    /// One type for all items; that they have to agree is looked at when all types are known.
    fn join(joined: Option<Type>, found: Type) -> Option<Type> {
        let Some(joined) = joined else { return Some(found) };
        if !Bindings::default().accepts(&joined, &found) {
            return Some(Type::Dyn);
        }
        let general = found.is_dynamic() || matches!(joined, Type::Null);
        Some(if general { found } else { joined })
    }

    fn optional(&mut self, found: Type, optional: bool, at: usize) -> Type {
        match found {
            Type::Optional(inner) if optional => (*inner).clone(),
            other if optional && !other.is_dynamic() => {
                self.complain(at, format!("expected type 'optional_type({other})' but found '{other}'"))
            }
            other => other,
        }
    }

    fn list(&mut self, items: &mut [(Expr, bool)]) -> Type {
        let mut joined = None;
        for (item, optional) in items {
            let found = self.expr(item);
            let found = self.optional(found, *optional, item.at);
            joined = Self::join(joined, found);
        }
        Type::list(joined.unwrap_or(Type::Dyn))
    }

    fn map(&mut self, entries: &mut [(Expr, Expr, bool)]) -> Type {
        let (mut keys, mut values) = (None, None);
        for (key, value, optional) in entries {
            let found = self.expr(key);
            keys = Self::join(keys, found);
            let found = self.expr(value);
            let found = self.optional(found, *optional, value.at);
            values = Self::join(values, found);
        }
        Type::map(keys.unwrap_or(Type::Dyn), values.unwrap_or(Type::Dyn))
    }

    fn comprehension(&mut self, at: usize, loops: &mut Comprehension) -> Type {
        let range = self.expr(&mut loops.range);
        let init = self.expr(&mut loops.init);
        let (key, value) = match &range {
            Type::List(items) => (Type::Int, (**items).clone()),
            Type::Map(pair) => pair.as_ref().clone(),
            Type::Dyn => (Type::Dyn, Type::Dyn),
            Type::Error => (Type::Error, Type::Error),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.complain(loops.range.at.max(at.min(loops.range.at)), message);
                (Type::Error, Type::Error)
            }
        };
        let depth = self.scope.len();
        self.scope.push((loops.accu.clone(), init));
        match &loops.var2 {
            Some(var2) => {
                self.scope.push((loops.var.clone(), key));
                self.scope.push((var2.clone(), value));
            }
            None if matches!(range, Type::Map(_)) => self.scope.push((loops.var.clone(), key)),
            None => self.scope.push((loops.var.clone(), value)),
        }
        let condition = self.expr(&mut loops.condition);
        self.wants(&Type::Bool, &condition, loops.condition.at);
        let step = self.expr(&mut loops.step);
        let init = self.types[loops.init.id].clone();
        self.wants(&init, &step, loops.step.at);
        // What the loop collects is known from its step: the empty list says nothing.
        self.scope.truncate(depth);
        self.scope.push((loops.accu.clone(), if matches!(step, Type::Error) { init } else { step }));
        let result = self.expr(&mut loops.result);
        self.scope.truncate(depth);
        result
    }

    fn wants(&mut self, wanted: &Type, found: &Type, at: usize) {
        if !Bindings::default().accepts(wanted, found) {
            self.complain(at, format!("expected type '{wanted}' but found '{found}'"));
        }
    }
}

/// The type of the result, if any signature takes the arguments.
fn resolve(signatures: &[Signature], receiver: Option<&Type>, args: &[Type]) -> Option<Type> {
    let mut result: Option<Type> = None;
    for signature in signatures {
        if signature.receiver.is_some() != receiver.is_some() || signature.args.len() != args.len() {
            continue;
        }
        let mut bindings = Bindings::default();
        let wanted = signature.receiver.iter().chain(&signature.args);
        let found = receiver.into_iter().chain(args);
        if !wanted.zip(found).all(|(wanted, found)| bindings.accepts(wanted, found)) {
            continue;
        }
        let filled = bindings.fill(&signature.result);
        result = match result {
            None => Some(filled),
            Some(known) if known.to_string() == filled.to_string() => Some(known),
            Some(_) => return Some(Type::Dyn),
        };
    }
    result
}

/// Rewrites `a.b(x)` where `a` is no variable and `a.b` a function, and `a.b` where that is a variable.
fn qualify(expr: &mut Expr, scope: &[(String, Type)]) {
    match &mut expr.kind {
        Kind::Call { function, target, .. } => {
            let Some(Kind::Ident(space)) = target.as_ref().map(|target| &target.kind) else { return };
            let name = format!("{space}.{function}");
            if functions::named(&name).is_some() && !scope.iter().any(|(known, _)| known == space) {
                *function = name;
                *target = None;
            }
        }
        Kind::Select { operand, field, test: false } if matches!(operand.kind, Kind::Ident(_)) => {
            let Kind::Ident(space) = &operand.kind else { return };
            let is_name = |known: &str| {
                known.strip_prefix(space.as_str()).and_then(|rest| rest.strip_prefix('.')) == Some(field)
            };
            let nearest = scope.iter().rev().find(|(known, _)| known == space || is_name(known));
            if let Some((name, _)) = nearest.filter(|(known, _)| known != space) {
                expr.kind = Kind::Ident(name.clone());
            }
        }
        Kind::Select { operand, field, test: false } => {
            let Kind::Select { operand: inner, field: middle, test: false } = &operand.kind else { return };
            let Kind::Ident(space) = &inner.kind else { return };
            let name = format!("{space}.{middle}.{field}");
            if type_named(&name).is_some() && !scope.iter().any(|(known, _)| known == space) {
                expr.kind = Kind::Ident(name);
            }
        }
        _ => {}
    }
}

fn of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// The type that a name stands for.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        _ => return None,
    })
}
