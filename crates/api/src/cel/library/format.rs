//! The formats that have names: `format.dns1123Label().validate(text)`.

use crate::cel::eval::Outcome;
use crate::cel::value::Value;
use crate::contract::names;
use crate::crd::formats;

/// A format.
pub(crate) struct Format {
    pub(crate) name: &'static str,
    check: fn(&str) -> Vec<String>,
    /// How long the expression is that its cost is reckoned by.
    pub(crate) regex_size: u64,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

fn unless(valid: bool, message: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![message.to_owned()] }
}

fn uri(text: &str) -> Vec<String> {
    match super::url::Url::parse(text) {
        Ok(_) => Vec::new(),
        Err(message) => vec![message],
    }
}

const FORMATS: [Format; 13] = [
    Format { name: "dns1123Label", check: |text| names::dns_label(text, false), regex_size: 30 },
    Format { name: "dns1123Subdomain", check: |text| names::dns_subdomain(text, false), regex_size: 60 },
    Format { name: "dns1035Label", check: |text| names::dns1035_label(text, false), regex_size: 30 },
    Format { name: "qualifiedName", check: names::qualified_name, regex_size: 60 },
    Format { name: "dns1123LabelPrefix", check: |text| names::dns_label(text, true), regex_size: 30 },
    Format { name: "dns1123SubdomainPrefix", check: |text| names::dns_subdomain(text, true), regex_size: 60 },
    Format { name: "dns1035LabelPrefix", check: |text| names::dns1035_label(text, true), regex_size: 30 },
    Format { name: "labelValue", check: names::label_value, regex_size: 40 },
    Format { name: "uri", check: uri, regex_size: 1000 },
    Format {
        name: "uuid",
        check: |text| unless(formats::is("uuid", text), "does not match the UUID format"),
        regex_size: 100,
    },
    Format {
        name: "byte",
        check: |text| unless(formats::is("byte", text), "invalid base64"),
        regex_size: 100,
    },
    Format { name: "date", check: |text| unless(formats::is("date", text), "invalid date"), regex_size: 100 },
    Format {
        name: "datetime",
        check: |text| unless(formats::is("datetime", text), "invalid datetime"),
        regex_size: 100,
    },
];

static TABLE: &[Format] = &FORMATS;

fn named(name: &str) -> Option<&'static Format> {
    TABLE.iter().find(|format| format.name == name)
}

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    Some(Ok(match (function, args) {
        ("format.named", [Value::String(name)]) => Value::optional(named(name).map(Value::Format)),
        ("validate", [Value::Format(format), Value::String(text)]) => {
            let errors = (format.check)(text);
            let list = || Value::list(errors.iter().map(|error| Value::text(error.as_str())).collect());
            Value::optional((!errors.is_empty()).then(list))
        }
        (function, []) => Value::Format(named(function.strip_prefix("format.")?)?),
        _ => return None,
    }))
}
