//! Semantic versions.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::Value;
use std::cmp::Ordering;
use std::sync::Arc;

/// A version; build metadata do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Semver {
    numbers: [u64; 3],
    before: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Text(String),
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Semver) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Semver {
    fn cmp(&self, other: &Semver) -> Ordering {
        // A version comes after its own pre-releases.
        let released = self.before.is_empty().cmp(&other.before.is_empty());
        self.numbers.cmp(&other.numbers).then(released).then_with(|| self.before.cmp(&other.before))
    }
}

/// A number of a version; `name` says which.
fn number(text: &str, normalize: bool, name: &str) -> Result<u64, String> {
    let shown = crate::contract::field::quoted(text);
    let digits = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if !digits {
        return Err(format!("Invalid character(s) found in {} number {shown}", name.to_lowercase()));
    }
    if !normalize && text.len() > 1 && text.starts_with('0') {
        return Err(format!("{name} number must not contain leading zeroes {shown}"));
    }
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {shown}: value out of range"))
}

/// Reads a version; with `normalize` also `v1.2`.
fn parse(text: &str, normalize: bool) -> Result<Semver, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let text = if normalize { text.strip_prefix('v').unwrap_or(text) } else { text };
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, before) = rest.split_once('-').map_or((rest, None), |(core, before)| (core, Some(before)));
    let parts: Vec<&str> = core.splitn(3, '.').collect();
    if parts.len() < 3 && !normalize {
        return Err("No Major.Minor.Patch elements found".to_owned());
    }
    if parts.len() < 3 && (before.is_some() || build.is_some()) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    let mut numbers = [0; 3];
    for ((slot, part), name) in numbers.iter_mut().zip(&parts).zip(["Major", "Minor", "Patch"]) {
        *slot = number(part, normalize, name)?;
    }
    let allowed = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if build.is_some_and(|build| !build.split('.').all(allowed)) {
        return Err("Build meta data is empty".to_owned());
    }
    let mut found = Vec::new();
    for part in before.into_iter().flat_map(|before| before.split('.')) {
        if !allowed(part) {
            return Err("Prerelease is empty".to_owned());
        }
        let numeric = part.bytes().all(|digit| digit.is_ascii_digit());
        if numeric && part.len() > 1 && part.starts_with('0') {
            let shown = crate::contract::field::quoted(part);
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {shown}"));
        }
        found.push(if numeric {
            Part::Number(number(part, false, "PreRelease")?)
        } else {
            Part::Text(part.to_owned())
        });
    }
    Ok(Semver { numbers, before: found })
}

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    let part = |index: usize, version: &Semver| {
        Value::Int(i64::try_from(version.numbers[index]).unwrap_or(i64::MAX))
    };
    Some(Ok(match (function, args) {
        ("semver" | "isSemver", [Value::String(text), rest @ ..]) => {
            let normalize = matches!(rest, [Value::Bool(true)]);
            match (parse(text, normalize), function) {
                (version, "isSemver") => Value::Bool(version.is_ok()),
                (Ok(version), _) => Value::Semver(Arc::new(version)),
                (Err(message), _) => return Some(Err(Failure::new(message))),
            }
        }
        ("isGreaterThan", [Value::Semver(a), Value::Semver(b)]) => Value::Bool(a > b),
        ("isLessThan", [Value::Semver(a), Value::Semver(b)]) => Value::Bool(a < b),
        ("compareTo", [Value::Semver(a), Value::Semver(b)]) => Value::Int(a.cmp(b) as i64),
        ("major", [Value::Semver(version)]) => part(0, version),
        ("minor", [Value::Semver(version)]) => part(1, version),
        ("patch", [Value::Semver(version)]) => part(2, version),
        _ => return None,
    }))
}
