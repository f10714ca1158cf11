//! What the labels of a namespace ask of its pods.

use crate::contract::field::{FieldError, FieldErrors, Path};
use serde_json::{Map, Value};
use std::fmt;

/// What all labels and notes begin with.
pub(super) const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(text: &str) -> Option<Level> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }
}

/// A level as it was in a version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) level: Level,
    /// Its minor version; `None` is the latest.
    pub(super) version: Option<u32>,
}

impl fmt::Display for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// What a namespace asks of its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// What does not reach it is refused.
    pub(super) enforce: Bar,
    /// What does not reach it is noted in the audit log.
    pub(super) audit: Bar,
    /// What does not reach it is told to the client.
    pub(super) warn: Bar,
}

impl Policy {
    /// The policy of a namespace with these labels, and what is wrong with them. What cannot be read is taken for the
    /// strictest where it refuses, and for nothing where it only tells.
    pub(super) fn of(labels: Option<&Map<String, Value>>) -> (Policy, FieldErrors) {
        let open = Bar { level: Level::Privileged, version: None };
        let mut policy = Policy { enforce: open, audit: open, warn: open };
        let mut errors = FieldErrors::new();
        let Some(labels) = labels else { return (policy, errors) };
        let mut read = Labels { labels, errors: &mut errors };
        let enforce = read.level("enforce");
        policy.enforce.level = enforce.unwrap_or(Some(Level::Privileged)).unwrap_or(Level::Restricted);
        policy.enforce.version = read.version("enforce-version").flatten();
        policy.audit.level = read.level("audit").flatten().unwrap_or(Level::Privileged);
        policy.audit.version = read.version("audit-version").flatten();
        let warn = read.level("warn");
        policy.warn.level = warn.flatten().unwrap_or(Level::Privileged);
        let version = read.version("warn-version");
        policy.warn.version = version.flatten();
        // Who is refused by something is warned of it as well, before pods are made of a template.
        if warn.is_none()
            && let Some(Some(level)) = enforce
            && level > policy.warn.level
        {
            policy.warn.level = level;
            if version.is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// Whether it asks for nothing at all.
    pub(super) fn is_open(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|bar| bar.level == Level::Privileged)
    }
}

struct Labels<'a> {
    labels: &'a Map<String, Value>,
    errors: &'a mut FieldErrors,
}

impl Labels<'_> {
    fn read<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>, detail: &str) -> Option<Option<T>> {
        let key = format!("{PREFIX}{name}");
        let text = self.labels.get(&key)?.as_str()?;
        let value = parse(text);
        if value.is_none() {
            let path = Path::new("metadata").child("labels").key(&key);
            self.errors.push(FieldError::invalid(&path, text, detail));
        }
        Some(value)
    }

    /// `None`: not said; `Some(None)`: said, and no level.
    fn level(&mut self, name: &str) -> Option<Option<Level>> {
        self.read(name, Level::parse, "must be one of privileged, baseline, restricted")
    }

    /// `None`: not said, or nothing that can be read; `Some(None)`: the latest.
    fn version(&mut self, name: &str) -> Option<Option<u32>> {
        let version = self.read(name, minor, "must be \"latest\" or \"v1.x\"")?;
        Some(version.flatten())
    }
}

/// The minor version of `v1.7`; `Some(None)` of `latest`.
fn minor(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let digits = text.strip_prefix("v1.")?;
    let plain =
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    // Any version beyond the latest is the latest.
    plain
        .then(|| digits.parse::<u64>().ok())
        .flatten()
        .map(|minor| Some(u32::try_from(minor).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(labels: &Value) -> (Policy, FieldErrors) {
        Policy::of(labels.as_object())
    }

    #[test]
    fn who_enforces_warns() {
        let (policy, errors) = of(&json!({"pod-security.kubernetes.io/enforce": "restricted",
                                           "pod-security.kubernetes.io/enforce-version": "v1.24"}));
        assert_eq!(
            (policy.enforce.to_string().as_str(), policy.warn, errors.len()),
            ("restricted:v1.24", policy.enforce, 0)
        );
        assert_eq!(policy.audit.to_string(), "privileged:latest");
        let (policy, _) = of(
            &json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "privileged"}),
        );
        assert_eq!(policy.warn.to_string(), "privileged:latest");
        assert!(of(&json!({"other": "x"})).0.is_open());
    }

    #[test]
    fn what_cannot_be_read_refuses_most_and_tells_least() {
        let (policy, errors) = of(&json!({
            "pod-security.kubernetes.io/enforce": "bad", "pod-security.kubernetes.io/audit": "bad",
            "pod-security.kubernetes.io/warn": "bad", "pod-security.kubernetes.io/warn-version": "v1.01",
        }));
        assert_eq!(
            (policy.enforce.level, policy.audit.level, policy.warn.level),
            (Level::Restricted, Level::Privileged, Level::Privileged)
        );
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 4);
        assert_eq!(
            texts[0],
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"bad\": must be one of privileged, \
             baseline, restricted"
        );
        assert_eq!(
            texts[3],
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\""
        );
    }
}
