//! Writes frames.

use super::{Code, HEAD, flag, kind};

/// A frame's beginning. The payload of `length` bytes, which is less than 2^24, comes behind it.
fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&beginning(length, kind, flags, stream));
}

fn beginning(length: usize, kind: u8, flags: u8, stream: u32) -> [u8; HEAD] {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind, flags, d, e, f, g]
}

/// The beginning of DATA whose payload, which is not the last of its stream, is put behind it by somebody else.
#[must_use]
pub fn data_head(stream: u32, length: usize) -> [u8; HEAD] {
    beginning(length, kind::DATA, 0, stream)
}

/// DATA, no longer than the peer takes.
pub fn data(out: &mut Vec<u8>, stream: u32, bytes: &[u8], end: bool) {
    head(out, bytes.len(), kind::DATA, if end { flag::END_STREAM } else { 0 }, stream);
    out.extend_from_slice(bytes);
}

/// HEADERS, and as many CONTINUATION as it takes of at most `most` bytes each.
pub fn headers(out: &mut Vec<u8>, stream: u32, block: &[u8], end: bool, most: usize) {
    let mut rest = block;
    let mut kind = kind::HEADERS;
    let mut flags = if end { flag::END_STREAM } else { 0 };
    loop {
        let (piece, behind) = rest.split_at_checked(most.max(1)).unwrap_or((rest, &[]));
        if behind.is_empty() {
            flags |= flag::END_HEADERS;
        }
        head(out, piece.len(), kind, flags, stream);
        out.extend_from_slice(piece);
        if behind.is_empty() {
            return;
        }
        (rest, kind, flags) = (behind, kind::CONTINUATION, 0);
    }
}

/// RST_STREAM.
pub fn reset(out: &mut Vec<u8>, stream: u32, code: Code) {
    head(out, 4, kind::RST_STREAM, 0, stream);
    out.extend_from_slice(&code.0.to_be_bytes());
}

/// SETTINGS, each a name ([`id`](super::id)) and a value.
pub fn settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    head(out, 6 * settings.len(), kind::SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// SETTINGS with ACK.
pub fn settings_ack(out: &mut Vec<u8>) {
    head(out, 0, kind::SETTINGS, flag::ACK, 0);
}

/// PING.
pub fn ping(out: &mut Vec<u8>, data: [u8; 8], ack: bool) {
    head(out, 8, kind::PING, if ack { flag::ACK } else { 0 }, 0);
    out.extend_from_slice(&data);
}

/// GOAWAY, with a word for people.
pub fn go_away(out: &mut Vec<u8>, last: u32, code: Code, about: &str) {
    head(out, 8 + about.len(), kind::GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(about.as_bytes());
}

/// WINDOW_UPDATE, by 1 to 2^31-1 bytes.
pub fn window(out: &mut Vec<u8>, stream: u32, more: u32) {
    head(out, 4, kind::WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&more.to_be_bytes());
}
