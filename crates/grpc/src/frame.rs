//! A message on the wire: a byte for compression, four for the length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::{Code, MAX_MESSAGE, Status};

/// What comes before a message.
pub(crate) const HEADER: usize = 5;

/// The frame of a message.
///
/// # Errors
/// A message of more than [`MAX_MESSAGE`] bytes.
pub fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    check(length)?;
    let mut frame = BytesMut::with_capacity(HEADER + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut frame);
    Ok(frame.freeze())
}

fn check(length: usize) -> Result<(), Status> {
    if length <= MAX_MESSAGE {
        return Ok(());
    }
    let text = format!("the message has {length} bytes, {MAX_MESSAGE} is the most");
    Err(Status::new(Code::ResourceExhausted, text))
}

/// What arrived and has not been taken yet: frames come in pieces.
#[derive(Debug, Default)]
pub struct Received(BytesMut);

impl Received {
    /// Bytes that came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message, once all of it is there.
    ///
    /// # Errors
    /// A message that is compressed or too long.
    pub fn take(&mut self) -> Result<Option<Bytes>, Status> {
        let Some([compressed, length @ ..]) = self.0.first_chunk::<HEADER>().copied() else {
            return Ok(None);
        };
        if compressed != 0 {
            return Err(Status::new(Code::Unimplemented, "compressed messages are not understood here"));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        check(length)?;
        if self.0.len() - HEADER < length {
            return Ok(None);
        }
        self.0.advance(HEADER);
        Ok(Some(self.0.split_to(length).freeze()))
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_whatever_the_pieces() {
        let frames = [encode(&"one".to_owned()).unwrap(), encode(&String::new()).unwrap()].concat();
        for size in 1..=frames.len() {
            let mut received = Received::default();
            let mut messages = Vec::new();
            for piece in frames.chunks(size) {
                received.push(piece);
                while let Some(message) = received.take().unwrap() {
                    messages.push(String::decode(message).unwrap());
                }
            }
            assert_eq!(messages, ["one", ""]);
            assert!(received.is_empty());
        }
    }

    #[test]
    fn long_and_compressed_frames_are_refused_at_their_header() {
        let code = |frame: &[u8]| {
            let mut received = Received::default();
            received.push(frame);
            received.take().unwrap_err().code
        };
        assert_eq!(code(&[0, 1, 0, 0, 1]), Code::ResourceExhausted);
        assert_eq!(code(&[1, 0, 0, 0, 0]), Code::Unimplemented);
        assert_eq!(encode(&"a".repeat(MAX_MESSAGE)).unwrap_err().code, Code::ResourceExhausted);
    }
}
