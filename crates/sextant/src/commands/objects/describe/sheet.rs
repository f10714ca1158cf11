use serde_json::Value;

use crate::objects::shown;

/// How far values stand from the left.
const LABEL: usize = 17;

/// Labels with what they are of, one below the other.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    text: String,
    indent: usize,
}

impl Sheet {
    pub(super) fn text(self) -> String {
        self.text
    }

    fn put(&mut self, line: &str) {
        self.text += &" ".repeat(self.indent);
        self.text += &shown(line);
        self.text = self.text.trim_end_matches(' ').to_owned();
        self.text.push('\n');
    }

    /// `Name:            web`
    pub(super) fn field(&mut self, label: &str, value: &str) {
        let width = LABEL.saturating_sub(self.indent);
        self.put(&format!("{:width$} {value}", format!("{label}:")));
    }

    /// The same, unless there is none.
    pub(super) fn maybe(&mut self, label: &str, value: &str) {
        if !value.is_empty() {
            self.field(label, value);
        }
    }

    /// Several values of one label, below each other.
    pub(super) fn values(&mut self, label: &str, values: &[String]) {
        let Some((first, more)) = values.split_first() else { return self.field(label, "<none>") };
        self.field(label, first);
        let width = LABEL.saturating_sub(self.indent);
        more.iter().for_each(|value| self.put(&format!("{:width$} {value}", "")));
    }

    /// The pairs of a map.
    pub(super) fn pairs(&mut self, label: &str, map: Option<&Value>, joint: &str) {
        let pairs = map.and_then(Value::as_object).into_iter().flatten();
        let told = pairs.map(|(key, value)| match value {
            Value::String(text) => format!("{key}{joint}{}", text.replace('\n', "\\n")),
            other => format!("{key}{joint}{other}"),
        });
        self.values(label, &told.collect::<Vec<_>>());
    }

    /// A label, and what is below it.
    pub(super) fn part(&mut self, label: &str, fill: impl FnOnce(&mut Self)) {
        self.put(&format!("{label}:"));
        self.indent += 2;
        fill(self);
        self.indent -= 2;
    }

    /// Rows in columns.
    pub(super) fn table(&mut self, label: &str, head: &[&str], rows: Vec<Vec<String>>) {
        let rule = head.iter().map(|name| "-".repeat(name.len())).collect();
        let all: Vec<Vec<String>> =
            [head.iter().map(|name| (*name).to_owned()).collect(), rule].into_iter().chain(rows).collect();
        let width =
            |at: usize| all.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..head.len()).map(|at| width(at).unwrap_or_default()).collect();
        self.part(label, |sheet| {
            for row in &all {
                let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
                sheet.put(cells.collect::<String>().trim_end());
            }
        });
    }

    /// What an object has below a label, whatever that is.
    pub(super) fn tree(&mut self, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, below) in map {
                    match below {
                        Value::Object(inner) if !inner.is_empty() => {
                            self.part(&title(key), |sheet| sheet.tree(below))
                        }
                        Value::Array(inner) if !inner.is_empty() => {
                            self.part(&title(key), |sheet| sheet.tree(below))
                        }
                        other => self.field(&title(key), &plain(other)),
                    }
                }
            }
            Value::Array(all) => {
                for one in all {
                    match one {
                        Value::Object(_) | Value::Array(_) => {
                            self.put("-");
                            self.indent += 2;
                            self.tree(one);
                            self.indent -= 2;
                        }
                        other => self.put(&plain(other)),
                    }
                }
            }
            other => self.put(&plain(other)),
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace('\n', "\\n"),
        Value::Null => "<none>".into(),
        other => other.to_string(),
    }
}

/// `restartPolicy` as `Restart Policy`.
fn title(key: &str) -> String {
    // Names of people's own (labels, files) stay as they are.
    if !key.chars().all(|c| c.is_ascii_alphanumeric()) {
        return key.to_owned();
    }
    let mut out = String::new();
    let mut was_lower = false;
    for (at, c) in key.chars().enumerate() {
        if c.is_ascii_uppercase() && was_lower {
            out.push(' ');
        }
        was_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(if at == 0 { c.to_ascii_uppercase() } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sheet_lines_up() {
        let mut sheet = Sheet::default();
        sheet.field("Name", "web");
        sheet.pairs("Labels", Some(&json!({"a": "b", "c": "d"})), "=");
        sheet.pairs("Annotations", None, ": ");
        sheet.part("Spec", |sheet| {
            sheet.tree(&json!({"restartPolicy": "Never", "ports": [{"containerPort": 80}], "args": ["x"]}))
        });
        sheet.table("Events", &["Type", "Age"], vec![vec!["Normal".into(), "5s".into()]]);
        let wanted = "\
Name:             web
Labels:           a=b
                  c=d
Annotations:      <none>
Spec:
  Args:
    x
  Ports:
    -
      Container Port: 80
  Restart Policy: Never
Events:
  Type    Age
  ----    ---
  Normal  5s
";
        assert_eq!(sheet.text(), wanted);
    }
}
