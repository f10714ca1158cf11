//! Whether names, keys, ports and addresses are well formed, and what Kubernetes says where they are not.
//!
//! Each function returns what is wrong as the text that stands behind the value in a message; empty: nothing. The checks
//! are written by hand: they run for every label of every object.

mod addresses;
mod meta;

pub use addresses::{Cidr, cidr, cidr_warnings, ip, ip_of_old, ip_warnings, parse_cidr, parse_ip};
pub use meta::{
    FOREGROUND, ORPHAN, annotations_errors, field_manager_errors, finalizer_form_errors, labels_errors,
    meta_errors, meta_update_errors, own_finalizer_errors, qualified_name_errors,
};

/// The longest DNS label.
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

const LABEL_FORM: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FORM: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY_FORM: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// `must be no more than 63 characters`.
#[must_use]
pub fn at_most_characters(most: usize) -> String {
    format!("must be no more than {most} characters")
}

/// `must be between 1 and 65535, inclusive`.
#[must_use]
pub fn between(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// The message of a form that a value does not have, with examples.
#[must_use]
pub fn form(message: &str, form: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{form}')");
    }
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{form}')", examples.join(" or "))
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Whether `text` is not empty, begins with `first`, ends with `last` and has only `inner` between.
fn shaped(text: &str, first: fn(u8) -> bool, inner: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [] => false,
        [only] => first(*only) && last(*only),
        [start, middle @ .., end] => first(*start) && last(*end) && middle.iter().all(|byte| inner(*byte)),
    }
}

/// Whether it is a DNS label (RFC 1123) but for its length.
fn is_label(text: &str) -> bool {
    shaped(text, lower_alphanumeric, |byte| lower_alphanumeric(byte) || byte == b'-', lower_alphanumeric)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_key(text: &str) -> bool {
    shaped(text, alphanumeric, |byte| alphanumeric(byte) || matches!(byte, b'-' | b'_' | b'.'), alphanumeric)
}

/// A name that will get a suffix may end with a dash: Kubernetes cuts two bytes and adds a letter.
fn masked(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(rest) if prefix && !rest.is_empty() => {
            let mut end = rest.len() - 1;
            while !rest.is_char_boundary(end) {
                end += 1;
            }
            format!("{}a", &rest[..end]).into()
        }
        _ => name.into(),
    }
}

/// A DNS label (RFC 1123). `prefix`: of a `generateName`, which may end with a dash.
#[must_use]
pub fn dns_label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut errors = Vec::new();
    if name.len() > LABEL_MAX {
        errors.push(at_most_characters(LABEL_MAX));
    }
    if !is_label(&name) {
        if is_subdomain(&name) {
            errors.push("must not contain dots".to_owned());
        } else {
            let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
                           must start and end with an alphanumeric character";
            errors.push(form(message, LABEL_FORM, &["my-name", "123-abc"]));
        }
    }
    errors
}

/// A DNS subdomain (RFC 1123).
#[must_use]
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    subdomain(&masked(name, prefix), at_most_characters)
}

/// The same with its length told in bytes, as rules say it that Kubernetes declares and does not write.
#[must_use]
pub fn dns_subdomain_bytes(name: &str) -> Vec<String> {
    subdomain(name, |most| format!("must be no more than {most} bytes"))
}

fn subdomain(name: &str, too_long: fn(usize) -> String) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > SUBDOMAIN_MAX {
        errors.push(too_long(SUBDOMAIN_MAX));
    }
    if !is_subdomain(name) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                       and must start and end with an alphanumeric character";
        errors.push(form(message, SUBDOMAIN_FORM, &["example.com"]));
    }
    errors
}

/// A DNS subdomain whose labels may have underscores (search domains).
#[must_use]
pub fn dns_subdomain_with_underscore(name: &str) -> Vec<String> {
    let label = |text: &str| {
        let text = text.strip_prefix('_').unwrap_or(text);
        let inner = |byte| lower_alphanumeric(byte) || matches!(byte, b'-' | b'_');
        shaped(text, lower_alphanumeric, inner, lower_alphanumeric)
    };
    let mut errors = Vec::new();
    if name.len() > SUBDOMAIN_MAX {
        errors.push(at_most_characters(SUBDOMAIN_MAX));
    }
    if !name.split('.').all(label) {
        let message = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or \
                       '.', and must start and end with an alphanumeric character";
        let shape = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        errors.push(form(message, shape, &["example.com"]));
    }
    errors
}

/// A DNS subdomain after `*.`.
#[must_use]
pub fn wildcard_subdomain(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > SUBDOMAIN_MAX {
        errors.push(at_most_characters(SUBDOMAIN_MAX));
    }
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        let message = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which \
                       must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric \
                       character";
        errors.push(form(message, &format!(r"\*\.{SUBDOMAIN_FORM}"), &["*.example.com"]));
    }
    errors
}

/// A label that begins with a letter (RFC 1035).
#[must_use]
pub fn dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    let name = masked(name, prefix);
    let mut errors = Vec::new();
    if name.len() > LABEL_MAX {
        errors.push(at_most_characters(LABEL_MAX));
    }
    let inner = |byte| lower_alphanumeric(byte) || byte == b'-';
    if !shaped(&name, |byte| byte.is_ascii_lowercase(), inner, lower_alphanumeric) {
        let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                       alphabetic character, and end with an alphanumeric character";
        errors.push(form(message, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    errors
}

/// A name that can stand in a path of a URL.
#[must_use]
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    if !prefix && matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|part| name.contains(part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

/// A key of labels and annotations: a name, perhaps after a subdomain and a slash.
#[must_use]
pub fn qualified_name(key: &str) -> Vec<String> {
    const RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character";
    const EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let mut parts = key.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let name = match (second, third) {
        (None, _) => first,
        (Some(name), None) => {
            if first.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                let bytes = |most| format!("must be no more than {most} bytes");
                errors.extend(subdomain(first, bytes).into_iter().map(|text| format!("prefix part {text}")));
            }
            name
        }
        (Some(_), Some(_)) => {
            let rule = form(RULE, KEY_FORM, EXAMPLES);
            return vec![format!(
                "a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        errors.push(format!("name part must be no more than {LABEL_MAX} bytes"));
    }
    if !is_key(name) {
        errors.push(format!("name part {}", form(RULE, KEY_FORM, EXAMPLES)));
    }
    errors
}

/// The value of a label.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > LABEL_MAX {
        errors.push(format!("must be no more than {LABEL_MAX} bytes"));
    }
    if !value.is_empty() && !is_key(value) {
        let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                       and must start and end with an alphanumeric character";
        errors.push(form(message, &format!("({KEY_FORM})?"), &["MyValue", "my_value", "12345"]));
    }
    errors
}

/// A number of a port.
#[must_use]
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec![between(1, 65535)] }
}

/// The name of a port (RFC 6335), in lower case.
#[must_use]
pub fn port_name(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 15 {
        errors.push(at_most_characters(15));
    }
    if name.is_empty() || !name.bytes().all(|byte| lower_alphanumeric(byte) || byte == b'-') {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// The name of an environment variable: printable ASCII but for `=`.
#[must_use]
pub fn env_name(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.is_empty() {
        errors.push("environment variable name must be non-empty".to_owned());
    }
    if !name.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=') {
        errors.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned(),
        );
    }
    errors
}

/// An identifier of the language C.
#[must_use]
pub fn c_identifier(name: &str) -> Vec<String> {
    let inner = |byte: u8| alphanumeric(byte) || byte == b'_';
    if shaped(name, |byte| byte.is_ascii_alphabetic() || byte == b'_', inner, inner) {
        return Vec::new();
    }
    let message = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                   alphanumeric characters or '_'";
    vec![form(message, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// A key of a ConfigMap or Secret.
#[must_use]
pub fn config_key(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > SUBDOMAIN_MAX {
        errors.push(at_most_characters(SUBDOMAIN_MAX));
    }
    if key.is_empty() || !key.bytes().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'.' | b'_')) {
        let message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(form(message, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match key {
        "." | ".." => errors.push(format!("must not be '{key}'")),
        _ if key.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// A percentage: digits and `%`.
#[must_use]
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Vec::new();
    }
    let message = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![form(message, "[0-9]+%", &["1%", "93%"])]
}

/// The name of a header of HTTP.
#[must_use]
pub fn http_header_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|byte| alphanumeric(byte) || byte == b'-') {
        return Vec::new();
    }
    let message = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![form(message, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// A user or group id of Linux.
#[must_use]
pub fn numeric_id(id: i64) -> Vec<String> {
    let most = i64::from(i32::MAX);
    if (0..=most).contains(&id) { Vec::new() } else { vec![between(0, most)] }
}

#[cfg(test)]
mod tests;
