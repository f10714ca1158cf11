//! What may be said of HTTP requests, in both families of APIs.

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::meta::Name;

/// So many bytes a pattern may have.
const LONGEST_PATTERN: usize = 4096;
/// So many bytes a compiled pattern may take.
pub(crate) const LARGEST_PATTERN: usize = 1 << 20;
/// No compiled pattern counts for fewer ([`size`]).
pub(crate) const SMALLEST_PATTERN: usize = 1 << 12;
/// So many bytes each thread may keep of what it has found out about a pattern; what needs more is executed without.
const LARGEST_CACHE: usize = 1 << 18;

/// Which requests: those of which all of it is true. Patterns stand here as they are executed, anchors included.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct HttpMatch {
    /// By the path, without the query.
    #[serde(default)]
    pub path: PathMatch,
    /// By any of these methods; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// By all of these headers; names in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Pair>,
    /// By all of these parameters of the query; names are case-sensitive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<Pair>,
}

impl HttpMatch {
    /// Whether it says nothing about a request.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// All of its patterns.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        let path = match &self.path {
            PathMatch::Regex(pattern) => Some(pattern.as_str()),
            PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
        };
        let values = self.headers.iter().chain(&self.query).filter_map(|pair| match &pair.value {
            TextMatch::Regex(pattern) => Some(pattern.as_str()),
            TextMatch::Exact(_) => None,
        });
        path.into_iter().chain(values)
    }
}

/// By a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathMatch {
    /// This very path.
    Exact(String),
    /// This path and what is below it, element by element, without a `/` at its end; empty is any path.
    Prefix(String),
    /// A pattern.
    Regex(String),
}

impl Default for PathMatch {
    fn default() -> Self {
        Self::Prefix(String::new())
    }
}

impl PathMatch {
    /// A prefix as people write it.
    #[must_use]
    pub fn prefix(path: &str) -> Self {
        Self::Prefix(path.trim_end_matches('/').to_owned())
    }
}

/// A header or parameter, and what its value must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: TextMatch,
}

/// By a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextMatch {
    /// This very text.
    Exact(String),
    /// A pattern.
    Regex(String),
}

/// A pattern that has to fit the whole text: Gateway API's, and SMI's of headers.
#[must_use]
pub fn whole(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

/// A pattern that has to fit the text's beginning: SMI's of paths.
#[must_use]
pub fn beginning(pattern: &str) -> String {
    format!("^(?:{pattern})")
}

/// Compiles a pattern: Rust's dialect of RE2, in time linear in the text.
///
/// # Errors
/// It is none, or too long or too large to be executed for each request.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > LONGEST_PATTERN {
        return Err(format!(
            "it has {} bytes, anchors included; {LONGEST_PATTERN} are the most",
            pattern.len()
        ));
    }
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_CACHE);
    builder.build().map_err(|e| match e {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        other => {
            other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
    })
}

/// How many bytes a pattern takes at most when it is compiled: one of a few sizes. It is found out by trying.
pub(crate) fn size(pattern: &str) -> usize {
    let fits = |size: &usize| RegexBuilder::new(pattern).size_limit(*size).build().is_ok();
    [SMALLEST_PATTERN, 1 << 14, 1 << 16, 1 << 18].into_iter().find(fits).unwrap_or(LARGEST_PATTERN)
}

/// Checks a pattern by itself, since `a)|(?:b` must not get out of its anchors, and with these, as it is executed: a comment at its end
/// (`(?x)a #`) would hide them, and they count in its length.
pub(super) fn check(pattern: &str) -> Result<(), String> {
    compile(pattern)?;
    compile(&whole(pattern)).map(drop)
}

/// What happens to a request, or its response, on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// The request's headers are changed.
    RequestHeaders(HeaderEdit),
    /// The response's headers are changed.
    ResponseHeaders(HeaderEdit),
    /// It is answered with the place to ask at.
    Redirect(Redirect),
    /// It is asked for under another name.
    Rewrite(Rewrite),
    /// Somebody else gets a copy, whose answer is thrown away.
    Mirror(Mirror),
}

/// A change of headers: first what is removed, then what is set, then what is added. Names in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderEdit {
    /// In place of what there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, String)>,
    /// Beside what there is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(String, String)>,
    /// Names that go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// Where to ask instead. What is absent is as in the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathEdit>,
    /// The port. Without one it is the scheme's own where a scheme is given, else the request's.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Another name to ask under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// In place of the `Host`.
    pub hostname: Option<String>,
    /// In place of the path.
    pub path: Option<PathEdit>,
}

/// A change of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathEdit {
    /// The whole path, without the query.
    Full(String),
    /// What the rule's prefix matched.
    Prefix(String),
}

/// Who gets a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Its Service.
    pub service: Name,
    /// The Service's port.
    pub port: u16,
    /// Of how many requests: so many...
    pub numerator: u32,
    /// ... of so many.
    pub denominator: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_cannot_leave_its_anchors() {
        assert!(check("a)|(?:b").is_err());
        assert!(check("(?x)/api #").is_err());
        assert_eq!(check("(?x)/api # all\n"), Ok(()));
        assert!(compile(&whole("a|b")).expect("it is one").is_match(b"b"));
        assert!(!compile(&whole("a|b")).expect("it is one").is_match(b"ab"));
        assert!(compile(&beginning("/api")).expect("it is one").is_match(b"/apix"));
        assert!(!compile(&beginning("/b|/api")).expect("it is one").is_match(b"/x/api"));
    }

    #[test]
    fn a_pattern_takes_no_more_than_is_said() {
        let (small, large) = (size("^(?:/api)"), size("^(?:/(a{99}){99})"));
        assert!(small < large && large <= LARGEST_PATTERN, "{small}, {large}");
        assert_eq!(size("("), LARGEST_PATTERN, "what is none is not compiled");
    }

    #[test]
    fn patterns_that_cost_too_much_are_refused() {
        assert_eq!(compile("(((a{99}){99}){99})").map(drop), Err("it is too large when compiled".into()));
        assert!(compile(&"a".repeat(5000)).map(drop).unwrap_err().contains("4096"));
        assert!(compile("(a").map(drop).unwrap_err().contains("unclosed"));
        assert!(check(&"a".repeat(4094)).unwrap_err().contains("4100"), "its anchors count");
        assert_eq!(check(&"a".repeat(4090)), Ok(()));
    }
}
