//! One webhook of a configuration.

use super::super::conditions::Conditions;
use super::super::matching::Matching;
use super::review::Version;
use crate::cel::admission::Scope;
use crate::contract::Object;
use serde_json::Value;
use std::time::Duration;

/// One webhook of a configuration.
pub(super) struct Webhook {
    pub(super) name: String,
    /// Of the configuration.
    pub(super) configuration: String,
    /// `clientConfig`: where it is.
    pub(super) client: Value,
    pub(super) matching: Matching,
    pub(super) timeout: Duration,
    /// `failurePolicy: Ignore`.
    pub(super) ignored: bool,
    /// Whether it may be asked in a dry run: its side effects leave those out.
    pub(super) dry_runs: bool,
    /// `reinvocationPolicy: IfNeeded`.
    pub(super) reinvoked: bool,
    /// The first version of reviews that both sides speak.
    pub(super) version: Option<Version>,
    pub(super) scope: Scope,
    pub(super) conditions: Conditions,
    /// Among those of its configuration.
    index: usize,
}

impl Webhook {
    /// Those of a configuration, in their order.
    pub(super) fn all(configuration: &Object) -> Vec<Webhook> {
        let list = configuration.0.get("webhooks").and_then(Value::as_array);
        let numbered = list.into_iter().flatten().enumerate();
        numbered.map(|(index, webhook)| Webhook::read(configuration.name(), index, webhook)).collect()
    }

    fn read(configuration: &str, index: usize, webhook: &Value) -> Webhook {
        let text = |field: &str| webhook.get(field).and_then(Value::as_str).unwrap_or_default();
        let list = |field: &str| webhook.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let seconds = webhook.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(10).clamp(1, 30);
        let scope = Scope::new(false, true);
        Webhook {
            name: text("name").to_owned(),
            configuration: configuration.to_owned(),
            client: webhook.get("clientConfig").cloned().unwrap_or_default(),
            matching: Matching::of_webhook(webhook),
            timeout: Duration::from_secs(seconds),
            ignored: text("failurePolicy") == "Ignore",
            dry_runs: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            version: list("admissionReviewVersions")
                .iter()
                .filter_map(Value::as_str)
                .find_map(Version::named),
            conditions: Conditions::new(&scope, list("matchConditions")),
            scope,
            index,
        }
    }

    /// What nobody else is called.
    pub(super) fn key(&self) -> String {
        format!("{}/{}/{}", self.configuration, self.name, self.index)
    }
}
