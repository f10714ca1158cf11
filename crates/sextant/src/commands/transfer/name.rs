use crate::failure::{Failure, Result};

/// The components of an archive's name, joined by single slashes; empty for the top itself. `..` is refused.
pub(super) fn clean(raw: &[u8]) -> Result<Vec<u8>> {
    let components = raw.split(|&b| b == b'/').filter(|c| !matches!(*c, b"" | b"."));
    let mut clean = Vec::with_capacity(raw.len());
    for component in components {
        if component == b".." || component.contains(&0) {
            return Err(Failure::new(format!(
                "the archive has an entry {:?}, which could lead out of the directory",
                String::from_utf8_lossy(raw)
            )));
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(component);
    }
    Ok(clean)
}

/// The parent and the last component of a clean name; the parent of a top-level name is empty.
pub(super) fn split(clean: &[u8]) -> (&[u8], &[u8]) {
    match clean.iter().rposition(|&b| b == b'/') {
        Some(slash) => (clean.get(..slash).unwrap_or_default(), clean.get(slash + 1..).unwrap_or_default()),
        None => (b"", clean),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        assert_eq!(clean(b"./a//b/.").unwrap(), b"a/b");
        assert_eq!(clean(b"/etc").unwrap(), b"etc");
        assert_eq!(clean(b"./").unwrap(), b"");
        for bad in [b"..".as_slice(), b"a/../b", b"a\0b"] {
            assert!(clean(bad).is_err());
        }
        assert_eq!(split(b"a/b/c"), (b"a/b".as_slice(), b"c".as_slice()));
        assert_eq!(split(b"c"), (b"".as_slice(), b"c".as_slice()));
    }
}
