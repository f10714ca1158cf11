//! Options of list and watch.

use super::{Query, checked, first, flag, number};
use crate::contract::Result;
use crate::contract::field::{FieldError, FieldErrors, Path};

/// How `resourceVersion` of a list is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// As of exactly this version.
    Exact,
    /// As of this version or a later one.
    NotOlderThan,
}

/// Options of list, watch and deletecollection; selectors are text until the resource is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Label selector.
    pub labels: String,
    /// Field selector.
    pub fields: String,
    /// Whether it is a watch.
    pub watch: bool,
    /// Whether a watch may send bookmarks.
    pub bookmarks: bool,
    /// Whether a watch begins with the objects that there are.
    pub initial_events: Option<bool>,
    /// The version; empty for the newest there is.
    pub version: String,
    /// How it is meant.
    pub version_match: Option<VersionMatch>,
    /// Seconds after which a watch ends.
    pub timeout: Option<u64>,
    /// At most so many items; 0 for all.
    pub limit: usize,
    /// Where the last list ended.
    pub token: String,
}

impl ListOptions {
    /// The options in a query.
    ///
    /// # Errors
    /// 400 for what is no number, 422 for what does not fit together.
    pub fn from_query(query: &Query) -> Result<ListOptions> {
        let text = |name| first(query, name).unwrap_or_default().to_owned();
        let mut options = ListOptions {
            labels: text("labelSelector"),
            fields: text("fieldSelector"),
            watch: flag(query, "watch").unwrap_or(false),
            bookmarks: flag(query, "allowWatchBookmarks").unwrap_or(false),
            initial_events: flag(query, "sendInitialEvents"),
            version: text("resourceVersion"),
            version_match: None,
            timeout: number(query, "timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok()),
            limit: number(query, "limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
            token: text("continue"),
        };
        let asked = text("resourceVersionMatch");
        options.version_match = match asked.as_str() {
            "Exact" => Some(VersionMatch::Exact),
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            _ => None,
        };
        if options.watch && asked.is_empty() && options.initial_events.is_none() && options.is_from_any() {
            options.initial_events = Some(true);
            options.version_match = Some(VersionMatch::NotOlderThan);
            return Ok(options);
        }
        let errors = if options.watch { options.watch_errors(&asked) } else { options.list_errors(&asked) };
        checked(options, "ListOptions", &errors)
    }

    /// Whether any version will do to begin with: none is given, or 0.
    #[must_use]
    pub fn is_from_any(&self) -> bool {
        matches!(self.version.as_str(), "" | "0")
    }

    fn list_errors(&self, asked: &str) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("resourceVersionMatch");
        if !asked.is_empty() {
            if self.version.is_empty() {
                let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(FieldError::forbidden(&path, detail));
            }
            if !self.token.is_empty() {
                let detail = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(FieldError::forbidden(&path, detail));
            }
            if self.version_match.is_none() {
                errors.push(FieldError::not_supported(&path, asked, &["Exact", "NotOlderThan", ""]));
            }
            if self.version_match == Some(VersionMatch::Exact) && self.version == "0" {
                let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
        if self.initial_events.is_some() {
            let path = Path::new("sendInitialEvents");
            errors.push(FieldError::forbidden(&path, "sendInitialEvents is forbidden for list"));
        }
        errors
    }

    fn watch_errors(&self, asked: &str) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let path = Path::new("resourceVersionMatch");
        if self.initial_events.is_some() && self.version_match != Some(VersionMatch::NotOlderThan) {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if !asked.is_empty() {
            if self.initial_events.is_none() {
                let detail =
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(FieldError::forbidden(&path, detail));
            }
            if self.version_match != Some(VersionMatch::NotOlderThan) {
                errors.push(FieldError::not_supported(&path, asked, &["NotOlderThan"]));
            }
            if !self.token.is_empty() {
                let detail = "resourceVersionMatch is forbidden when continue is provided";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Vec<(String, String)> {
        text.split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn a_limit_that_is_no_number_is_refused_in_the_words_of_go() {
        let refused = ListOptions::from_query(&query("limit=x")).expect_err("no number");
        assert_eq!(
            (refused.code, refused.message.as_str()),
            (400, "strconv.ParseInt: parsing \"x\": invalid syntax")
        );
    }

    #[test]
    fn a_match_needs_a_version() {
        let refused = ListOptions::from_query(&query("resourceVersionMatch=Exact")).expect_err("no version");
        assert_eq!(refused.code, 422);
        assert_eq!(
            refused.message,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is \
             forbidden unless resourceVersion is provided"
        );
    }

    #[test]
    fn a_watch_without_a_version_begins_with_what_is_there() {
        let options = ListOptions::from_query(&query("watch=1")).expect("good");
        assert_eq!(options.initial_events, Some(true));
        let options = ListOptions::from_query(&query("watch=1&resourceVersion=7")).expect("good");
        assert_eq!(options.initial_events, None);
    }
}
