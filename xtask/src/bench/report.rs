//! What a bench prints.

use std::fmt::Display;

use serde::Serialize;

use crate::Result;

/// The same for people and for programs.
pub(super) struct Report {
    pub(super) table: String,
    pub(super) json: serde_json::Value,
}

impl Report {
    pub(super) fn of(outcome: &(impl Display + Serialize)) -> Result<Self> {
        Ok(Self { table: outcome.to_string(), json: serde_json::to_value(outcome)? })
    }
}
