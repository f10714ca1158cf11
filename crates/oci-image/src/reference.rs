//! Image references, by the rules of `distribution/reference` (Docker's): `[domain[:port]/]path[:tag][@digest]`.
//!
//! Short names are completed (`busybox` is `docker.io/library/busybox:latest`) and shortened again for display.

use std::fmt;
use std::str::FromStr;

use crate::contract::Digest;

/// The registry that a name without one belongs to.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
const OFFICIAL_REPOSITORY: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Longest repository path, in bytes (distribution/reference `RepositoryNameTotalLengthMax`).
const REPOSITORY_MAX: usize = 255;
/// Longest tag, in bytes.
const TAG_MAX: usize = 128;

/// A complete image reference: registry, repository and at least one of tag and digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not an image reference; names the offending part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot parse image reference {input:?}: {fault}")]
pub struct ReferenceError {
    /// The string as given.
    pub input: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// The part of a reference that breaks the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing was given, or nothing before the tag.
    #[error("the repository name is empty")]
    Empty,
    /// 64 hexadecimal digits mean an image id, not a name.
    #[error("64 hexadecimal digits are an image id, not a repository name")]
    Identifier,
    /// The part before the first slash looks like a host, but is none.
    #[error("registry {0:?} is not a host name, IPv4 address or [IPv6] address with an optional :port")]
    Registry(String),
    /// Upper case is allowed in the host and the tag alone.
    #[error("repository {0:?} must be lower case")]
    UpperCase(String),
    /// A path component breaks the grammar.
    #[error(
        "repository component {0:?} must be lower-case letters and digits, separated by one '.', one or two '_', or any number of '-'"
    )]
    Component(String),
    /// The path is too long.
    #[error("the repository has {0} characters, at most {REPOSITORY_MAX} are allowed")]
    RepositoryLength(usize),
    /// The tag breaks the grammar.
    #[error("tag {0:?} must be letters, digits, '_', '.' or '-', not begin with '.' or '-'")]
    Tag(String),
    /// The tag is too long.
    #[error("the tag has {0} characters, at most {TAG_MAX} are allowed")]
    TagLength(usize),
    /// The digest breaks the grammar or names an unknown algorithm.
    #[error("digest {digest:?} is not valid: {cause}")]
    Digest {
        /// The part after `@`.
        digest: String,
        /// What the digest's parser said.
        cause: String,
    },
}

impl Reference {
    /// Parses a reference as a person types it; without tag and digest the tag is `latest`.
    pub fn parse(input: &str) -> Result<Self, ReferenceError> {
        Self::parse_parts(input).map_err(|fault| ReferenceError { input: input.to_owned(), fault })
    }

    fn parse_parts(input: &str) -> Result<Self, Fault> {
        if is_identifier(input) {
            return Err(Fault::Identifier);
        }
        let (name, digest) = match input.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (input, None),
        };
        let (registry, rest) = split_registry(name);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        if path.is_empty() {
            return Err(Fault::Empty);
        }
        check_registry(registry)?;
        let repository = match registry == DEFAULT_REGISTRY && !path.contains('/') {
            true => format!("{OFFICIAL_REPOSITORY}{path}"),
            false => path.to_owned(),
        };
        check_repository(path)?;
        if repository.len() > REPOSITORY_MAX {
            return Err(Fault::RepositoryLength(repository.len()));
        }
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }

    /// Host and optional port, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path inside the registry, `library/` included.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only where a digest was given without one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the reference is pinned to one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`, complete, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// What the distribution API calls `<reference>`: the digest where there is one, else the tag.
    pub fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The same repository under another tag, without a digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        check_tag(tag).map_err(|fault| ReferenceError { input: tag.to_owned(), fault })?;
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// By its digest alone where it has one: a tag beside it says nothing about what is meant.
    pub fn canonical(self) -> Self {
        match self.digest {
            Some(_) => Self { tag: None, ..self },
            None => self,
        }
    }

    /// The same name pinned to `digest`; the tag is kept.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The short form that Docker prints: `busybox:latest` for `docker.io/library/busybox:latest`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(path) = full.strip_prefix(DEFAULT_REGISTRY).and_then(|path| path.strip_prefix('/')) else {
            return full;
        };
        match self.repository.strip_prefix(OFFICIAL_REPOSITORY) {
            // `library/a/b` shortened to `a/b` would name another repository.
            Some(short) if !short.contains('/') => path[OFFICIAL_REPOSITORY.len()..].to_owned(),
            // `docker.io/a.b/c` shortened to `a.b/c` would name another registry.
            _ if split_registry(path).1 != path => full,
            _ => path.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    /// The complete form: `docker.io/library/busybox:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(input: &str) -> Result<Self, ReferenceError> {
        Self::parse(input)
    }
}

/// Whether a registry may have a repository of this name.
pub(crate) fn is_repository(name: &str) -> bool {
    check_repository(name).is_ok() && name.len() <= REPOSITORY_MAX
}

/// Whether a manifest may be tagged so.
pub(crate) fn is_tag(tag: &str) -> bool {
    check_tag(tag).is_ok()
}

/// `splitDockerDomain` of distribution/reference: what precedes the first slash is a registry only if it looks like one.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((LEGACY_DEFAULT_REGISTRY, rest)) => (DEFAULT_REGISTRY, rest),
        Some((first, rest)) if looks_like_host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn looks_like_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase)
}

fn check_registry(registry: &str) -> Result<(), Fault> {
    let fault = || Fault::Registry(registry.to_owned());
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(fault)?;
            let digits = |b: u8| b.is_ascii_hexdigit() || b == b':';
            if address.is_empty() || !address.bytes().all(digits) {
                return Err(fault());
            }
            let port = match rest {
                "" => None,
                _ => Some(rest.strip_prefix(':').ok_or_else(fault)?),
            };
            ("", port)
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return Err(fault());
    }
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    match registry.starts_with('[') || host.split('.').all(label) {
        true => Ok(()),
        false => Err(fault()),
    }
}

fn check_repository(path: &str) -> Result<(), Fault> {
    if path.chars().any(char::is_uppercase) {
        return Err(Fault::UpperCase(path.to_owned()));
    }
    match path.split('/').find(|component| !is_component(component)) {
        Some(component) => Err(Fault::Component(component.to_owned())),
        None => Ok(()),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(component: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = bytes.first().is_some_and(word) && bytes.last().is_some_and(word);
    let separator = |run: &[u8]| matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-');
    ends && bytes
        .chunk_by(|a, b| word(a) == word(b))
        .all(|run| run.first().is_some_and(word) || separator(run))
}

fn check_tag(tag: &str) -> Result<(), Fault> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let inner = |b: u8| word(b) || b == b'.' || b == b'-';
    match tag.bytes().next().is_some_and(word) && tag.bytes().all(inner) {
        false => Err(Fault::Tag(tag.to_owned())),
        true if tag.len() > TAG_MAX => Err(Fault::TagLength(tag.len())),
        true => Ok(()),
    }
}

fn parse_digest(digest: &str) -> Result<Digest, Fault> {
    digest
        .parse::<Digest>()
        .map_err(|error| Fault::Digest { digest: digest.to_owned(), cause: error.to_string() })
}

fn is_identifier(input: &str) -> bool {
    input.len() == 64 && input.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests;
