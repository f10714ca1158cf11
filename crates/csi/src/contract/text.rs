//! Rules for single fields (CSI, "Size Limits" and "Field Requirements").

use std::collections::BTreeMap;

use grpc::Failure;

pub(super) type Verdict = Result<(), Failure>;

/// The longest string, in bytes.
const STRING: usize = 128;
/// The longest id of a node.
pub(crate) const NODE: usize = 256;
/// The largest map, keys and values together; mount flags, too.
const MAP: usize = 4096;
/// The longest path the kernel takes.
const PATH: usize = 4095;
/// How much of a value is repeated in an error.
const SHOWN: usize = 128;

/// A value as an error shows it: quoted, and not endless.
pub(crate) fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN) {
        None => format!("{value:?}"),
        Some((end, _)) => format!("{:?}...", value.get(..end).unwrap_or_default()),
    }
}

fn at_most(field: &str, value: &str, limit: usize) -> Verdict {
    if value.len() <= limit {
        return Ok(());
    }
    Err(Failure::invalid(field, format!("{} has {} bytes, {limit} is the most", shown(value), value.len())))
}

/// The message in `field`, which must be there.
pub(super) fn required<'m, M>(field: &str, message: &'m Option<M>) -> Result<&'m M, Failure> {
    message.as_ref().ok_or_else(|| Failure::invalid(field, "is missing; it must be set"))
}

/// An id: not empty, at most as long as a string may be, nothing unprintable.
pub(super) fn id(field: &str, value: &str) -> Verdict {
    if value.is_empty() {
        return Err(Failure::invalid(field, "is empty; it must be set"));
    }
    optional_id(field, value)
}

/// The same, or none.
pub(super) fn optional_id(field: &str, value: &str) -> Verdict {
    at_most(field, value, STRING)?;
    if value.chars().any(char::is_control) {
        return Err(Failure::invalid(field, format!("{} has a control character in it", shown(value))));
    }
    Ok(())
}

/// A name that a caller thought of: any text without the control characters that the specification bars.
pub(super) fn name(field: &str, value: &str) -> Verdict {
    if value.is_empty() {
        return Err(Failure::invalid(field, "is empty; it must be set"));
    }
    at_most(field, value, STRING)?;
    let barred = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    match value.chars().find(|&c| barred(c)) {
        Some(c) => {
            Err(Failure::invalid(field, format!("{} has {c:?} in it, which no name may have", shown(value))))
        }
        None => Ok(()),
    }
}

/// An absolute path that says where it leads: without `..`.
pub(super) fn path(field: &str, value: &str) -> Verdict {
    if value.is_empty() {
        return Err(Failure::invalid(field, "is empty; it must be set"));
    }
    at_most(field, value, PATH)?;
    if !value.starts_with('/') || value.contains('\0') || value.split('/').any(|part| part == "..") {
        let rule = "is no path that can be used: write an absolute one without '..'";
        return Err(Failure::invalid(field, format!("{} {rule}", shown(value))));
    }
    Ok(())
}

/// The same, or none.
pub(super) fn optional_path(field: &str, value: &str) -> Verdict {
    if value.is_empty() { Ok(()) } else { path(field, value) }
}

/// Keys and values, as many as may be. Never shows a value: it may be a secret.
pub(super) fn map(field: &str, map: &BTreeMap<String, String>) -> Verdict {
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAP {
        return Err(Failure::invalid(field, format!("has {bytes} bytes in all, {MAP} is the most")));
    }
    if map.contains_key("") {
        return Err(Failure::invalid(field, "has a key that is empty; give it a name"));
    }
    Ok(())
}

/// Options of mount.
pub(super) fn mount_flags(field: &str, flags: &[String]) -> Verdict {
    let bytes: usize = flags.iter().map(String::len).sum();
    if bytes > MAP {
        return Err(Failure::invalid(field, format!("has {bytes} bytes in all, {MAP} is the most")));
    }
    for (at, flag) in flags.iter().enumerate() {
        if flag.is_empty() || flag.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Failure::invalid(
                format!("{field}[{at}]"),
                format!("{} is no option of mount", shown(flag)),
            ));
        }
    }
    Ok(())
}

/// A count or a size.
pub(super) fn not_negative(field: &str, number: i64) -> Verdict {
    if number < 0 { Err(Failure::invalid(field, format!("{number} is negative"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        for good in ["a", "pvc-1", "Ünïcode 名", "tab\there"] {
            name("name", good).unwrap();
        }
        for bad in ["", "a\0", "\u{7f}", "\u{9f}", &"x".repeat(129)] {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
        for good in ["/", "/a/b..c", "/a/.b"] {
            path("path", good).unwrap();
        }
        for bad in ["", "a", "/a/../b", "/a\0", "/.."] {
            assert!(path("path", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn maps_are_bounded_and_their_values_not_shown() {
        let long = BTreeMap::from([("key".to_owned(), "hunter2".repeat(1000))]);
        let error = map("secrets", &long).unwrap_err();
        assert!(
            error.to_string().contains("7003 bytes") && !error.to_string().contains("hunter2"),
            "{error}"
        );
        assert!(map("secrets", &BTreeMap::from([(String::new(), String::new())])).is_err());
    }
}
