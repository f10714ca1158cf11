use std::fmt;
use std::path::Path;

use crate::Error;

/// Who an effect is for: a pod, container, image or volume id, or `node`.
///
/// It is a folder name: letters, digits, `_`, `.` and `-`, the first a letter or digit, 200 at most. That covers CNI's
/// container ids and OCI's container ids (with `+` excluded) and keeps `.`-names for the ledger itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(String);

impl OwnerId {
    /// Checks that `name` can be a folder of the ledger.
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let rule = if name.is_empty() {
            Some("it is empty")
        } else if name.len() > 200 {
            Some("it is longer than 200 bytes")
        } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            Some("it must start with a letter or digit")
        } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            Some("only letters, digits, '_', '.' and '-' are allowed")
        } else {
            None
        };
        match rule {
            Some(why) => Err(Error::NameOwner { name, why }),
            None => Ok(Self(name)),
        }
    }

    /// The owner of what belongs to the machine rather than to a container: shared effects, the daemon's own.
    pub fn node() -> Self {
        Self("node".into())
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<Path> for OwnerId {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl AsRef<str> for OwnerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for bad in ["", ".", "..", "a/b", "/", ".boot", "-x", "ü", "a b", "a\0b", &"x".repeat(201)] {
            assert!(OwnerId::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "0f3a", "web-1.x_y", "node"] {
            assert_eq!(OwnerId::new(good).unwrap().as_str(), good);
        }
    }
}
