//! Any bytes as gRPC's frames, in pieces of any size, and as its headers: no panic, no message larger than allowed, and
//! pieces do not matter.

use grpc::wire::{Received, format_timeout, message, percent_encode, timeout};

/// The messages in these pieces, up to the first that is refused.
fn messages<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Vec<bytes::Bytes> {
    let (mut received, mut messages) = (Received::default(), Vec::new());
    for piece in pieces {
        received.push(piece);
        loop {
            match received.take() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(_) => return messages,
            }
        }
    }
    messages
}

pub fn run(bytes: &[u8]) {
    let Some((&size, wire)) = bytes.split_first() else { return };
    let pieces = messages(wire.chunks(usize::from(size).max(1)));
    assert!(pieces.iter().all(|message| message.len() <= grpc::MAX_MESSAGE));
    assert_eq!(pieces, messages(std::iter::once(wire)), "pieces do not matter");

    let text = message(wire);
    let encoded = percent_encode(&text);
    assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    assert!(encoded.ends_with("...") || message(encoded.as_bytes()) == text);

    if let Some(time) = std::str::from_utf8(wire).ok().and_then(timeout) {
        assert!(timeout(&format_timeout(time)).is_some_and(|again| again <= time));
    }
}
