//! A terminal's sizes: JSON objects one after the other, on a stream of their own.

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use crate::Input;

/// The longest a size's JSON may be; the longest that means something has 31 bytes.
const LONGEST: usize = 1024;

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    #[serde(default)]
    pub width: u16,
    /// Rows.
    #[serde(default)]
    pub height: u16,
}

/// The sizes a client's terminal takes on.
#[derive(Debug)]
pub struct Resizes {
    stream: Option<Input>,
    unparsed: Vec<u8>,
}

impl Resizes {
    pub(crate) fn new(stream: Option<Input>) -> Resizes {
        Resizes { stream, unparsed: Vec::new() }
    }

    /// The next size. One of zero, which clients without a terminal send, is left out. `None` when the client will send no more, or sent what is no size.
    /// Nothing is lost if the future is dropped before it is done.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            match take(&mut self.unparsed) {
                Ok(Some(TerminalSize { width: 0, .. } | TerminalSize { height: 0, .. })) => continue,
                Ok(Some(size)) => return Some(size),
                Ok(None) => {}
                Err(_) => self.stream = None,
            }
            let stream = self.stream.as_mut()?;
            let mut chunk = [0; 256];
            match stream.read(&mut chunk).await {
                Ok(n) if n > 0 => self.unparsed.extend_from_slice(chunk.get(..n)?),
                _ => self.stream = None,
            }
        }
    }
}

/// Takes one whole object from the front of `bytes`.
fn take(bytes: &mut Vec<u8>) -> Result<Option<TerminalSize>, serde_json::Error> {
    let mut objects = serde_json::Deserializer::from_slice(bytes).into_iter::<TerminalSize>();
    match objects.next() {
        Some(Ok(size)) => {
            let used = objects.byte_offset();
            bytes.drain(..used);
            Ok(Some(size))
        }
        Some(Err(error)) if error.is_eof() && bytes.len() < LONGEST => Ok(None),
        Some(Err(error)) => Err(error),
        None => {
            bytes.clear();
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_pieces_and_in_heaps() {
        let mut bytes = br#"{"Width":80,"Hei"#.to_vec();
        assert_eq!(take(&mut bytes).expect("a piece"), None);
        bytes.extend_from_slice(b"ght\":24}\n{\"Width\":1,\"Height\":2}\n");
        assert_eq!(take(&mut bytes).expect("whole"), Some(TerminalSize { width: 80, height: 24 }));
        assert_eq!(take(&mut bytes).expect("whole"), Some(TerminalSize { width: 1, height: 2 }));
        assert_eq!(take(&mut bytes).expect("a line's end"), None);
        assert!(bytes.is_empty());
    }

    #[test]
    fn what_is_no_size_is_an_error() {
        for wrong in [&b"[\"a\"]"[..], b"{\"Width\":-1}", b"{\"Width\":70000,\"Height\":1}", b"x"] {
            take(&mut wrong.to_vec()).expect_err("no size");
        }
        let endless = [b"{\"".to_vec(), vec![b'a'; LONGEST]].concat();
        take(&mut endless.clone()).expect_err("too long");
    }
}
