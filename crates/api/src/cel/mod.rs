//! The Common Expression Language, as far as rules of custom resources, match conditions and policies use it.
//!
//! Expressions are read (macros become loops), checked against the types of the schema, and evaluated over the JSON of an
//! object with a meter: evaluation ends at the limit, and no expression is taller than the reader allows. What a step costs is
//! what it costs in Kubernetes; what it makes and looks at is bounded besides ([`meter`]). Nothing is kept between calls.
//!
//! [`Program::compile`] is for rules of custom resources, [`admission`] for match conditions and policies.

pub(crate) mod admission;
mod ast;
mod check;
mod cost;
mod eval;
mod functions;
mod issues;
mod lazy;
mod lex;
mod library;
mod literals;
mod macros;
mod meter;
mod parse;
pub(crate) mod types;
mod value;

#[cfg(test)]
mod tests;

use self::ast::{Expr, Kind, Literal};
use self::types::{Declared, Shape, Type};
use ::regex::Regex;
use serde_json::Value as Json;
use std::collections::HashMap;

pub(crate) use self::eval::Failure;
pub(crate) use self::library::authz::{Answer, Authorize, Check, ResourceCheck};
pub(crate) use self::parse::RESERVED;
pub(crate) use self::value::Value;

/// The most that one evaluation may cost.
pub(crate) const PER_CALL: u64 = 1_000_000;
/// The most that all rules of one object may cost.
pub(crate) const BUDGET: u64 = 10_000_000;
/// The most that all match conditions of one webhook or policy may cost for one request.
pub(crate) const BUDGET_CONDITIONS: u64 = 2_500_000;
/// The most that one rule may be estimated to cost.
pub(crate) const ESTIMATE: u64 = 10_000_000;
/// The most that all rules of a schema may be estimated to cost.
pub(crate) const ESTIMATE_ALL: u64 = 100_000_000;
/// The largest request, in bytes: no list, map or text can be larger.
pub(crate) const LARGEST: u64 = 3 * 1024 * 1024;

/// A checked expression.
#[derive(Debug)]
pub(crate) struct Program {
    expr: Expr,
    /// What type it has.
    type_: Type,
    /// The names of the variables that it reads.
    reads: Vec<String>,
    /// The patterns that are written in it, by the number of their node.
    patterns: HashMap<usize, Regex>,
    /// The most that one evaluation is estimated to cost, where the sizes of its variables are declared.
    pub(crate) most: u64,
}

/// What an expression has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Bool,
    String,
    Null,
    Any,
}

impl Wanted {
    fn is(self, type_: &Type) -> bool {
        match self {
            Wanted::Bool => matches!(type_, Type::Bool),
            Wanted::String => matches!(type_, Type::String),
            Wanted::Null => matches!(type_, Type::Null),
            Wanted::Any => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Wanted::Bool => "bool",
            Wanted::String => "string",
            Wanted::Null => "null_type",
            Wanted::Any => "any",
        }
    }
}

impl Program {
    /// Reads and checks an expression over `self` and `oldSelf`, which are as `declared`; `optional` makes `oldSelf` an
    /// optional value.
    ///
    /// # Errors
    /// What is wrong, in the words of cel-go.
    pub(crate) fn compile(
        source: &str,
        declared: &Declared,
        optional: bool,
        wanted: Wanted,
    ) -> Result<Program, String> {
        let failed = match wanted {
            Wanted::String => "messageExpression compilation failed: ",
            _ => "compilation failed: ",
        };
        let type_ = declared.type_();
        let old = if optional { Type::optional(type_.clone()) } else { type_.clone() };
        let variables = [("self".to_owned(), type_), ("oldSelf".to_owned(), old)];
        let (mut program, types) = read(source, &variables).map_err(|refused| refused.told(failed))?;
        if !wanted.is(&program.type_) {
            let what = if wanted == Wanted::String { "messageExpression" } else { "cel expression" };
            return Err(format!("{what} must evaluate to a {}", wanted.name()));
        }
        program.most = cost::most(&program.expr, &types, declared);
        Ok(program)
    }

    /// Whether it reads the variable.
    pub(crate) fn reads(&self, name: &str) -> bool {
        self.reads.iter().any(|read| read == name)
    }

    /// Evaluates it and tells what that cost.
    pub(crate) fn run<'a>(
        &'a self,
        own: Value<'a>,
        old: Option<Value<'a>>,
    ) -> (Result<Value<'a>, Failure>, u64) {
        let mut variables = vec![("self", own)];
        variables.extend(old.map(|old| ("oldSelf", old)));
        eval::Evaluator::new(self, variables, None).whole()
    }
}

/// Why an expression is no program.
enum Refused {
    /// All complaints of reader and checker, as one text.
    Compilation(String),
    /// What a constant part of it fails with.
    Instantiation(String),
}

impl Refused {
    /// With the words before complaints.
    fn told(self, failed: &str) -> String {
        match self {
            Refused::Compilation(issues) => format!("{failed}{issues}"),
            Refused::Instantiation(message) => format!("program instantiation failed: {message}"),
        }
    }
}

/// Reads and checks an expression over `variables`.
fn read(source: &str, variables: &[(String, Type)]) -> Result<(Program, check::Types), Refused> {
    let told = |issues: &[issues::Issue]| Refused::Compilation(issues::render(source, issues));
    let (mut expr, nodes) = parse::parse(source).map_err(|issues| told(&issues))?;
    let checked = check::check(&mut expr, nodes, variables);
    if !checked.issues.is_empty() {
        return Err(told(&checked.issues));
    }
    let (mut patterns, mut failed) = (HashMap::new(), None);
    literals::walk(&expr, &mut |expr| {
        let Kind::Call { function, target, args } = &expr.kind else { return };
        let pattern = if target.is_some() { args.first() } else { args.get(1) };
        if library::regex::takes_pattern(function)
            && let Some(Expr { id, kind: Kind::Literal(Literal::String(text)), .. }) = pattern
        {
            match library::regex::compile(text) {
                Ok(compiled) => {
                    patterns.insert(*id, compiled);
                }
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        if let (None, [Expr { kind: Kind::Literal(literal), .. }]) = (target, args.as_slice())
            && let Err(failure) = library::converted(function, literal)
        {
            failed.get_or_insert(failure);
        }
    });
    if let Some(message) = failed {
        return Err(Refused::Instantiation(message));
    }
    let type_ = checked.types.of(&expr).clone();
    Ok((Program { expr, type_, reads: checked.reads, patterns, most: 0 }, checked.types))
}

/// Evaluates an expression whose `self` is any JSON value, as text; for tests and fuzzing.
///
/// # Errors
/// What is wrong with the expression, or how its evaluation failed.
pub fn evaluate(source: &str, own: &Json) -> Result<String, String> {
    let (program, types) =
        read(source, &[("self".to_owned(), Type::Dyn)]).map_err(|refused| refused.told(""))?;
    let declared = Declared { shape: Shape::Dyn, most: LARGEST, least_size: 1 };
    cost::most(&program.expr, &types, &declared);
    match program.run(Value::of(own, None), None).0 {
        Ok(value) => Ok(value.shown()),
        Err(failure) => Err(failure.to_string()),
    }
}

impl Value<'_> {
    /// As `%s` of `format` writes it; of values that it does not write, their type.
    fn shown(&self) -> String {
        let list = value::List::Made(std::sync::Arc::new(vec![self.clone()]));
        match library::call("format", &[Value::text("%s"), Value::List(list)]) {
            Ok(Value::String(text)) => text.to_string(),
            _ => self.type_name().to_owned(),
        }
    }
}

/// A field's name as expressions write it; `None` where it cannot be written.
pub(crate) fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut characters = name.chars();
    let first = characters.next()?;
    let rest = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if !(first.is_ascii_alphabetic() || first == '_') || !characters.all(rest) {
        return None;
    }
    let escaped = name.replace("__", "__underscores__");
    Some(escaped.replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__"))
}

/// Whether `text` is a URL or an absolute path.
pub(crate) fn is_url(text: &str) -> bool {
    library::url::Url::parse(text).is_ok()
}

/// Whether `text` is a Go duration.
pub(crate) fn is_duration(text: &str) -> bool {
    library::time::duration(text).is_some()
}

/// A number as Go writes it.
pub(crate) fn number_text(number: f64) -> String {
    library::number_text(number)
}

/// Compiles a regular expression, as Go reads it, of limited size.
///
/// # Errors
/// Where it is none, or too big: in the words of Go.
pub(crate) fn regex(pattern: &str) -> Result<Regex, String> {
    library::regex::compile(pattern)
}
