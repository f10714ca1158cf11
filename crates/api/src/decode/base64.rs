//! Base64 with the errors of Go's `encoding/base64`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Decodes; ends of lines are passed over, and what is left of the last group need not be zero.
///
/// # Errors
/// The position that Go tells.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut at = 0;
    loop {
        let mut group = [0_u8; 4];
        let mut count = 0;
        let mut last = false;
        while count < 4 {
            let Some(byte) = text.get(at) else {
                return if count == 0 { Ok(out) } else { Err(at - count) };
            };
            at += 1;
            if let Some(value) = value(*byte) {
                group[count] = value;
                count += 1;
            } else if matches!(byte, b'\r' | b'\n') {
                // An end of line is no digit.
            } else if *byte == b'=' {
                at = padding(text, at, count)?;
                last = true;
                break;
            } else {
                return Err(at - 1);
            }
        }
        let bits = group.iter().fold(0_u32, |bits, value| (bits << 6) | u32::from(*value));
        out.extend_from_slice(&bits.to_be_bytes()[1..count.max(1)]);
        if last {
            return Ok(out);
        }
    }
}

/// What follows the first `=`, after `count` digits of its group: where the text ends.
fn padding(text: &[u8], mut at: usize, count: usize) -> Result<usize, usize> {
    let end_of_lines = |mut at: usize| {
        while matches!(text.get(at), Some(b'\r' | b'\n')) {
            at += 1;
        }
        at
    };
    match count {
        0 | 1 => return Err(at - 1),
        2 => {
            at = end_of_lines(at);
            match text.get(at) {
                None => return Err(text.len()),
                Some(b'=') => at += 1,
                Some(_) => return Err(at - 1),
            }
        }
        _ => {}
    }
    at = end_of_lines(at);
    if at < text.len() { Err(at) } else { Ok(at) }
}

fn value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}
