//! Regular expressions as Go reads them. They run in time linear in the text, and their size is limited.

use super::re2;
use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::Value;
use regex::{Regex, RegexBuilder};

/// How many bytes a compiled expression may take.
const SIZE: usize = 4 << 20;
/// How many bytes what is found out while it runs may take.
const CACHE: usize = 256 << 10;
/// How deep the crate may go: groups and repetitions, of which the translation has bounded the groups.
const NEST: u32 = 1000;

/// Compiles an expression.
///
/// # Errors
/// Where it is none, or too big: `error parsing regexp: ...`.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = re2::translated(pattern)?;
    RegexBuilder::new(&translated)
        .size_limit(SIZE)
        .dfa_size_limit(CACHE)
        .nest_limit(NEST)
        .build()
        .map_err(|_| re2::told("expression too large", pattern))
}

/// `matches`, `find` and `findAll`, once the pattern is compiled; `room`: how many texts may be found.
pub(crate) fn call<'a>(
    function: &str,
    compiled: Result<&Regex, &str>,
    text: &str,
    rest: &[Value<'a>],
    room: usize,
) -> Outcome<'a> {
    let compiled = match compiled {
        Ok(compiled) => compiled,
        Err(error) if function == "matches" => return Err(Failure::new(error)),
        Err(error) => return Err(Failure::new(format!("Illegal regex: {error}"))),
    };
    Ok(match (function, rest) {
        ("matches", []) => Value::Bool(compiled.is_match(text)),
        ("find", []) => Value::text(compiled.find(text).map_or("", |found| found.as_str())),
        ("findAll", []) => return all(compiled, text, usize::MAX, room),
        ("findAll", [Value::Int(most)]) => {
            return all(compiled, text, usize::try_from(*most).unwrap_or(usize::MAX), room);
        }
        _ => return Err(Failure::new("no such overload")),
    })
}

/// Whether a function is one of those that take a pattern, as their second argument.
pub(crate) fn takes_pattern(function: &str) -> bool {
    matches!(function, "matches" | "find" | "findAll")
}

fn all<'a>(compiled: &Regex, text: &str, most: usize, room: usize) -> Outcome<'a> {
    let found = compiled.find_iter(text).take(most.min(room.saturating_add(1)));
    let list: Vec<Value<'a>> = found.map(|found| Value::text(found.as_str())).collect();
    if list.len() > room { Err(Failure::Limit) } else { Ok(Value::list(list)) }
}
