//! Options of create, update and patch.

use super::super::context::Context;
use super::super::target::PatchKind;
use super::{Query, checked, first, flag};
use crate::contract::Result;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::decode::FieldValidation;
use crate::resource::Asker;
use serde_json::Value;

/// Of which write the options are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch(PatchKind),
}

impl Verb {
    fn options_kind(self) -> &'static str {
        match self {
            Verb::Create => "CreateOptions",
            Verb::Update => "UpdateOptions",
            Verb::Patch(_) => "PatchOptions",
        }
    }
}

/// Options of create, update and patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// `dryRun=All`.
    pub dry_run: bool,
    /// `fieldManager`; empty when not given.
    pub manager: String,
    /// `fieldValidation`.
    pub validation: FieldValidation,
    /// `force` of an apply.
    pub force: bool,
}

impl WriteOptions {
    /// The options in a query.
    ///
    /// # Errors
    /// 422 for values that are none.
    pub fn from_query(verb: Verb, query: &Query) -> Result<WriteOptions> {
        let manager = first(query, "fieldManager").unwrap_or_default();
        let validation = first(query, "fieldValidation").unwrap_or_default();
        let force = flag(query, "force");
        let mut errors = FieldErrors::new();
        match verb {
            Verb::Patch(PatchKind::Apply) if manager.is_empty() => {
                errors.push(FieldError::required(&Path::new("fieldManager"), "is required for apply patch"));
            }
            Verb::Patch(kind) if kind != PatchKind::Apply && force.is_some() => {
                let path = Path::new("force");
                errors.push(FieldError::forbidden(&path, "may not be specified for non-apply patch"));
            }
            _ => {}
        }
        manager_errors(manager, &mut errors);
        let dry_run = dry_run(query, &mut errors);
        let options = WriteOptions {
            dry_run,
            manager: manager.to_owned(),
            validation: match validation {
                "Ignore" => FieldValidation::Ignore,
                "Strict" => FieldValidation::Strict,
                _ => FieldValidation::Warn,
            },
            force: force.unwrap_or(false),
        };
        if !matches!(validation, "" | "Ignore" | "Strict" | "Warn") {
            let path = Path::new("fieldValidation");
            errors.push(FieldError::not_supported(&path, validation, &["", "Ignore", "Strict", "Warn"]));
        }
        checked(options, verb.options_kind(), &errors)
    }

    /// The context of a request with these options.
    #[must_use]
    pub fn context(&self, asker: Asker, user_agent: &str) -> Context {
        let mut context = Context::of(asker, user_agent);
        if !self.manager.is_empty() {
            context.manager.clone_from(&self.manager);
        }
        Context { dry_run: self.dry_run, validation: self.validation, force: self.force, ..context }
    }
}

/// Whether `dryRun=All` is there; other values are errors.
pub(super) fn dry_run(query: &Query, errors: &mut FieldErrors) -> bool {
    let values: Vec<&str> =
        query.iter().filter(|(name, _)| name == "dryRun").map(|(_, value)| value.as_str()).collect();
    dry_run_of(&values, errors)
}

/// The same of values.
pub(super) fn dry_run_of(values: &[&str], errors: &mut FieldErrors) -> bool {
    if values.iter().any(|value| *value != "All") {
        let shown: Vec<Value> = values.iter().map(|value| Value::from(*value)).collect();
        errors.push(FieldError::not_supported(&Path::new("dryRun"), shown, &["All"]));
    }
    !values.is_empty()
}

fn manager_errors(manager: &str, errors: &mut FieldErrors) {
    let path = Path::new("fieldManager");
    if manager.len() > 128 {
        errors.push(FieldError::too_long(&path, 128));
    }
    for (at, character) in manager.char_indices().filter(|(_, character)| character.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
        errors.push(FieldError::invalid(&path, manager, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(verb: Verb, name: &str, value: &str) -> String {
        let query = [(name.to_owned(), value.to_owned())];
        WriteOptions::from_query(verb, &query).expect_err("not among the values").message
    }

    #[test]
    fn values_that_are_none_are_refused_with_those_that_are() {
        assert_eq!(
            refused(Verb::Create, "dryRun", "Some"),
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \
             \"All\""
        );
        assert_eq!(
            refused(Verb::Create, "fieldValidation", "Maybe"),
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Maybe\": supported \
             values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        );
        assert_eq!(
            refused(Verb::Patch(PatchKind::Apply), "dryRun", "All"),
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
        );
    }
}
