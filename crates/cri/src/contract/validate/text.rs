//! Rules for single fields, and how the path to a field comes about.

use std::collections::BTreeMap;

use super::Validate;
use crate::contract::Error;

pub(super) type Verdict = Result<(), Error>;

/// The longest path the kernel takes.
const PATH: usize = 4095;
/// The longest name Kubernetes gives: a DNS subdomain.
const NAME: usize = 253;
/// All of a map of labels or annotations, in bytes: four times what Kubernetes stores.
const PAIRS: usize = 1024 * 1024;
/// How much of a value is repeated in an error.
const SHOWN: usize = 128;

/// A value as an error shows it: quoted, and not endless.
pub(super) fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}...", value.get(..end).unwrap_or_default()),
    }
}

fn refuse(field: &str, value: &str, rule: &str) -> Verdict {
    Err(Error::invalid(field, format!("{} {rule}", shown(value))))
}

/// The message in `field`, which must be there.
pub(super) fn required<'m, M>(field: &str, message: &'m Option<M>) -> Result<&'m M, Error> {
    message.as_ref().ok_or_else(|| Error::invalid(field, "is missing; it must be set"))
}

/// The message in `field`, if it is there.
pub(super) fn inside<M: Validate>(field: &str, message: &Option<M>) -> Verdict {
    message.as_ref().map_or(Ok(()), |message| message.validate().map_err(|e| e.within(field)))
}

/// Each message of a list.
pub(super) fn each<M: Validate>(field: &str, list: &[M]) -> Verdict {
    list.iter()
        .enumerate()
        .try_for_each(|(at, message)| message.validate().map_err(|e| e.within(&format!("{field}[{at}]"))))
}

/// The enum's value of a number.
pub(super) fn known<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E, Error> {
    let unknown = |_| {
        Error::invalid(
            field,
            format!("{number} is no value that this runtime knows; it may come from a newer API"),
        )
    };
    E::try_from(number).map_err(unknown)
}

/// Not empty.
pub(super) fn present(field: &str, value: &str) -> Verdict {
    if value.is_empty() {
        Err(Error::invalid(field, "is empty; it must be set"))
    } else {
        plain(field, value)
    }
}

/// Anything a C string can hold.
pub(super) fn plain(field: &str, value: &str) -> Verdict {
    if value.contains('\0') {
        refuse(field, value, "has a NUL character in it; leave it out")
    } else {
        Ok(())
    }
}

/// A rule for each string of a list. Paths are made only for what breaks it.
pub(super) fn each_text(field: &str, list: &[String], rule: fn(&str, &str) -> Verdict) -> Verdict {
    let mut list = list.iter().enumerate();
    list.try_for_each(|(at, value)| rule("", value).map_err(|e| e.within(&format!("{field}[{at}]"))))
}

/// A line of a file.
pub(super) fn line(field: &str, value: &str) -> Verdict {
    if value.chars().any(char::is_control) {
        return refuse(field, value, "has a control character in it; leave it out");
    }
    Ok(())
}

/// A word of a line, at most as long as a DNS name.
pub(super) fn word(field: &str, value: &str) -> Verdict {
    present(field, value)?;
    if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse(field, value, "has white space in it; write one word");
    }
    at_most(field, value, NAME)
}

fn at_most(field: &str, value: &str, limit: usize) -> Verdict {
    if value.len() <= limit {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{} has {} bytes, {limit} is the most", shown(value), value.len())))
}

/// A name as Kubernetes gives it. Upper case and `_` are let pass, since tests and people use them; what would lead
/// elsewhere as part of a path or of CNI's arguments is not.
pub(super) fn identifier(field: &str, value: &str) -> Verdict {
    present(field, value)?;
    at_most(field, value, NAME)?;
    let starts = value.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts && value.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        return Ok(());
    }
    refuse(field, value, "is no name; write letters, digits, '-', '_' and '.', a letter or digit first")
}

/// A runtime handler; empty is the default one.
pub(super) fn handler(field: &str, value: &str) -> Verdict {
    if value.is_empty() { Ok(()) } else { identifier(field, value) }
}

/// What an image is named by: a reference or an id. Whether it is a good one is for the images to say.
pub(super) fn image(field: &str, value: &str) -> Verdict {
    present(field, value)?;
    if value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return refuse(field, value, "has white space in it; write NAME:TAG, NAME@DIGEST or an id");
    }
    at_most(field, value, PATH)
}

/// An absolute path.
pub(super) fn absolute(field: &str, value: &str) -> Verdict {
    present(field, value)?;
    at_most(field, value, PATH)?;
    if value.starts_with('/') {
        Ok(())
    } else {
        refuse(field, value, "is a relative path; write it from / on")
    }
}

/// A path without `..`.
pub(super) fn downward(field: &str, value: &str) -> Verdict {
    plain(field, value)?;
    at_most(field, value, PATH)?;
    if value.split('/').any(|part| part == "..") {
        return refuse(field, value, "leads upwards; write it without ..");
    }
    Ok(())
}

/// A path relative to another, and below it.
pub(super) fn below(field: &str, value: &str) -> Verdict {
    if value.starts_with('/') {
        return refuse(field, value, "is an absolute path; write it without the / at its beginning");
    }
    downward(field, value)
}

/// Keys with values, of bounded size.
pub(super) fn labels(field: &str, pairs: &BTreeMap<String, String>) -> Verdict {
    if pairs.contains_key("") {
        return Err(Error::invalid(field, "has an empty key; each key must have a name"));
    }
    let size: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > PAIRS {
        return Err(Error::invalid(field, format!("has {size} bytes in all, {PAIRS} is the most")));
    }
    Ok(())
}

/// A time to wait.
pub(super) fn seconds(field: &str, value: i64) -> Verdict {
    if value >= 0 {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{value} seconds is less than none; give 0 or more")))
}

/// A part that is for nodes with Windows.
pub(super) fn not_windows(field: &str, is_set: bool) -> Verdict {
    if is_set {
        Err(Error::invalid(field, "is for Windows, and this node runs Linux; leave it out"))
    } else {
        Ok(())
    }
}
