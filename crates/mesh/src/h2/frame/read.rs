//! Reads frames.

use super::{Broken, Code, HEAD, LARGEST, SettingsFrame, flag, kind};

/// A frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// DATA.
    Data {
        /// Of this stream.
        stream: u32,
        /// Without padding.
        bytes: &'a [u8],
        /// What counts for the windows: padding, too.
        flow: u32,
        /// Nothing comes behind it.
        end: bool,
    },
    /// HEADERS. Its priority is not read.
    Headers {
        /// Of this stream.
        stream: u32,
        /// The block of headers, or the beginning of it.
        block: &'a [u8],
        /// Nothing but the rest of the block comes behind it.
        end: bool,
        /// The block is whole.
        whole: bool,
    },
    /// CONTINUATION.
    Continuation {
        /// Of this stream.
        stream: u32,
        /// What comes next of the block.
        block: &'a [u8],
        /// The block is whole.
        whole: bool,
    },
    /// PRIORITY, which is not read.
    Priority {
        /// Of this stream.
        stream: u32,
    },
    /// RST_STREAM.
    Reset {
        /// This stream has ended.
        stream: u32,
        /// For this reason.
        code: Code,
    },
    /// SETTINGS.
    Settings(SettingsFrame<'a>),
    /// SETTINGS of the other side were taken over.
    SettingsAck,
    /// PUSH_PROMISE.
    Push {
        /// On this stream.
        stream: u32,
    },
    /// PING.
    Ping {
        /// What is sent back.
        data: [u8; 8],
        /// It came back.
        ack: bool,
    },
    /// GOAWAY.
    GoAway {
        /// Streams of the other side that are higher were not looked at.
        last: u32,
        /// Why.
        code: Code,
        /// For people.
        about: &'a [u8],
    },
    /// WINDOW_UPDATE.
    Window {
        /// Of this stream, or of the connection (0).
        stream: u32,
        /// So many bytes more: at least one.
        more: u32,
    },
    /// A kind that is not known, to be let pass.
    Unknown {
        /// The kind.
        kind: u8,
    },
    /// What ends its stream.
    Wrong {
        /// That stream.
        stream: u32,
        /// What the peer is told.
        code: Code,
        /// What it did.
        why: &'static str,
    },
}

/// The first frame of these bytes and how many it takes, or `None` if not all of it is there. Its payload has at most `most` bytes.
///
/// # Errors
/// The connection cannot go on: a frame that is too long, a size that its kind cannot have, or a stream that it cannot be of.
pub fn read(bytes: &[u8], most: u32) -> Result<Option<(Frame<'_>, usize)>, Broken> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
    let [a, b, c, kind, flags, d, e, f, g] = *head;
    let length = u32::from_be_bytes([0, a, b, c]);
    if length > most {
        let why = "a frame is longer than SETTINGS_MAX_FRAME_SIZE";
        return Err(Broken::new(Code::FRAME_SIZE_ERROR, why));
    }
    // The first bit is reserved, and not looked at.
    let stream = u32::from_be_bytes([d, e, f, g]) & LARGEST;
    let length = length as usize;
    let Some(payload) = rest.get(..length) else { return Ok(None) };
    Ok(Some((frame(kind, flags, stream, payload)?, HEAD + length)))
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame<'_>, Broken> {
    let is = |flag: u8| flags & flag != 0;
    match kind {
        kind::DATA => {
            of_stream(stream, "DATA on stream 0")?;
            let bytes = unpadded(payload, flags)?;
            Ok(Frame::Data { stream, bytes, flow: payload.len() as u32, end: is(flag::END_STREAM) })
        }
        kind::HEADERS => {
            of_stream(stream, "HEADERS on stream 0")?;
            let mut block = unpadded(payload, flags)?;
            if is(flag::PRIORITY) {
                let why = "HEADERS is too short for its priority";
                block = block.get(5..).ok_or(Broken::new(Code::FRAME_SIZE_ERROR, why))?;
            }
            Ok(Frame::Headers { stream, block, end: is(flag::END_STREAM), whole: is(flag::END_HEADERS) })
        }
        kind::CONTINUATION => {
            of_stream(stream, "CONTINUATION on stream 0")?;
            Ok(Frame::Continuation { stream, block: payload, whole: is(flag::END_HEADERS) })
        }
        kind::PRIORITY => {
            of_stream(stream, "PRIORITY on stream 0")?;
            if payload.len() != 5 {
                let why = "PRIORITY does not have 5 bytes";
                return Ok(Frame::Wrong { stream, code: Code::FRAME_SIZE_ERROR, why });
            }
            Ok(Frame::Priority { stream })
        }
        kind::RST_STREAM => {
            of_stream(stream, "RST_STREAM on stream 0")?;
            let code = Code(number(payload, "RST_STREAM does not have 4 bytes")?);
            Ok(Frame::Reset { stream, code })
        }
        kind::SETTINGS => {
            of_connection(stream, "SETTINGS on a stream")?;
            let size = |why| Err(Broken::new(Code::FRAME_SIZE_ERROR, why));
            match (is(flag::ACK), payload.len()) {
                (true, 0) => Ok(Frame::SettingsAck),
                (true, _) => size("SETTINGS with ACK is not empty"),
                (false, length) if length % 6 == 0 => Ok(Frame::Settings(SettingsFrame(payload))),
                _ => size("SETTINGS is not as long as so many settings"),
            }
        }
        kind::PUSH_PROMISE => {
            of_stream(stream, "PUSH_PROMISE on stream 0")?;
            Ok(Frame::Push { stream })
        }
        kind::PING => {
            of_connection(stream, "PING on a stream")?;
            let why = "PING does not have 8 bytes";
            let data = payload.try_into().map_err(|_| Broken::new(Code::FRAME_SIZE_ERROR, why))?;
            Ok(Frame::Ping { data, ack: is(flag::ACK) })
        }
        kind::GOAWAY => {
            of_connection(stream, "GOAWAY on a stream")?;
            let why = "GOAWAY has less than 8 bytes";
            let (head, about) =
                payload.split_first_chunk::<8>().ok_or(Broken::new(Code::FRAME_SIZE_ERROR, why))?;
            let [a, b, c, d, e, f, g, h] = *head;
            let last = u32::from_be_bytes([a, b, c, d]) & LARGEST;
            Ok(Frame::GoAway { last, code: Code(u32::from_be_bytes([e, f, g, h])), about })
        }
        kind::WINDOW_UPDATE => {
            let more = number(payload, "WINDOW_UPDATE does not have 4 bytes")? & LARGEST;
            let (code, why) = (Code::PROTOCOL_ERROR, "WINDOW_UPDATE by nothing");
            match (more, stream) {
                (0, 0) => Err(Broken::new(code, why)),
                (0, _) => Ok(Frame::Wrong { stream, code, why }),
                _ => Ok(Frame::Window { stream, more }),
            }
        }
        _ => Ok(Frame::Unknown { kind }),
    }
}

fn of_stream(stream: u32, why: &'static str) -> Result<(), Broken> {
    if stream == 0 { Err(Broken::new(Code::PROTOCOL_ERROR, why)) } else { Ok(()) }
}

fn of_connection(stream: u32, why: &'static str) -> Result<(), Broken> {
    if stream == 0 { Ok(()) } else { Err(Broken::new(Code::PROTOCOL_ERROR, why)) }
}

fn number(payload: &[u8], why: &'static str) -> Result<u32, Broken> {
    payload.try_into().map(u32::from_be_bytes).map_err(|_| Broken::new(Code::FRAME_SIZE_ERROR, why))
}

/// A payload without its padding.
fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], Broken> {
    if flags & flag::PADDED == 0 {
        return Ok(payload);
    }
    let why = "a frame has no byte for the length of its padding";
    let (padding, rest) = payload.split_first().ok_or(Broken::new(Code::FRAME_SIZE_ERROR, why))?;
    let length = rest.len().checked_sub(usize::from(*padding));
    let why = "a frame's padding is longer than the frame";
    rest.get(..length.ok_or(Broken::new(Code::PROTOCOL_ERROR, why))?)
        .ok_or(Broken::new(Code::PROTOCOL_ERROR, why))
}
