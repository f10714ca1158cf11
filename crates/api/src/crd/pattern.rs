//! The pattern of a string, compiled when it is first asked: most patterns of most definitions never are.

use regex::Regex;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A regular expression as Go reads it; clones share what was compiled.
#[derive(Clone, Default)]
pub(super) struct Pattern {
    text: Arc<str>,
    compiled: Arc<OnceLock<Option<Regex>>>,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Pattern {
        Pattern { text: text.into(), compiled: Arc::default() }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// What is wrong with it, in Go's words.
    pub(super) fn error(&self) -> Option<String> {
        if self.is_empty() { None } else { crate::cel::regex(&self.text).err() }
    }

    /// Whether a text fits; to none, and to one that is no expression, everything does.
    pub(super) fn fits(&self, text: &str) -> bool {
        let compile = || crate::cel::regex(&self.text).ok();
        self.is_empty()
            || self.compiled.get_or_init(compile).as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}
