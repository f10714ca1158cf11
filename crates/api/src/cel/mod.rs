//! The Common Expression Language, as far as rules of custom resources use it.
//!
//! Expressions are read (macros become loops), checked against the types of the schema, and evaluated over the JSON of an
//! object with a meter: evaluation ends at the limit, and no expression is taller than the reader allows. What a step costs is
//! what it costs in Kubernetes as far as docs/NEXT.md does not say otherwise. Nothing here reads anything but the object, and nothing is kept between calls.

mod ast;
mod check;
mod cost;
mod eval;
mod functions;
mod issues;
mod lex;
mod library;
mod literals;
mod macros;
mod parse;
pub(crate) mod types;
mod value;

#[cfg(test)]
mod tests;

use self::ast::Expr;
use self::types::{Declared, Shape, Type};
use serde_json::Value as Json;

pub(crate) use self::eval::Failure;
pub(crate) use self::parse::RESERVED;
pub(crate) use self::value::Value;

/// The most that one evaluation may cost.
pub(crate) const PER_CALL: u64 = 1_000_000;
/// The most that all rules of one object may cost.
pub(crate) const BUDGET: u64 = 10_000_000;
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
    /// Whether it reads `oldSelf`.
    pub(crate) reads_old: bool,
    /// The most that one evaluation is estimated to cost.
    pub(crate) most: u64,
}

/// What an expression has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Bool,
    String,
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
            Wanted::Bool => "compilation failed: ",
            Wanted::String => "messageExpression compilation failed: ",
        };
        let told = |issues: &[issues::Issue]| format!("{failed}{}", issues::render(source, issues));
        let (mut expr, nodes) = parse::parse(source).map_err(|issues| told(&issues))?;
        let type_ = declared.type_();
        let old = if optional { Type::optional(type_.clone()) } else { type_.clone() };
        let variables = [("self".to_owned(), type_), ("oldSelf".to_owned(), old)];
        let checked = check::check(&mut expr, nodes, &variables);
        if !checked.issues.is_empty() {
            return Err(told(&checked.issues));
        }
        match (wanted, checked.types.of(&expr)) {
            (Wanted::Bool, Type::Bool) | (Wanted::String, Type::String) => {}
            (Wanted::Bool, _) => return Err("cel expression must evaluate to a bool".to_owned()),
            (Wanted::String, _) => return Err("messageExpression must evaluate to a string".to_owned()),
        }
        let most = cost::most(&expr, &checked.types, declared);
        Ok(Program { expr, reads_old: checked.reads.iter().any(|name| name == "oldSelf"), most })
    }

    /// Evaluates it and tells what that cost.
    pub(crate) fn run<'a>(
        &'a self,
        own: Value<'a>,
        old: Option<Value<'a>>,
    ) -> (Result<Value<'a>, Failure>, u64) {
        let mut variables = vec![("self", own)];
        variables.extend(old.map(|old| ("oldSelf", old)));
        let mut evaluator = eval::Evaluator::new(variables, PER_CALL);
        let value = evaluator.value(&self.expr);
        (value, evaluator.cost())
    }
}

/// Evaluates an expression whose `self` is any JSON value, as text; for tests and fuzzing.
///
/// # Errors
/// What is wrong with the expression, or how its evaluation failed.
pub fn evaluate(source: &str, own: &Json) -> Result<String, String> {
    let (mut expr, nodes) = parse::parse(source).map_err(|found| issues::render(source, &found))?;
    let checked = check::check(&mut expr, nodes, &[("self".to_owned(), Type::Dyn)]);
    if !checked.issues.is_empty() {
        return Err(issues::render(source, &checked.issues));
    }
    let declared = Declared { shape: Shape::Dyn, most: LARGEST, least_size: 1 };
    cost::most(&expr, &checked.types, &declared);
    let mut evaluator = eval::Evaluator::new(vec![("self", Value::of(own, None))], PER_CALL);
    match evaluator.value(&expr) {
        Ok(value) => Ok(value.shown()),
        Err(Failure::Limit) => Err("operation cancelled: actual cost limit exceeded".to_owned()),
        Err(Failure::Error(message)) => Err(message),
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
    if !(first.is_ascii_alphabetic() || first == '_' || "$".contains(first))
        || first == '$'
        || !characters.all(rest)
    {
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

/// Compiles a regular expression of limited size.
///
/// # Errors
/// Where it is none, or too big.
pub(crate) fn regex(pattern: &str) -> Result<::regex::Regex, ::regex::Error> {
    library::regex::compile(pattern)
}
