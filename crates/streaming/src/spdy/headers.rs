//! The block of names and values in front of a stream.

use bytes::{BufMut, BytesMut};

use super::Malformed;

/// Names and values a block may have; Kubernetes sends three at most.
const HEADERS_MAX: u32 = 64;

/// A stream's headers. Names are in lower case; a name that came with several values has them one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// These, in this order.
    pub(crate) fn new(pairs: &[(&str, &str)]) -> Headers {
        Headers(pairs.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect())
    }

    /// The first value of `name`, which is in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads an inflated block.
    pub(super) fn parse(mut block: &[u8]) -> Result<Headers, Malformed> {
        let count = number(&mut block)?;
        if count > HEADERS_MAX {
            return Err(wrong("it has more than 64 headers"));
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = text(&mut block)?;
            if name.is_empty() || name.chars().any(|c| c.is_ascii_uppercase()) {
                return Err(wrong("a name is empty, or not in lower case"));
            }
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(wrong("a name is there twice"));
            }
            let values = text(&mut block)?;
            headers.extend(values.split('\0').map(|value| (name.clone(), value.to_owned())));
        }
        if block.is_empty() {
            Ok(Headers(headers))
        } else {
            Err(wrong("something comes after the last header"))
        }
    }

    /// Writes the block, not deflated.
    pub(super) fn block(&self) -> BytesMut {
        let mut block = BytesMut::new();
        let put = |block: &mut BytesMut, text: &str| {
            block.put_u32(u32::try_from(text.len()).unwrap_or_default());
            block.put_slice(text.as_bytes());
        };
        block.put_u32(u32::try_from(self.0.len()).unwrap_or_default());
        for (name, value) in &self.0 {
            put(&mut block, name);
            put(&mut block, value);
        }
        block
    }
}

fn wrong(why: &'static str) -> Malformed {
    Malformed { what: "a SPDY header block", why }
}

fn number(block: &mut &[u8]) -> Result<u32, Malformed> {
    let (number, rest) = block.split_first_chunk::<4>().ok_or(wrong("it is cut off"))?;
    *block = rest;
    Ok(u32::from_be_bytes(*number))
}

fn text(block: &mut &[u8]) -> Result<String, Malformed> {
    let length = number(block)? as usize;
    let (text, rest) = block.split_at_checked(length).ok_or(wrong("it is cut off"))?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| wrong("a name or value is not UTF-8"))
}
