//! Options of delete and deletecollection.

use super::write::{dry_run, dry_run_of};
use super::{Query, checked, first, flag, number};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Result, Status};
use crate::decode::{self, Media};
use serde_json::Value;

/// What becomes of those whose owner is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They are deleted after it.
    Background,
    /// They are deleted before it.
    Foreground,
}

/// What has to be so for a delete to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// The uid.
    pub uid: Option<String>,
    /// The resource version.
    pub version: Option<String>,
}

/// Options of delete and deletecollection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds that it has; negative means 1.
    pub grace: Option<i64>,
    /// What has to be so.
    pub preconditions: Preconditions,
    /// What becomes of those that it owns.
    pub propagation: Option<Propagation>,
    /// The older form of that: `orphanDependents`.
    pub orphan: Option<bool>,
    /// `dryRun=All`.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// The options in a query, which count where there is no body.
    ///
    /// # Errors
    /// 400 for what is no number, 422 for values that are none.
    pub fn from_query(query: &Query) -> Result<DeleteOptions> {
        let mut errors = FieldErrors::new();
        let mut options = DeleteOptions {
            grace: number(query, "gracePeriodSeconds")?,
            orphan: flag(query, "orphanDependents"),
            ..DeleteOptions::default()
        };
        options.set_propagation(first(query, "propagationPolicy"), &mut errors);
        options.dry_run = dry_run(query, &mut errors);
        checked(options, "DeleteOptions", &errors)
    }

    /// The options in a body.
    ///
    /// # Errors
    /// 400 for what is none, 422 for values that are none.
    pub fn from_body(body: &[u8], media: Media) -> Result<DeleteOptions> {
        let value = decode::value(body, media)?;
        let Value::Object(map) = &value else {
            return Err(Status::bad_request(
                "couldn't get version/kind; json parse error: json: cannot unmarshal into an object",
            ));
        };
        let kind = map.get("kind").and_then(Value::as_str).unwrap_or("DeleteOptions");
        if kind != "DeleteOptions" {
            return Err(Status::bad_request("decoded object cannot be converted to DeleteOptions"));
        }
        let mut errors = FieldErrors::new();
        let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let preconditions = map
            .get("preconditions")
            .map(|found| Preconditions { uid: text(found, "uid"), version: text(found, "resourceVersion") });
        let mut options = DeleteOptions {
            grace: integer(map.get("gracePeriodSeconds"))?,
            preconditions: preconditions.unwrap_or_default(),
            orphan: map.get("orphanDependents").and_then(Value::as_bool),
            ..DeleteOptions::default()
        };
        options.set_propagation(map.get("propagationPolicy").and_then(Value::as_str), &mut errors);
        let values: Vec<&str> = map
            .get("dryRun")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        options.dry_run = dry_run_of(&values, &mut errors);
        checked(options, "DeleteOptions", &errors)
    }

    fn set_propagation(&mut self, asked: Option<&str>, errors: &mut FieldErrors) {
        let Some(asked) = asked else { return };
        let path = Path::new("propagationPolicy");
        if self.orphan.is_some() {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, asked, detail));
        }
        self.propagation = match asked {
            "Orphan" => Some(Propagation::Orphan),
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            _ => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(FieldError::not_supported(&path, asked, &supported));
                None
            }
        };
    }
}

fn integer(value: Option<&Value>) -> Result<Option<i64>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| {
            Status::bad_request(format!(
                "json: cannot unmarshal {value} into Go struct field DeleteOptions.gracePeriodSeconds of type int64"
            ))
        }),
    }
}
