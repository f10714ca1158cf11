//! Where in a JSON document an error is, as the path of a field.
//!
//! The reader knows a line and a column. Following the path while reading would cost every good document a second
//! copy of all the reading code; following it again up to the error costs only the bad ones.

/// The path of the value that ends at, or contains, a place in the text (`linux.resources.devices[1].access`); empty for
/// the document itself. Lines and columns are counted from 1, columns in bytes. At most 256 characters, and 64 of a key.
pub fn field(text: &[u8], line: usize, column: usize) -> String {
    let start = match line {
        0 | 1 => 0,
        n => text
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .nth(n - 2)
            .map_or(text.len(), |(i, _)| i + 1),
    };
    Scan { text, at: 0, end: start.saturating_add(column).min(text.len()), stack: Vec::new() }.run()
}

/// What encloses the place: an object with the key that was read since the last comma, or an array with the entry's
/// index.
enum Level<'t> {
    Object(Option<&'t [u8]>),
    Array(usize),
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
    end: usize,
    stack: Vec<Level<'t>>,
}

impl Scan<'_> {
    fn run(mut self) -> String {
        while self.at < self.end {
            match self.text[self.at] {
                b'{' => self.stack.push(Level::Object(None)),
                b'[' => self.stack.push(Level::Array(0)),
                b'}' | b']' => {
                    self.stack.pop();
                }
                b',' => match self.stack.last_mut() {
                    Some(Level::Array(index)) => *index += 1,
                    Some(Level::Object(key)) => *key = None,
                    None => {}
                },
                b'"' => self.string(),
                _ => {}
            }
            self.at += 1;
        }
        self.path()
    }

    /// Moves to the closing quote; an object's first string after a comma or a brace is its key.
    fn string(&mut self) {
        let start = self.at + 1;
        let mut i = start;
        while i < self.text.len() && self.text[i] != b'"' {
            i += if self.text[i] == b'\\' { 2 } else { 1 };
        }
        if let Some(Level::Object(key)) = self.stack.last_mut()
            && key.is_none()
        {
            *key = self.text.get(start..i.min(self.text.len()));
        }
        self.at = i;
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for level in &self.stack {
            match level {
                Level::Object(None | Some(b"")) => {}
                Level::Object(Some(key)) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    // A key of the document's author may be of any length; a message must not be.
                    path.extend(String::from_utf8_lossy(key).chars().take(64));
                }
                Level::Array(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path.truncate(path.char_indices().nth(256).map_or(path.len(), |(i, _)| i));
        path
    }
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_key_may_be_empty() {
        assert_eq!(field(br#"{"a":{"":"words","b":1}}"#, 1, 15), "a");
        assert_eq!(field(br#"{"a":{"":"words","b":1}}"#, 1, 22), "a.b");
    }
}
