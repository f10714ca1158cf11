//! Regular expressions. They run in time linear in the text, and their size is limited.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::Value;
use regex::{Regex, RegexBuilder};

/// How many bytes a compiled expression may take.
const SIZE: usize = 4 << 20;

/// Compiles an expression.
///
/// # Errors
/// Where it is none, or too big.
pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(SIZE).dfa_size_limit(SIZE).nest_limit(100).build()
}

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    let [Value::String(text), Value::String(pattern), rest @ ..] = args else { return None };
    if !matches!(function, "matches" | "find" | "findAll") {
        return None;
    }
    let compiled = match compile(pattern) {
        Ok(compiled) => compiled,
        Err(error) if function == "matches" => return Some(Err(Failure::new(error.to_string()))),
        Err(error) => return Some(Err(Failure::new(format!("Illegal regex: {error}")))),
    };
    Some(Ok(match (function, rest) {
        ("matches", []) => Value::Bool(compiled.is_match(text)),
        ("find", []) => Value::text(compiled.find(text).map_or("", |found| found.as_str())),
        ("findAll", []) => all(&compiled, text, usize::MAX),
        ("findAll", [Value::Int(most)]) => all(&compiled, text, usize::try_from(*most).unwrap_or(usize::MAX)),
        _ => return None,
    }))
}

fn all<'a>(compiled: &Regex, text: &str, most: usize) -> Value<'a> {
    Value::list(compiled.find_iter(text).take(most).map(|found| Value::text(found.as_str())).collect())
}
