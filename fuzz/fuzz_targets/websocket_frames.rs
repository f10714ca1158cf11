//! WebSocket frames as they arrive in pieces: the first byte says how long the pieces are, and which side reads them.

use streaming::websocket::{Parser, Piece, Side};

pub fn run(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let side = if first & 0x80 == 0 { Side::Server } else { Side::Client };
    let whole = messages(bytes, usize::MAX, side);
    let pieces = messages(bytes, usize::from(first & 0x7f).max(1), side);
    // However they come, they say the same.
    assert_eq!(whole, pieces);
}

/// What the bytes say: control frames and ends of messages one by one, and all that messages carry.
fn messages(bytes: &[u8], piece: usize, side: Side) -> (Vec<String>, Vec<u8>, bool) {
    let mut parser = Parser::new(side);
    let (mut said, mut data) = (Vec::new(), Vec::new());
    for piece in bytes.to_vec().chunks_mut(piece.min(bytes.len().max(1))) {
        let mut rest = piece;
        while !rest.is_empty() {
            let (used, found) = match parser.next(rest) {
                Err(_) => return (said, data, true),
                Ok(read) => read,
            };
            match found {
                Some(Piece::Data { bytes, first, last, text }) => {
                    data.extend_from_slice(bytes);
                    if first {
                        said.push(format!("a message, text: {text}"));
                    }
                    if last {
                        said.push(format!("its end after {} bytes in all", data.len()));
                    }
                }
                Some(other) => said.push(format!("{other:?}")),
                None => assert_eq!(used, rest.len(), "nothing was made of what is left"),
            }
            rest = rest.get_mut(used..).expect("no more than there was");
        }
    }
    (said, data, false)
}
