//! JSON made readable, and compressed, piece by piece: what is sent is never whole in memory.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// What is done to JSON on its way out.
pub(crate) struct Dress {
    pretty: Option<Pretty>,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Dress {
    pub(crate) fn new(pretty: bool, gzip: bool) -> Dress {
        Dress {
            pretty: pretty.then(Pretty::default),
            gzip: gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }

    /// A piece as it goes out; it may be empty, for what is compressed comes later.
    pub(crate) fn piece(&mut self, json: &[u8]) -> Vec<u8> {
        let mut readable = Vec::new();
        let json = match &mut self.pretty {
            Some(pretty) => {
                pretty.write(json, &mut readable);
                &readable[..]
            }
            None => json,
        };
        match &mut self.gzip {
            // Memory takes what is written to it.
            Some(gzip) => match gzip.write_all(json) {
                Ok(()) => std::mem::take(gzip.get_mut()),
                Err(_) => Vec::new(),
            },
            None if self.pretty.is_some() => readable,
            None => json.to_vec(),
        }
    }

    /// Whether pieces go out as they come.
    pub(crate) fn is_plain(&self) -> bool {
        self.pretty.is_none() && self.gzip.is_none()
    }

    /// What stands behind the last piece.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        self.gzip.take().and_then(|gzip| gzip.finish().ok()).unwrap_or_default()
    }
}

/// Breaks the lines of compact JSON, two spaces a level.
#[derive(Default)]
pub(crate) struct Pretty {
    depth: usize,
    in_string: bool,
    /// Whether the last byte was a backslash that means something.
    escaped: bool,
    /// Whether an object or a list has just begun: an empty one stays on its line.
    begun: bool,
}

impl Pretty {
    /// Writes the next bytes.
    pub(crate) fn write(&mut self, json: &[u8], out: &mut Vec<u8>) {
        for &byte in json {
            if self.in_string {
                out.push(byte);
                self.in_string = byte != b'"' || self.escaped;
                self.escaped = byte == b'\\' && !self.escaped;
                continue;
            }
            match byte {
                b' ' | b'\n' | b'\t' | b'\r' => continue,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.begun) {
                        self.line(out);
                    }
                    out.push(byte);
                    continue;
                }
                _ => {}
            }
            if std::mem::take(&mut self.begun) {
                self.line(out);
            }
            out.push(byte);
            match byte {
                b'{' | b'[' => (self.depth, self.begun) = (self.depth + 1, true),
                b',' => self.line(out),
                b':' => out.push(b' '),
                b'"' => self.in_string = true,
                _ => {}
            }
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_reads_as_serde_would_write_it_however_it_is_cut() {
        let value = json!({
            "a": {}, "b": [], "c": [1, -2.5e9, "x,y:{[\"\\"], "d": {"e": [[], {}, [null]], "f\"\\": true}, "g": "",
        });
        let (compact, expected) = (value.to_string(), serde_json::to_vec_pretty(&value).unwrap());
        for size in 1..compact.len() {
            let (mut dress, mut out) = (Dress::new(true, false), Vec::new());
            compact.as_bytes().chunks(size).for_each(|piece| out.extend(dress.piece(piece)));
            out.extend(dress.end());
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "{size}");
        }
    }

    #[test]
    fn what_is_compressed_in_pieces_is_one_text() {
        use std::io::Read as _;
        let (mut dress, mut out) = (Dress::new(false, true), Vec::new());
        let pieces = [&b"{\"a\":"[..], b"[1,2", b"]}"];
        pieces.iter().for_each(|piece| out.extend(dress.piece(piece)));
        out.extend(dress.end());
        let mut text = String::new();
        flate2::read::GzDecoder::new(&out[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"a\":[1,2]}");
    }
}
