//! Ids of instances, as `spec.providerID` of a node has them.

use std::fmt;
use std::str::FromStr;

use grpc::Failure;

/// The longest id, in bytes: what a label or an annotation of it may still be made of.
const LONGEST: usize = 1024;
/// How much of a text is repeated in an error.
const SHOWN: usize = 128;

/// `<provider>://<id>`: the provider's name, and what it calls the instance, which may have slashes in it (`aws:///eu-1a/i-0abc`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderId {
    provider: String,
    id: String,
}

impl ProviderId {
    /// The provider's name.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// What is behind `://`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id, if it is one of this provider.
    #[must_use]
    pub fn of(&self, provider: &str) -> Option<&str> {
        (self.provider == provider).then_some(self.id.as_str())
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.provider, self.id)
    }
}

impl FromStr for ProviderId {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            let shown = text.get(..text.floor_char_boundary(SHOWN)).unwrap_or_default();
            Failure::invalid("provider_id", format!("{shown:?} {why}; write it as <provider>://<id>"))
        };
        if text.len() > LONGEST {
            return Err(wrong(&format!("and more has {} bytes, {LONGEST} is the most", text.len())));
        }
        let (provider, id) = text.split_once("://").ok_or_else(|| wrong("has no '://'"))?;
        if !is_name(provider) {
            return Err(wrong("does not begin with a provider's name"));
        }
        if id.trim_matches('/').is_empty() {
            return Err(wrong("names no instance"));
        }
        if id.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(wrong("has a space or a control character in it"));
        }
        Ok(Self { provider: provider.into(), id: id.into() })
    }
}

/// Whether a provider may be called so: lower-case letters, digits, dashes and dots, 63 at most, a letter first.
pub(super) fn is_name(name: &str) -> bool {
    let is_one = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
    name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(is_one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_of_clouds_that_there_are() {
        for (text, provider, id) in [
            ("aws:///eu-central-1a/i-0123456789abcdef0", "aws", "/eu-central-1a/i-0123456789abcdef0"),
            ("gce://project/europe-west1-b/node-1", "gce", "project/europe-west1-b/node-1"),
            ("azure:///subscriptions/a/resourceGroups/b", "azure", "/subscriptions/a/resourceGroups/b"),
            ("openstack://region/7d1f", "openstack", "region/7d1f"),
            ("hcloud://42", "hcloud", "42"),
            ("k3s://node-1", "k3s", "node-1"),
        ] {
            let parsed: ProviderId = text.parse().unwrap();
            assert_eq!((parsed.provider(), parsed.id()), (provider, id));
            assert_eq!(parsed.to_string(), text);
            assert_eq!((parsed.of(provider), parsed.of("other")), (Some(id), None));
        }
    }

    #[test]
    fn what_is_no_id_is_told() {
        for text in [
            "",
            "aws",
            "aws:/i",
            "://i",
            "AWS://i",
            "a b://i",
            "aws://",
            "aws:///",
            "1a://i",
            "aws://i 1",
            "aws://i\n",
        ] {
            let error = text.parse::<ProviderId>().unwrap_err().to_string();
            assert!(error.contains("write it as <provider>://<id>"), "{error}");
        }
        let error = format!("aws://{}", "ü".repeat(1000)).parse::<ProviderId>().unwrap_err().to_string();
        assert!(error.len() < 400 && error.contains("2006 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_an_id_that_reads_the_same_or_none(text in ".{0,40}") {
            if let Ok(id) = text.parse::<ProviderId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
