//! Label selectors: `app=web,tier in (a,b),!canary`, and the objects that say the same.

use super::super::field::{ErrorKind, FieldError, FieldErrors, Path, quoted};
use super::super::names;
use super::parse;
use crate::contract::{Result, Status};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key in (a,b)`.
    In,
    /// `key notin (a,b)`; holds of objects without the label.
    NotIn,
    /// `key=a`.
    Equals,
    /// `key==a`.
    DoubleEquals,
    /// `key!=a`; holds of objects without the label.
    NotEquals,
    /// `key`.
    Exists,
    /// `!key`.
    DoesNotExist,
    /// `key>1`.
    GreaterThan,
    /// `key<1`.
    LessThan,
}

/// One condition of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it compares.
    pub operator: Operator,
    /// With what.
    pub values: Vec<String>,
}

/// Conditions on labels, all of which have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// The conditions, sorted by key; none match everything.
    pub requirements: Vec<Requirement>,
    /// Matches nothing, as the absent selector of an object does.
    pub nothing: bool,
}

impl LabelSelector {
    /// Reads the form that queries have.
    ///
    /// # Errors
    /// 400 with the words of Kubernetes' parser.
    pub fn parse(text: &str) -> Result<LabelSelector> {
        let requirements = parse::requirements(text).map_err(Status::bad_request)?;
        Ok(LabelSelector::of(requirements))
    }

    /// Reads an object with `matchLabels` and `matchExpressions`. Null matches nothing, an empty object everything.
    ///
    /// # Errors
    /// 400 with what is wrong with the first bad condition.
    pub fn from_object(selector: &Value) -> Result<LabelSelector> {
        if selector.is_null() {
            return Ok(LabelSelector { nothing: true, ..LabelSelector::default() });
        }
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let values = vec![value.as_str().unwrap_or_default().to_owned()];
            requirements.push(Requirement::new(key, Operator::Equals, values).map_err(Status::bad_request)?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(of_expression(expression).map_err(Status::bad_request)?);
        }
        Ok(LabelSelector::of(requirements))
    }

    /// Reads a plain map of labels (`spec.selector` of a Service); what is no string is taken for an empty one.
    #[must_use]
    pub fn from_labels(labels: &Map<String, Value>) -> LabelSelector {
        let requirement = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.as_str().unwrap_or_default().to_owned()],
        };
        LabelSelector::of(labels.iter().map(requirement).collect())
    }

    /// Whether it matches whatever there is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Whether all conditions hold of `metadata.labels`.
    #[must_use]
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        let value_of = |key: &str| labels?.get(key)?.as_str();
        !self.nothing && self.requirements.iter().all(|wish| wish.matches(value_of(&wish.key)))
    }

    fn of(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|one, other| one.key.cmp(&other.key));
        LabelSelector { requirements, nothing: false }
    }
}

fn of_expression(expression: &Value) -> std::result::Result<Requirement, String> {
    let text = |name: &str| expression.get(name).and_then(Value::as_str).unwrap_or_default();
    let operator = match text("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(format!("{} is not a valid label selector operator", quoted(other))),
    };
    let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
    let values = values.filter_map(|value| value.as_str().map(str::to_owned)).collect();
    Requirement::new(text("key"), operator, values)
}

impl Requirement {
    /// A condition that makes sense.
    ///
    /// # Errors
    /// Everything that is wrong with it, in one text.
    pub fn new(
        key: &str,
        operator: Operator,
        values: Vec<String>,
    ) -> std::result::Result<Requirement, String> {
        let mut errors = FieldErrors::new();
        if let Some(error) = key_error(key, "key") {
            errors.push(error);
        }
        let path = Path::new("values");
        let shown = || if values.is_empty() { Value::Null } else { Value::from(values.clone()) };
        let wrong = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        errors.extend(wrong.map(|wrong| FieldError::invalid(&path, shown(), wrong)));
        for (index, value) in values.iter().enumerate() {
            let compares = matches!(operator, Operator::GreaterThan | Operator::LessThan);
            if compares && number(value).is_none() {
                let wrong = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(FieldError::invalid(&path.index(index), value.as_str(), wrong));
            }
        }
        for (index, value) in values.iter().enumerate() {
            let wrong = names::label_value(value);
            if !wrong.is_empty() {
                let path = path.index(index).key(key);
                errors.push(FieldError::invalid(&path, value.as_str(), wrong.join("; ")));
            }
        }
        if errors.is_empty() {
            Ok(Requirement { key: key.to_owned(), operator, values })
        } else {
            Err(told(&errors))
        }
    }

    /// Whether it holds of the value of its label, `None` where an object has no such label.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let among = |value: &str| self.values.iter().any(|wish| wish == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(among),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(among),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let (Some(value), Some(wish)) =
                    (value.and_then(number), self.values.first().and_then(|wish| number(wish)))
                else {
                    return false;
                };
                if self.operator == Operator::GreaterThan { value > wish } else { value < wish }
            }
        }
    }
}

/// What is wrong with the key of a requirement; `field` is what the error says it found it in.
pub(super) fn key_error(key: &str, field: &str) -> Option<FieldError> {
    let wrong = names::qualified_name(key);
    (!wrong.is_empty()).then(|| FieldError {
        kind: ErrorKind::Invalid,
        field: field.to_owned(),
        shown: Some(quoted(key)),
        detail: wrong.join("; "),
    })
}

/// As Go reads it: an optional sign and digits.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Errors as one text: the same is told once, several stand in brackets.
fn told(errors: &FieldErrors) -> String {
    let mut seen = HashSet::with_capacity(errors.len());
    let texts = errors.iter().map(ToString::to_string);
    let mut texts: Vec<String> = texts.filter(|text| seen.insert(text.clone())).collect();
    if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let mut values: Vec<&str> = self.values.iter().map(String::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn matches(selector: &str, labels: &Value) -> bool {
        LabelSelector::parse(selector).unwrap().matches(labels.as_object())
    }

    #[test]
    fn it_matches_as_written() {
        let labels = json!({"app": "web", "n": "7", "empty": ""});
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,n", true),
            ("app!=web", false),
            ("none!=web", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("none notin (db)", true),
            ("none", false),
            ("!none", true),
            ("!app", false),
            ("n>6,n<8", true),
            ("n>7", false),
            ("app>1", false),
            ("empty=", true),
            ("empty in ()", true),
            ("empty in (,x)", true),
            ("in,notin", false),
        ] {
            assert_eq!(matches(selector, &labels), expected, "{selector}");
        }
        assert!(!LabelSelector::parse("app").unwrap().matches(None));
    }

    #[test]
    fn objects_say_the_same() {
        let selector = LabelSelector::from_object(&json!({
            "matchLabels": {"tier": "a"},
            "matchExpressions": [
                {"key": "app", "operator": "In", "values": ["web", "db"]},
                {"key": "gone", "operator": "DoesNotExist"},
            ],
        }));
        assert_eq!(selector.unwrap().to_string(), "app in (db,web),!gone,tier=a");
        assert!(LabelSelector::from_object(&json!({})).unwrap().matches(None));
        assert!(!LabelSelector::from_object(&Value::Null).unwrap().matches(None));
        let told = |object: Value| LabelSelector::from_object(&object).unwrap_err().message;
        assert_eq!(
            told(json!({"matchExpressions": [{"key": "a", "operator": "Near"}]})),
            "\"Near\" is not a valid label selector operator"
        );
        assert_eq!(
            told(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})),
            "values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty"
        );
    }
}
