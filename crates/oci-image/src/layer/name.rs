//! Names in layers: which are taken, and what they mean.

use super::error::{Error, Result};

/// The most components a name may have: far more than any honest one, and few enough to hold a descriptor for each.
const DEPTH: usize = 200;
/// The kernel's PATH_MAX.
const LENGTH: usize = 4096;

/// Writes the components of `raw` to `clean`, joined by single slashes: leading and trailing slashes and `.` vanish.
/// `..` is refused, even where it would stay inside: no layer writer makes it.
pub(super) fn clean_into(raw: &[u8], clean: &mut Vec<u8>) -> Result<()> {
    clean.clear();
    if raw.len() > LENGTH {
        return Err(Error::name(raw, "the name is longer than 4096 bytes"));
    }
    if raw.contains(&0) {
        return Err(Error::name(raw, "the name contains NUL"));
    }
    let mut depth = 0;
    for component in raw.split(|&b| b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => {
                return Err(Error::name(raw, "the name contains `..`, which could lead out of the layer"));
            }
            _ if component.len() > 255 => {
                return Err(Error::name(raw, "a component is longer than 255 bytes"));
            }
            _ => {}
        }
        depth += 1;
        if depth > DEPTH {
            return Err(Error::name(raw, "the name is more than 200 directories deep"));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    Ok(())
}

/// The parent and the last component of a clean name; the parent of a top-level name is empty.
pub(super) fn split(clean: &[u8]) -> (&[u8], &[u8]) {
    match clean.iter().rposition(|&b| b == b'/') {
        Some(slash) => (clean.get(..slash).unwrap_or_default(), clean.get(slash + 1..).unwrap_or_default()),
        None => (b"", clean),
    }
}

/// What a name's last component asks for (image-spec, "Whiteouts").
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// The thing itself.
    Plain,
    /// `.wh.NAME`: lower layers' NAME is hidden.
    Whiteout(&'a [u8]),
    /// `.wh..wh..opq`: everything lower layers have in this directory is hidden.
    Opaque,
    /// AUFS's own bookkeeping (`.wh..wh.plnk`, ...): nothing to make.
    Bookkeeping,
}

/// The meaning of a clean name, or a refusal.
pub(super) fn meaning(clean: &[u8]) -> Result<Meaning<'_>> {
    let (parent, last) = split(clean);
    let metadata = |c: &[u8]| c.starts_with(b".wh..wh.");
    if parent.split(|&b| b == b'/').any(metadata) {
        return Ok(Meaning::Bookkeeping);
    }
    match last.strip_prefix(b".wh.") {
        None => Ok(Meaning::Plain),
        Some(b".wh..opq") => Ok(Meaning::Opaque),
        Some(_) if metadata(last) => Ok(Meaning::Bookkeeping),
        Some(b"") => Err(Error::name(clean, "a whiteout of nothing")),
        Some(b"." | b"..") => Err(Error::name(clean, "a whiteout of a directory's own links")),
        Some(hidden) => Ok(Meaning::Whiteout(hidden)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(raw: &str) -> Option<String> {
        let mut out = Vec::new();
        clean_into(raw.as_bytes(), &mut out).ok()?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn names_are_cleaned_or_refused() {
        assert_eq!(clean("./usr//bin/./sh").as_deref(), Some("usr/bin/sh"));
        assert_eq!(clean("/etc/passwd").as_deref(), Some("etc/passwd"));
        assert_eq!(clean("./").as_deref(), Some(""));
        assert_eq!(clean("usr/").as_deref(), Some("usr"));
        assert_eq!(clean("..."), Some("...".into()));
        for bad in ["..", "../x", "a/../b", "a/..", "/../x", &"a/".repeat(201), &"a".repeat(256)] {
            assert_eq!(clean(bad), None, "{bad}");
        }
    }

    #[test]
    fn whiteouts_are_told_apart() {
        assert_eq!(meaning(b"a/.wh.b").unwrap(), Meaning::Whiteout(b"b"));
        assert_eq!(meaning(b".wh..wh..opq").unwrap(), Meaning::Opaque);
        assert_eq!(meaning(b"a/.wh..wh.plnk/1.2").unwrap(), Meaning::Bookkeeping);
        assert_eq!(meaning(b".whatever").unwrap(), Meaning::Plain);
        for bad in [b".wh.".as_slice(), b"a/.wh..", b".wh..."] {
            assert!(meaning(bad).is_err());
        }
    }
}
