//! Any place in any bytes has a short path; and in a document each value's path is found at the place where it ends.
//!
//! The first four bytes are line and column; the first of them also says where the document's lines are broken.

use oci_runtime::contract::locate::field;
use serde_json::Value;

/// Each costs a walk through the document.
const PLACES: usize = 32;

pub fn run(bytes: &[u8]) {
    let Some((&[a, b, c, d], text)) = bytes.split_first_chunk() else { return };
    let path = field(text, u16::from_le_bytes([a, b]).into(), u16::from_le_bytes([c, d]).into());
    assert!(path.chars().count() <= 256, "{path}");
    let Ok(document) = serde_json::from_slice::<Value>(text) else { return };
    let mut page = Page { breaks: a, line: 1, ..Page::default() };
    page.write(&document, "");
    let stride = page.places.len().div_ceil(PLACES).max(1);
    for (line, column, path) in page.places.iter().step_by(stride) {
        let short: String = path.chars().take(256).collect();
        assert_eq!(field(page.text.as_bytes(), *line, *column), short, "{line}:{column} of {}", page.text);
    }
}

/// A document as it is written, with the place of each scalar's last byte.
#[derive(Default)]
struct Page {
    text: String,
    breaks: u8,
    line: usize,
    /// Where the line begins.
    begin: usize,
    places: Vec<(usize, usize, String)>,
}

impl Page {
    fn write(&mut self, value: &Value, path: &str) {
        match value {
            Value::Object(entries) => {
                self.mark('{');
                for (number, (key, value)) in entries.iter().enumerate() {
                    if number > 0 {
                        self.mark(',');
                    }
                    let quoted = serde_json::to_string(key).expect("a string is JSON");
                    self.text.push_str(&quoted);
                    self.mark(':');
                    let key: String = quoted[1..quoted.len() - 1].chars().take(64).collect();
                    let dot = if path.is_empty() || key.is_empty() { "" } else { "." };
                    self.write(value, &format!("{path}{dot}{key}"));
                }
                self.mark('}');
            }
            Value::Array(entries) => {
                self.mark('[');
                for (number, value) in entries.iter().enumerate() {
                    if number > 0 {
                        self.mark(',');
                    }
                    self.write(value, &format!("{path}[{number}]"));
                }
                self.mark(']');
            }
            scalar => {
                self.text.push_str(&scalar.to_string());
                self.places.push((self.line, self.text.len() - self.begin, path.to_owned()));
            }
        }
    }

    /// Punctuation, after which some pages have a new line.
    fn mark(&mut self, mark: char) {
        self.text.push(mark);
        if "{}[],:".find(mark).is_some_and(|bit| self.breaks >> bit & 1 == 1) {
            self.text.push('\n');
            self.line += 1;
            self.begin = self.text.len();
        }
    }
}
