//! The defaults of a schema have to be values of it.

use super::ratchet::Old;
use super::rules::Rules;
use super::schema::Props;
use super::{lists, meta, prune, values};
use crate::contract::field::{FieldError, FieldErrors, Path};

/// What is wrong with the defaults in a schema.
pub(super) fn validate(props: &Props, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    node(props, path, true, &mut errors);
    errors
}

fn node(props: &Props, path: &Path, root: bool, errors: &mut FieldErrors) {
    if let Some(default) = &props.default {
        let at = path.child("default");
        let mut pruned = default.clone();
        prune::prune(&mut pruned, props, props.embedded, "", &mut Vec::new());
        if pruned != *default {
            errors.push(FieldError::invalid(&at, default.clone(), "must not have unknown fields"));
        }
        let mut found = meta::validate(props, default, &at, props.embedded);
        if found.is_empty() {
            found = values::validate(props, default, &at, Old::NONE);
        }
        if found.is_empty()
            && let Some(rules) = Rules::compile(props, root || props.embedded)
        {
            found = rules.validate(props, default, &at, Old::of(Some(default)));
            if found.is_empty() {
                found = rules.validate(props, default, &at, Old::NONE);
            }
        }
        if found.is_empty() {
            found = lists::validate(props, default, &at);
        }
        errors.extend(found);
    }
    if let Some(items) = &props.items {
        node(items, &path.child("items"), false, errors);
    }
    for (name, schema) in &props.properties {
        node(schema, &path.child("properties").key(name), false, errors);
    }
}
