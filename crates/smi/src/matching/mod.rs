//! Finds a request's rule.
//!
//! [`Matcher`] is made once of a list of matches, and asked for each request which of them is the first that fits. Exact paths are
//! looked up, prefixes too, one for each element of the path; patterns are tried in order as long as one could be the first. It
//! allocates nothing itself, but where a parameter of the query is percent-encoded; a pattern allocates once for each thread.
//!
//! The path must be what the backend will see: dot segments resolved, what need not be percent-encoded decoded. Who matches
//! `/public/../admin` as it stands lets it through a policy for `/public`.

mod query;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use regex::bytes::Regex;

use crate::contract::http::{self, HttpMatch, Pair, PathMatch, TextMatch};

/// A request's head, wherever it is kept.
pub trait Head {
    /// Its method, in upper case where it is one of those that are.
    fn method(&self) -> &str;
    /// Its path, without the query.
    fn path(&self) -> &str;
    /// Its query, without the `?`.
    fn query(&self) -> Option<&str>;
    /// Whether a header of this name, in lower case, has a value of which this is true. Of HTTP/2, `host` is `:authority`.
    fn any_header(&self, name: &str, is: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// Why a list of matches cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot compile match {place}: {pattern:?} is no pattern: {cause}")]
pub struct Uncompiled {
    /// The match's place.
    pub place: usize,
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub cause: String,
}

/// A list of matches, ready for requests.
#[derive(Debug, Default)]
pub struct Matcher {
    rest: Vec<Rest>,
    exact: HashMap<Box<str>, Vec<usize>>,
    prefixes: HashMap<Box<str>, Vec<usize>>,
    /// The longest prefix: what is longer of a path is not looked up.
    longest: usize,
    patterns: Vec<(usize, Regex)>,
}

/// What a match says besides the path.
#[derive(Debug)]
struct Rest {
    methods: Vec<Box<str>>,
    headers: Vec<(Box<str>, Value)>,
    query: Vec<(Box<str>, Value)>,
}

#[derive(Debug)]
enum Value {
    Exact(Box<[u8]>),
    Pattern(Regex),
}

impl Value {
    fn of(text: &TextMatch, place: usize) -> Result<Self, Uncompiled> {
        Ok(match text {
            TextMatch::Exact(text) => Self::Exact(text.as_bytes().into()),
            TextMatch::Regex(pattern) => Self::Pattern(compiled(pattern, place)?),
        })
    }

    fn is(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => **text == *value,
            Self::Pattern(pattern) => pattern.is_match(value),
        }
    }
}

fn compiled(pattern: &str, place: usize) -> Result<Regex, Uncompiled> {
    http::compile(pattern).map_err(|cause| Uncompiled { place, pattern: pattern.to_owned(), cause })
}

impl Matcher {
    /// Of these matches; the first that fits counts, in whatever order they are.
    ///
    /// # Errors
    /// A pattern is none, which those of a compiled model never are.
    pub fn new<'m>(matches: impl IntoIterator<Item = &'m HttpMatch>) -> Result<Self, Uncompiled> {
        let mut matcher = Self::default();
        for (place, one) in matches.into_iter().enumerate() {
            match &one.path {
                PathMatch::Exact(path) => {
                    matcher.exact.entry(path.as_str().into()).or_default().push(place);
                }
                PathMatch::Prefix(path) => {
                    matcher.longest = matcher.longest.max(path.len());
                    matcher.prefixes.entry(path.as_str().into()).or_default().push(place);
                }
                PathMatch::Regex(pattern) => matcher.patterns.push((place, compiled(pattern, place)?)),
            }
            let pairs = |pairs: &[Pair]| {
                let pair = |pair: &Pair| Ok((pair.name.as_str().into(), Value::of(&pair.value, place)?));
                pairs.iter().map(pair).collect::<Result<Vec<_>, Uncompiled>>()
            };
            matcher.rest.push(Rest {
                methods: one.methods.iter().map(|method| method.as_str().into()).collect(),
                headers: pairs(&one.headers)?,
                query: pairs(&one.query)?,
            });
        }
        Ok(matcher)
    }

    /// How many matches it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether nothing can fit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The place of the first match that fits.
    #[must_use]
    pub fn find(&self, head: &impl Head) -> Option<usize> {
        let path = head.path();
        let mut best = usize::MAX;
        let take = |places: Option<&Vec<usize>>, best: &mut usize| {
            let places = places.into_iter().flatten().copied();
            if let Some(place) =
                places.take_while(|place| *place < *best).find(|place| self.fits(*place, head))
            {
                *best = place;
            }
        };
        if !self.exact.is_empty() {
            take(self.exact.get(path), &mut best);
        }
        if !self.prefixes.is_empty() {
            take(self.prefixes.get(""), &mut best);
            // Each beginning of the path that ends where an element does.
            let bytes = path.as_bytes();
            for end in 1..=bytes.len().min(self.longest) {
                if bytes.get(end).is_none_or(|byte| *byte == b'/') {
                    // A path may have any character; between them, where no prefix ends, there is nothing to look up.
                    take(path.get(..end).and_then(|prefix| self.prefixes.get(prefix)), &mut best);
                }
            }
        }
        for (place, pattern) in &self.patterns {
            if *place >= best {
                break;
            }
            if self.fits(*place, head) && pattern.is_match(path.as_bytes()) {
                best = *place;
            }
        }
        (best != usize::MAX).then_some(best)
    }

    /// Whether a match fits but for its path.
    fn fits(&self, place: usize, head: &impl Head) -> bool {
        let Some(rest) = self.rest.get(place) else { return false };
        (rest.methods.is_empty() || rest.methods.iter().any(|method| **method == *head.method()))
            && rest.headers.iter().all(|(name, value)| head.any_header(name, &mut |found| value.is(found)))
            && rest.query.iter().all(|(name, value)| {
                head.query().is_some_and(|query| query::first(query, name, |found| value.is(found)))
            })
    }
}
