//! JSON told as YAML, for clients that ask for it.

use serde_json::Value;

/// A value as a YAML document: blocks, two spaces, items of lists not indented, as Kubernetes' tools write it.
#[must_use]
pub fn write(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        Value::Array(list) if !list.is_empty() => block(&mut out, value, 0),
        _ => {
            scalar(&mut out, value, 0);
            out.push('\n');
        }
    }
    out
}

/// A map or list that is not empty; every line begins at `indent` and ends with a newline.
fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) => {
            for (at, (key, below)) in map.iter().enumerate() {
                // The first line of an item of a list stands behind its dash.
                if at > 0 || out.is_empty() || out.ends_with('\n') {
                    pad(out, indent);
                }
                text(out, key, indent);
                out.push(':');
                match below {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push('\n');
                        block(out, below, indent + 2);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        out.push('\n');
                        block(out, below, indent);
                    }
                    _ => {
                        out.push(' ');
                        scalar(out, below, indent);
                        out.push('\n');
                    }
                }
            }
        }
        Value::Array(list) => {
            for (at, item) in list.iter().enumerate() {
                if at > 0 || out.is_empty() || out.ends_with('\n') {
                    pad(out, indent);
                }
                out.push_str("- ");
                let is_block = item.as_object().is_some_and(|map| !map.is_empty())
                    || item.as_array().is_some_and(|list| !list.is_empty());
                if is_block {
                    block(out, item, indent + 2);
                } else {
                    scalar(out, item, indent);
                    out.push('\n');
                }
            }
        }
        _ => scalar(out, value, indent),
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::String(content) => text(out, content, indent),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => out.push_str(&other.to_string()),
    }
}

/// A string: plain where it can be nothing else, a literal block where it has lines, else in double quotes.
fn text(out: &mut String, content: &str, indent: usize) {
    if is_plain(content) {
        out.push_str(content);
    } else if is_literal(content) {
        let trailing = content.len() - content.trim_end_matches('\n').len();
        out.push_str(match trailing {
            0 => "|-",
            1 => "|",
            _ => "|+",
        });
        let body = content.strip_suffix('\n').unwrap_or(content);
        for line in body.split('\n') {
            out.push('\n');
            if !line.is_empty() {
                pad(out, indent + 2);
                out.push_str(line);
            }
        }
    } else {
        // Strings of JSON are strings of YAML.
        out.push_str(&Value::from(content).to_string());
    }
}

/// Whether a string reads as itself without quotes: a word of safe characters that looks like nothing else.
fn is_plain(content: &str) -> bool {
    let Some(first) = content.chars().next() else {
        return false;
    };
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./@%+,=()<>;~^$ :".contains(c);
    let word = content.to_ascii_lowercase();
    let is_special =
        matches!(word.as_str(), "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n");
    let looks_like_number = first.is_ascii_digit() || matches!(first, '.' | '+' | '-');
    (first.is_ascii_alphabetic() || first == '/' || first == '_' || looks_like_number)
        && content.chars().all(safe)
        && !is_special
        && !(looks_like_number && is_number_or_time(content))
        && !content.contains(": ")
        && !content.ends_with([':', ' '])
        && !content.starts_with("- ")
        && content != "-"
        && !content.starts_with("---")
        && !content.starts_with("...")
}

/// What YAML 1.1 or 1.2 might take for a number or a time: more than needed is quoted.
fn is_number_or_time(content: &str) -> bool {
    !content.chars().any(|c| {
        c.is_ascii_alphabetic()
            && !matches!(c, 'e' | 'E' | 'x' | 'o' | 'b' | 'a'..='f' | 'A'..='F' | 'T' | 'Z' | 'i' | 'n' | 'N')
    })
}

fn is_literal(content: &str) -> bool {
    let inner = content.trim_end_matches('\n');
    inner.contains('\n')
        && !content.starts_with([' ', '\n', '\t'])
        && content.chars().all(|c| {
            c == '\n'
                || c == '\t'
                || !c.is_control() && c != '\u{feff}' && c != '\u{85}' && c != '\u{2028}' && c != '\u{2029}'
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn maps_lists_and_texts_are_blocks() {
        let value = json!({
            "apiVersion": "v1",
            "empty": {}, "none": [], "null": null, "text": "true", "number": "123", "float": "1e3",
            "lines": "a\n  b\n", "open": "a\nb", "quoted": "a: b", "time": "2026-01-01T00:00:00Z",
            "list": [{"name": "x", "deep": {"k": 1}}, "word", ["a", "b"]],
            "version": "v1.36.2", "address": "10.0.0.1",
        });
        let text = write(&value);
        let expected = "\
address: \"10.0.0.1\"
apiVersion: v1
empty: {}
float: \"1e3\"
lines: |
  a
    b
list:
- deep:
    k: 1
  name: x
- word
- - a
  - b
none: []
\"null\": null
number: \"123\"
open: |-
  a
  b
quoted: \"a: b\"
text: \"true\"
time: \"2026-01-01T00:00:00Z\"
version: v1.36.2
";
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        // The order of a map's keys is the value's own.
        assert_eq!(sorted(&text), sorted(expected), "{text}");
    }
}
