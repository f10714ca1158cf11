//! Messages of gRPC with one text in field 1, as both of the suite's own have it.

use bytes::Bytes;

/// What is called.
pub(super) const METHOD: &str = "/proto.EchoTestService/Echo";

/// Field 1, of which the length is told before it.
const TEXT: u8 = 0x0a;

/// A message, uncompressed, behind its length.
pub(super) fn frame(text: &str) -> Bytes {
    let mut field = Vec::with_capacity(text.len() + 6);
    field.push(TEXT);
    let mut length = text.len();
    while length > 0x7f {
        field.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap_or_default());
    field.extend_from_slice(text.as_bytes());
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes();
    std::iter::once(0).chain(length).chain(field).collect()
}

/// The text of the only message in a body.
///
/// # Errors
/// It is another one.
pub(super) fn unframe(body: &[u8]) -> Result<&str, String> {
    let (head, message) = body.split_at_checked(5).ok_or("an answer without a message")?;
    let length = head.iter().skip(1).fold(0, |length, byte| (length << 8) | usize::from(*byte));
    if head.first() != Some(&0) || message.len() != length {
        return Err(format!("a message that is compressed, or no one message: {}", head.escape_ascii()));
    }
    let Some((&TEXT, mut rest)) = message.split_first() else {
        return Err("a message without a text".into());
    };
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let (byte, after) = rest.split_first().ok_or("a message that is cut off")?;
        length |= usize::from(byte & 0x7f) << shift;
        (rest, shift) = (after, shift + 7);
        if byte & 0x80 == 0 {
            break;
        }
        if shift > 28 {
            return Err("a length of more than five bytes".into());
        }
    }
    let text = rest.get(..length).ok_or("a message that is cut off")?;
    str::from_utf8(text).map_err(|e| format!("a text that is none: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_framed_is_unframed() {
        for text in ["", "Hostname=echo-v1\n", &"x".repeat(127), &"x".repeat(128), &"y".repeat(100_000)] {
            assert_eq!(unframe(&frame(text)).unwrap(), text);
        }
        let framed = frame("text");
        assert_eq!(&framed[..], b"\x00\x00\x00\x00\x06\x0a\x04text");
        for broken in [
            &framed[..4],
            &framed[..8],
            b"\x01\x00\x00\x00\x00",
            b"\x00\x00\x00\x00\x01\x0a",
            b"\x00\x00\x00\x00\x02\x0a\x04",
        ] {
            assert!(unframe(broken).is_err(), "{}", broken.escape_ascii());
        }
    }
}
