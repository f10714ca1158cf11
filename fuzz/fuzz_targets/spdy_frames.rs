//! SPDY frames as they arrive in pieces: the first byte says how long the pieces are, and whether headers are read.

use streaming::spdy::{Frame, Parser};

pub fn run(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let whole = frames(bytes, usize::MAX, first & 0x80 != 0);
    let pieces = frames(bytes, usize::from(first & 0x7f).max(1), first & 0x80 != 0);
    // However they come, they say the same.
    assert_eq!(whole, pieces);
}

/// What the bytes say: control frames one by one, and all bytes of each data frame's stream.
fn frames(bytes: &[u8], piece: usize, sealed: bool) -> (Vec<String>, Vec<u8>, bool) {
    let mut parser = Parser::new();
    if sealed {
        parser.seal();
    }
    let (mut control, mut data) = (Vec::new(), Vec::new());
    for mut piece in bytes.chunks(piece.min(bytes.len().max(1))) {
        while !piece.is_empty() {
            match parser.next(&mut piece) {
                Err(_) => return (control, data, true),
                Ok(None) => assert!(piece.is_empty(), "nothing was made of what is left"),
                Ok(Some(Frame::Data { stream, bytes, fin })) => {
                    data.extend_from_slice(bytes);
                    if fin {
                        control.push(format!("the end of {stream} after {} bytes in all", data.len()));
                    }
                }
                Ok(Some(frame)) => control.push(format!("{frame:?}")),
            }
        }
    }
    (control, data, false)
}
