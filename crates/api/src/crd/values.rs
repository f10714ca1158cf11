//! Values against the keywords of a schema, in the words of the validator that Kubernetes uses.

use super::formats;
use super::ratchet::Old;
use super::schema::{Additional, Props};
use crate::cel::number_text;
use crate::contract::field::{ErrorKind, FieldError, FieldErrors, Path, quoted};
use serde_json::Value;
use std::collections::HashSet;

/// Everything that is wrong with `value`; `old` is what it was, if it was anything. Unchanged wrong values are let pass.
pub(super) fn validate(props: &Props, value: &Value, path: &Path, old: Old<'_>) -> FieldErrors {
    let mut checker = Checker { errors: FieldErrors::new(), base: path, matches: 0 };
    checker.value(props, value, &Name::default(), old);
    checker.errors
}

/// The name of a value as the validator writes it: `spec.list[0].field`, empty at the root.
#[derive(Clone, Debug, Default)]
struct Name(String);

impl Name {
    fn field(&self, name: &str) -> Name {
        if self.0.is_empty() { Name(name.to_owned()) } else { Name(format!("{}.{name}", self.0)) }
    }

    fn index(&self, index: usize) -> Name {
        Name(format!("{}[{index}]", self.0))
    }
}

struct Checker<'a> {
    errors: FieldErrors,
    base: &'a Path,
    /// How much was looked at: the alternative that looked at most tells its errors.
    matches: usize,
}

impl Checker<'_> {
    fn path(&self, name: &Name) -> Path {
        if name.0.is_empty() { self.base.clone() } else { self.base.child(&name.0) }
    }

    fn error(&mut self, kind: ErrorKind, name: &Name, shown: Option<String>, detail: impl Into<String>) {
        let field = self.path(name).as_str().to_owned();
        self.errors.push(FieldError { kind, field, shown, detail: detail.into() });
    }

    /// `name in body should ...`.
    fn should(&mut self, name: &Name, value: &Value, rule: &str) {
        let error =
            FieldError::invalid(&self.path(name), value.clone(), format!("{} in body {rule}", name.0));
        self.errors.push(error);
    }

    fn value(&mut self, props: &Props, value: &Value, name: &Name, old: Old<'_>) {
        let before = self.errors.len();
        self.keywords(props, value, name, old);
        // What was wrong and has not changed may stay, unless the root itself is meant.
        if self.errors.len() > before && old.is_same(value) {
            self.errors.truncate(before);
        }
    }

    fn keywords(&mut self, props: &Props, value: &Value, name: &Name, old: Old<'_>) {
        self.matches += 1;
        self.type_(props, value, name);
        if value.is_null() {
            self.enum_(props, value, name);
            return;
        }
        self.compound(props, value, name);
        match value {
            Value::String(text) => self.string(props, text, value, name),
            Value::Number(number) => self.number(props, number.as_f64().unwrap_or(0.0), value, name),
            Value::Array(items) => self.list(props, items, name, old),
            _ => {}
        }
        self.enum_(props, value, name);
        if let Value::Object(map) = value {
            self.object(props, map, name, old);
        }
    }

    fn type_(&mut self, props: &Props, value: &Value, name: &Name) {
        if props.type_.is_empty() && !props.int_or_string {
            return;
        }
        self.matches += 1;
        if value.is_null() {
            if !props.nullable {
                let wanted = if props.int_or_string { "integer,string" } else { &props.type_ };
                let detail = format!("{} in body must be of type {wanted}: \"null\"", name.0);
                self.error(ErrorKind::TypeInvalid, name, Some("\"null\"".to_owned()), detail);
            }
            return;
        }
        let found = match value {
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            _ => "object",
        };
        let fits = if props.int_or_string {
            matches!(found, "integer" | "string")
        } else {
            found == props.type_ || (found == "integer" && props.type_ == "number")
        };
        if !fits {
            let wanted = if props.int_or_string { "integer,string" } else { &props.type_ };
            let detail = format!("{} in body must be of type {wanted}: {}", name.0, quoted(found));
            self.error(ErrorKind::TypeInvalid, name, Some(quoted(found)), detail);
        }
    }

    fn string(&mut self, props: &Props, text: &str, value: &Value, name: &Name) {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        // Of these three only the first is told.
        if let Some(most) = props.max_length.filter(|most| length > *most) {
            let path = self.path(name);
            self.errors.push(FieldError::too_long(&path, usize::try_from(most).unwrap_or(0)));
        } else if let Some(least) = props.min_length.filter(|least| length < *least) {
            self.should(name, value, &format!("should be at least {least} chars long"));
        } else if !props.pattern.fits(text) {
            self.should(name, value, &format!("should match '{}'", props.pattern.as_str()));
        }
        let of_strings = props.type_.is_empty() || props.type_ == "string";
        if of_strings && formats::is_known(&props.format) && !formats::is(&props.format, text) {
            let detail = format!("{} in body must be of type {}: {}", name.0, props.format, quoted(text));
            self.error(ErrorKind::TypeInvalid, name, Some(quoted(text)), detail);
        }
    }

    fn number(&mut self, props: &Props, number: f64, value: &Value, name: &Name) {
        if props.type_ == "integer" {
            let small = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number);
            let format = match props.format.as_str() {
                "int32" | "int64" => format!("with format {}", props.format),
                _ => "(default format)".to_owned(),
            };
            if number.fract() != 0.0 || (props.format == "int32" && !small) {
                let detail = format!("Checked value must be of type integer {format} in {}", name.0);
                self.errors.push(FieldError::invalid(&Path::root(), "", detail));
            }
        }
        if let Some(factor) = props.multiple_of {
            let quotient = number / factor;
            if factor > 0.0 && (quotient - quotient.round()).abs() > f64::EPSILON * quotient.abs().max(1.0) {
                self.should(name, value, &format!("should be a multiple of {}", number_text(factor)));
            }
        }
        if let Some(most) = props.maximum {
            let (wrong, words) = if props.exclusive_maximum {
                (number >= most, "should be less than")
            } else {
                (number > most, "should be less than or equal to")
            };
            if wrong {
                self.should(name, value, &format!("{words} {}", number_text(most)));
            }
        }
        if let Some(least) = props.minimum {
            let (wrong, words) = if props.exclusive_minimum {
                (number <= least, "should be greater than")
            } else {
                (number < least, "should be greater than or equal to")
            };
            if wrong {
                self.should(name, value, &format!("{words} {}", number_text(least)));
            }
        }
    }

    fn list(&mut self, props: &Props, items: &[Value], name: &Name, old: Old<'_>) {
        if let Some(schema) = &props.items {
            let before = old.items(props);
            for (index, item) in items.iter().enumerate() {
                self.value(schema, item, &name.index(index), before.of(item));
            }
        }
        let count = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(least) = props.min_items.filter(|least| count < *least) {
            let detail = format!("{} in body should have at least {least} items", name.0);
            self.error(ErrorKind::Invalid, name, Some(count.to_string()), detail);
        }
        if let Some(most) = props.max_items.filter(|most| count > *most) {
            let error =
                FieldError::too_many(&self.path(name), items.len(), usize::try_from(most).unwrap_or(0));
            self.errors.push(error);
        }
        if props.unique_items && !is_unique(items) {
            let detail = format!("{} in body shouldn't contain duplicates", name.0);
            self.error(ErrorKind::Invalid, name, Some("\"\"".to_owned()), detail);
        }
    }

    fn enum_(&mut self, props: &Props, value: &Value, name: &Name) {
        if props.enum_.is_empty() || props.enum_.iter().any(|allowed| same(allowed, value)) {
            return;
        }
        let values: Vec<String> = props
            .enum_
            .iter()
            .map(|allowed| allowed.as_str().map_or_else(|| allowed.to_string(), str::to_owned))
            .collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let error = FieldError::not_supported(&self.path(name), value.clone(), &values);
        self.errors.push(error);
    }

    fn object(&mut self, props: &Props, map: &serde_json::Map<String, Value>, name: &Name, old: Old<'_>) {
        let count = i64::try_from(map.len()).unwrap_or(i64::MAX);
        if let Some(least) = props.min_properties.filter(|least| count < *least) {
            let detail = format!("{} in body should have at least {least} properties", name.0);
            self.error(ErrorKind::Invalid, name, Some(count.to_string()), detail);
        }
        if let Some(most) = props.max_properties.filter(|most| count > *most) {
            let error = FieldError::too_many(&self.path(name), map.len(), usize::try_from(most).unwrap_or(0));
            self.errors.push(error);
        }
        for (key, value) in map {
            let (schema, below) = match (props.properties.get(key), &props.additional) {
                (Some(schema), _) => (schema, name.field(key)),
                (None, Some(Additional::Of(schema))) => (&**schema, Name(format!("{}.{key}", name.0))),
                (None, Some(Additional::Any(false))) => {
                    let detail = format!("{}.{key} in body is a forbidden property", name.0);
                    self.error(ErrorKind::Invalid, name, Some(quoted(key)), detail);
                    continue;
                }
                _ => continue,
            };
            self.value(schema, value, &below, old.key(key));
        }
        for required in props.required.iter().filter(|required| !map.contains_key(*required)) {
            let error = FieldError::required(&self.path(&name.field(required)), "");
            self.errors.push(error);
        }
    }

    /// What the combinations of schemas say. Their own errors name no field.
    fn compound(&mut self, props: &Props, value: &Value, name: &Name) {
        if !props.any_of.is_empty() {
            let outcomes = self.each(&props.any_of, value, name);
            if !outcomes.iter().any(Outcome::is_valid) {
                self.combined(name, "must validate at least one schema (anyOf)");
                self.errors.extend(furthest(outcomes));
            }
        }
        if !props.one_of.is_empty() {
            let outcomes = self.each(&props.one_of, value, name);
            let fitting = outcomes.iter().filter(|outcome| outcome.is_valid()).count();
            let rule = "must validate one and only one schema (oneOf).";
            if fitting == 0 {
                self.combined(name, &format!("{rule} Found none valid"));
                self.errors.extend(furthest(outcomes));
            } else if fitting > 1 {
                self.combined(name, &format!("{rule} Found {fitting} valid alternatives"));
            }
        }
        if !props.all_of.is_empty() {
            let outcomes = self.each(&props.all_of, value, name);
            let failing = outcomes.iter().filter(|outcome| !outcome.is_valid()).count();
            if failing > 0 {
                let none = failing == outcomes.len();
                self.errors.extend(outcomes.into_iter().flat_map(|outcome| outcome.errors));
                let end = if none { ". None validated" } else { "" };
                self.combined(name, &format!("must validate all the schemas (allOf){end}"));
            }
        }
        if let Some(not) = &props.not
            && self.each(std::slice::from_ref(not), value, name)[0].is_valid()
        {
            self.combined(name, "must not validate the schema (not)");
        }
    }

    fn combined(&mut self, name: &Name, rule: &str) {
        let detail = format!("{} {rule}", quoted(&name.0));
        self.errors.push(FieldError::invalid(self.base, "", detail));
    }

    /// What each of several schemas says; none of them knows what was there before, as in Kubernetes.
    fn each(&mut self, schemas: &[Props], value: &Value, name: &Name) -> Vec<Outcome> {
        let run = |props: &Props| {
            let mut checker = Checker { errors: FieldErrors::new(), base: self.base, matches: 0 };
            checker.value(props, value, name, Old::NONE);
            Outcome { errors: checker.errors, matches: checker.matches }
        };
        schemas.iter().map(run).collect()
    }
}

/// What one of several schemas says.
struct Outcome {
    errors: FieldErrors,
    matches: usize,
}

impl Outcome {
    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

/// The errors of the first alternative that looked at most.
fn furthest(outcomes: Vec<Outcome>) -> FieldErrors {
    let mut outcomes = outcomes.into_iter();
    let first = outcomes.next();
    let best = first.map(|first| {
        outcomes.fold(first, |best, next| if next.matches > best.matches { next } else { best })
    });
    best.map(|best| best.errors).unwrap_or_default()
}

fn is_unique(items: &[Value]) -> bool {
    let mut seen = HashSet::new();
    items.iter().all(|item| seen.insert(canonical(item)))
}

/// A text that is the same of values that are the [`same`], and of no others.
pub(super) fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.as_i64().is_none()) {
            // What is whole is written as the whole number is.
            Some(number) => out.push_str(&format!("{number}")),
            None => out.push_str(&number.to_string()),
        },
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (key, value) in map {
                out.push_str(&quoted(key));
                out.push(':');
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::String(text) => out.push_str(&quoted(text)),
        other => out.push_str(&other.to_string()),
    }
}

/// Equality in which numbers count by their value.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}
