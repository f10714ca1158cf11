//! The bytes behind a head: the same of them belong to the body in whatever pieces they come. The first byte says how the end is told, the
//! second how long the pieces are.

use mesh::http1::{Body, Framing};

pub fn run(data: &[u8]) {
    let [how, piece, bytes @ ..] = data else { return };
    let framing = match how % 4 {
        0 => Framing::Length(u64::from(*piece)),
        1 => Framing::Close,
        2 => Framing::Length(bytes.len() as u64 / 2),
        _ => Framing::Chunked,
    };
    let mut body = Body::new(framing);
    let whole = body.take(bytes).map(|used| (used, body.is_done()));
    let mut body = Body::new(framing);
    let (mut used, mut data) = (0, 0);
    let pieces = loop {
        let end = bytes.len().min(used + usize::from(*piece).max(1));
        let rest = bytes.get(used..end).expect("no more than there was");
        if body.is_done() || rest.is_empty() {
            break Ok((used, body.is_done()));
        }
        match body.next(rest) {
            Ok(next) => {
                assert!(next.used > 0 && next.used <= rest.len(), "it goes on");
                used += next.used;
                data += if next.data { next.used } else { 0 };
            }
            Err(fault) => break Err(fault),
        }
    };
    assert_eq!(whole, pieces);
    if let (Framing::Length(length), Ok((used, done))) = (framing, whole) {
        assert_eq!(used, data);
        assert_eq!(done, used as u64 == length);
    }
}
