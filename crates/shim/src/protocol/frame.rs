//! ttrpc's frames: ten bytes of header and a payload.

/// Bytes of a header: length, stream (both big-endian), kind, flags.
pub const HEADER_LENGTH: usize = 10;
/// The longest payload that ttrpc lets pass, bytes.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// The sender sends no more on this stream.
pub const REMOTE_CLOSED: u8 = 0x1;
/// The sender of a request will send data on its stream.
pub const REMOTE_OPEN: u8 = 0x2;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opens a stream.
    Request,
    /// Ends a stream, from the server.
    Response,
    /// One message on an open stream.
    Data,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The stream: odd, chosen by the client.
    pub stream: u32,
    /// Its kind.
    pub kind: Kind,
    /// [`REMOTE_CLOSED`], [`REMOTE_OPEN`].
    pub flags: u8,
    /// The message.
    pub payload: Vec<u8>,
}

/// Bytes that are no frame. The connection is of no use any more.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// Longer than [`MAX_PAYLOAD`].
    #[error("cannot read a frame: {0} bytes are more than the {MAX_PAYLOAD} that ttrpc allows")]
    TooLong(usize),
    /// A kind that ttrpc does not have.
    #[error("cannot read a frame: no kind {0:#x}")]
    Kind(u8),
}

impl Frame {
    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend((self.payload.len() as u32).to_be_bytes());
        out.extend(self.stream.to_be_bytes());
        out.push(match self.kind {
            Kind::Request => 1,
            Kind::Response => 2,
            Kind::Data => 3,
        });
        out.push(self.flags);
        out.extend(&self.payload);
    }

    /// Takes the first frame off `bytes`; `None` while it is not whole yet.
    pub fn decode(bytes: &mut Vec<u8>) -> Result<Option<Self>, FrameError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length > MAX_PAYLOAD {
            return Err(FrameError::TooLong(length));
        }
        let kind = match header[8] {
            1 => Kind::Request,
            2 => Kind::Response,
            3 => Kind::Data,
            other => return Err(FrameError::Kind(other)),
        };
        let stream = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let flags = header[9];
        if bytes.len() < HEADER_LENGTH + length {
            return Ok(None);
        }
        let rest = bytes.split_off(HEADER_LENGTH + length);
        let mut payload = std::mem::replace(bytes, rest);
        payload.drain(..HEADER_LENGTH);
        Ok(Some(Self { stream, kind, flags, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let frames = [
            Frame { stream: 1, kind: Kind::Request, flags: REMOTE_OPEN, payload: b"hello".to_vec() },
            Frame { stream: 3, kind: Kind::Data, flags: REMOTE_CLOSED, payload: vec![] },
            Frame { stream: 1, kind: Kind::Response, flags: 0, payload: vec![7; 300] },
        ];
        let mut wire = Vec::new();
        frames.iter().for_each(|f| f.encode(&mut wire));
        for step in 1..wire.len() {
            let (mut buffer, mut got) = (Vec::new(), Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend(piece);
                while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames, "pieces of {step}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert_eq!(Frame::decode(&mut vec![0, 0, 0, 0, 0, 0, 0, 1, 9, 0]), Err(FrameError::Kind(9)));
        let too_long = Frame::decode(&mut vec![0xff, 0, 0, 0, 0, 0, 0, 1, 1, 0]);
        assert!(matches!(too_long, Err(FrameError::TooLong(_))));
        assert_eq!(Frame::decode(&mut vec![0; 9]), Ok(None));
    }
}
