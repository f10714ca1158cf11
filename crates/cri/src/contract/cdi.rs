//! Names of devices of the Container Device Interface: `VENDOR/CLASS=DEVICE`.
//!
//! A vendor and a class begin with a letter, a device with a letter or digit, and all end with one of these. Between them
//! `_`, `-` and `.` are allowed, and in a device `:` as well.

/// A device's full name, as its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// `VENDOR/CLASS`.
    pub kind: &'a str,
    /// Its name among those of the kind.
    pub device: &'a str,
}

impl<'a> Name<'a> {
    /// The name `text`, if it is one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (kind, device) = text.split_once('=')?;
        (is_kind(kind) && is_device(device)).then_some(Self { kind, device })
    }
}

/// Whether `text` is `VENDOR/CLASS`.
pub fn is_kind(text: &str) -> bool {
    text.split_once('/').is_some_and(|(vendor, class)| is_word(vendor) && is_word(class))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && is_made_of(text, &['_', '-', '.'])
}

/// Whether `text` is the name of a device among those of a kind.
pub fn is_device(text: &str) -> bool {
    is_made_of(text, &['_', '-', '.', ':'])
}

/// Letters and digits, and between them `also`.
fn is_made_of(text: &str, also: &[char]) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    end(text.chars().next())
        && end(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_three_parts() {
        let name = Name::parse("nvidia.com/gpu=0:1").unwrap();
        assert_eq!((name.kind, name.device), ("nvidia.com/gpu", "0:1"));
        for good in ["v/c=d", "a-b.c/x.y=GPU-1", "v/c=0"] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        for bad in [
            "", "v/c", "v/c=", "=d", "v=d", "1v/c=d", "v/c-=d", "v/c=-d", "v/c=d:", "v/c=é", "v/c=a b",
            "v/c/x=d",
        ] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
    }
}
