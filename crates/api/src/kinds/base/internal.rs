//! Objects as Kubernetes has them inside: some messages show them so, with every field and in the order of the types.
//!
//! The facts of the types are in `internal.txt`, read once when the first such message is written. Two objects that are
//! equal in this form are equal to Kubernetes: absent, null and empty are the same, quantities are canonical.

use super::Fields;
use crate::contract::field::go_json;
use crate::contract::quantity::Quantity;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

static TYPES: LazyLock<HashMap<&'static str, Vec<Member>>> = LazyLock::new(|| {
    let lines = include_str!("internal.txt").lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, members) = line.split_once(' ')?;
            Some((name, members.split(' ').map(Member::parse).collect()))
        })
        .collect()
});

/// A member of a type.
enum Member {
    Field { json: &'static str, name: String, form: &'static str, around: bool },
    Embedded(&'static str),
    Metadata(&'static str),
}

impl Member {
    fn parse(text: &'static str) -> Member {
        if let Some(name) = text.strip_prefix('+') {
            return Member::Embedded(name);
        }
        if let Some(field) = text.strip_prefix('@') {
            return Member::Metadata(field);
        }
        let (names, form) = text.split_once(':').unwrap_or((text, "v"));
        let (around, names) = names.strip_prefix('^').map_or((false, names), |names| (true, names));
        let (json, name) = match names.split_once('=') {
            Some((json, name)) => (json, name.to_owned()),
            None => (names, names[..1].to_uppercase() + &names[1..]),
        };
        Member::Field { json, name, form, around }
    }
}

/// `value` of the type `form` on one line, as a message shows a bad value.
#[must_use]
pub fn shown(form: &str, value: &Value) -> String {
    Writer { out: String::new(), indent: None }.finish(form, value)
}

/// `value` of the type `form` on many lines, indented by one space.
#[must_use]
pub fn pretty(form: &str, value: &Value) -> String {
    Writer { out: String::new(), indent: Some(0) }.finish(form, value)
}

/// Whether two values are equal to Kubernetes.
#[must_use]
pub fn same(form: &str, one: &Value, other: &Value) -> bool {
    one == other || shown(form, one) == shown(form, other)
}

struct Writer {
    out: String,
    /// The depth, where lines are indented.
    indent: Option<usize>,
}

impl Writer {
    fn finish(mut self, form: &str, value: &Value) -> String {
        self.value(form, Some(value), None);
        self.out
    }

    fn value(&mut self, form: &str, value: Option<&Value>, around: Option<&Value>) {
        let value = super::defined(value);
        if let Some(form) = form.strip_prefix('*') {
            // What stands around is asked of pointers too: the security context of a pod.
            match value {
                Some(value) => self.value(form, Some(value), around),
                None => self.out.push_str("null"),
            }
        } else if let Some(form) = form.strip_prefix("[]") {
            match value.and_then(Value::as_array).filter(|list| !list.is_empty()) {
                Some(list) => {
                    self.entries('[', ']', list, |writer, item| writer.value(form, Some(item), None))
                }
                None => self.out.push_str("null"),
            }
        } else if let Some(form) = form.strip_prefix("{}") {
            match value.and_then(Value::as_object).filter(|map| !map.is_empty()) {
                Some(map) => self.entries('{', '}', map, |writer, (key, item)| {
                    writer.key(key);
                    writer.value(form, Some(item), None);
                }),
                None => self.out.push_str("null"),
            }
        } else {
            self.plain(form, value, around);
        }
    }

    fn plain(&mut self, form: &str, value: Option<&Value>, around: Option<&Value>) {
        match form {
            "s" => self.text(value.and_then(Value::as_str).unwrap_or_default()),
            "b" => self.out.push_str(if value == Some(&Value::Bool(true)) { "true" } else { "false" }),
            "i" => self.number(value),
            "q" => {
                let quantity = value.and_then(|value| Quantity::from_json(value).ok()).unwrap_or_default();
                self.text(&quantity.to_string());
            }
            "x" => match value {
                Some(Value::String(text)) => self.text(text),
                number => self.number(number),
            },
            "v" => self.any(value),
            object => {
                let Some(members) = TYPES.get(object) else { return self.any(value) };
                let mut fields = Vec::new();
                collect(members, value, around, &mut fields);
                self.entries('{', '}', &fields, |writer, (name, form, value, around)| {
                    writer.key(name);
                    writer.value(form, *value, *around);
                });
            }
        }
    }

    /// A value in its wire form.
    fn any(&mut self, value: Option<&Value>) {
        match value {
            None => self.out.push_str("null"),
            Some(Value::Object(map)) => self.entries('{', '}', map, |writer, (key, item)| {
                writer.key(key);
                writer.any(Some(item));
            }),
            Some(Value::Array(list)) => self.entries('[', ']', list, |writer, item| writer.any(Some(item))),
            Some(Value::String(text)) => self.text(text),
            Some(other) => {
                let _ = write!(self.out, "{other}");
            }
        }
    }

    fn number(&mut self, value: Option<&Value>) {
        match value {
            Some(Value::Number(number)) => {
                let _ = write!(self.out, "{number}");
            }
            _ => self.out.push('0'),
        }
    }

    /// A string with the escapes of Go, which are those of JSON and of what HTML would take for its own.
    fn text(&mut self, text: &str) {
        self.out.push_str(&go_json(&Value::from(text)));
    }

    fn key(&mut self, key: &str) {
        self.text(key);
        self.out.push_str(if self.indent.is_some() { ": " } else { ":" });
    }

    fn entries<I: IntoIterator>(
        &mut self,
        open: char,
        close: char,
        items: I,
        mut write: impl FnMut(&mut Writer, I::Item),
    ) {
        self.out.push(open);
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            self.out.push(close);
            return;
        }
        self.indent = self.indent.map(|depth| depth + 1);
        while let Some(item) = items.next() {
            self.line();
            write(self, item);
            if items.peek().is_some() {
                self.out.push(',');
            }
        }
        self.indent = self.indent.map(|depth| depth - 1);
        self.line();
        self.out.push(close);
    }

    fn line(&mut self) {
        if let Some(depth) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', depth));
        }
    }
}

type Entry<'a> = (&'a str, &'a str, Option<&'a Value>, Option<&'a Value>);

/// The fields of an object, those of embedded types among them.
fn collect<'a>(
    members: &'a [Member],
    value: Option<&'a Value>,
    around: Option<&'a Value>,
    fields: &mut Vec<Entry<'a>>,
) {
    for member in members {
        match member {
            Member::Field { json, name, form, around: of_around } => {
                let owner = if *of_around { around } else { value };
                fields.push((name, form, owner.field(json), value));
            }
            Member::Embedded(name) => {
                if let Some(members) = TYPES.get(name) {
                    collect(members, value, around, fields);
                }
            }
            Member::Metadata(field) => {
                for name in ["labels", "annotations"] {
                    if let Some(strings) = value.field(field).field(name) {
                        fields.push((name, "{}s", Some(strings), None));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_type_that_is_named_is_there() {
        for (name, members) in TYPES.iter() {
            for member in members {
                let form = match member {
                    Member::Field { form, .. } => form.trim_start_matches(['*', '[', ']', '{', '}']),
                    Member::Embedded(form) => form,
                    Member::Metadata(_) => continue,
                };
                let plain = ["s", "b", "i", "q", "x", "v"].contains(&form);
                assert!(plain || TYPES.contains_key(form), "{name} has a field of {form}");
            }
        }
    }

    #[test]
    fn claims_show_every_field() {
        assert_eq!(
            shown("PodResourceClaim", &json!({"name": "a<"})),
            r#"{"Name":"a\u003c","ResourceClaimName":null,"ResourceClaimTemplateName":null}"#
        );
    }

    #[test]
    fn the_context_of_a_pod_has_what_the_spec_says() {
        let text = shown("PodSpec", &json!({"hostNetwork": true, "securityContext": {"runAsUser": 5}}));
        assert!(text.contains(r#""SecurityContext":{"HostNetwork":true,"HostPID":false,"#), "{text}");
        assert!(text.contains(r#""RunAsUser":5,"#), "{text}");
    }

    #[test]
    fn quantities_and_absent_fields_do_not_differ() {
        let one = json!({"resources": {"limits": {"cpu": "1000m"}}, "stdin": false, "args": []});
        assert!(same("Container", &one, &json!({"resources": {"limits": {"cpu": 1}}})));
        assert!(!same("Container", &one, &json!({"resources": {"limits": {"cpu": 2}}})));
    }
}
