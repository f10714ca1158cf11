//! Rows of metrics, each with the labels that its descriptor says.

use super::descriptors;
use crate::contract::v1::{Metric, UInt64Value};

/// The metrics of one pod or container.
#[derive(Debug)]
pub(super) struct Rows {
    base: [String; 5],
    at: i64,
    rows: Vec<Metric>,
}

impl Rows {
    /// Rows with these values of the base labels, at this time (nanoseconds since 1970).
    pub(super) fn new(base: [String; 5], at: i64) -> Self {
        Self { base, at, rows: Vec::new() }
    }

    /// One row, if there is a value.
    pub(super) fn add(&mut self, name: &str, labels: &[&str], value: Option<u64>) {
        let (Some(descriptor), Some(value)) = (descriptors::find(name), value) else { return };
        debug_assert_eq!(descriptor.labels.len(), labels.len(), "{name}");
        self.rows.push(Metric {
            name: name.to_owned(),
            timestamp: self.at,
            metric_type: descriptor.kind.into(),
            label_values: self.base.iter().cloned().chain(labels.iter().map(|&l| l.to_owned())).collect(),
            value: Some(UInt64Value { value }),
        });
    }

    /// All of them.
    pub(super) fn done(self) -> Vec<Metric> {
        self.rows
    }
}
