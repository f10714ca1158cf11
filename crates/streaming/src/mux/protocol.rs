//! What a protocol does for the streams above it.

use std::borrow::Cow;

use bytes::BytesMut;

use crate::spdy::Headers;

/// Bytes that are not as their protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {what}: {why}")]
pub struct Malformed {
    /// Which part of which frame.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

/// What arrived.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// Nothing that concerns a stream, or not all of it yet.
    Nothing,
    /// The peer opens a stream. `None` for headers that were not read because the connection is sealed.
    Open { stream: u32, headers: Option<Headers>, fin: bool },
    /// The peer took a stream that was opened towards it.
    Reply { stream: u32, fin: bool },
    /// Bytes of a stream; with `fin` the last.
    Data { stream: u32, bytes: Cow<'a, [u8]>, fin: bool },
    /// The peer wants nothing more of a stream, and sends nothing more.
    Reset { stream: u32 },
    /// From now on the peer is to be sent no more than it grants: this much for each stream at first.
    Window { initial: u32 },
    /// The peer grants more for a stream, or for the connection (stream 0).
    Credit { stream: u32, bytes: u32 },
    /// The peer takes its leave; `orderly` where that is how its input ends.
    Bye { orderly: bool },
}

/// Why a stream is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    /// It is not as the protocol says.
    ProtocolError,
    /// There are too many.
    Refused,
    /// It is of no use any more.
    Cancel,
    /// More was sent than was granted.
    FlowControl,
}

/// How some bytes of a stream go out.
pub(crate) enum Framing {
    /// As they are, behind this.
    Plain(Header),
    /// They have been added to what is to be sent, in the form they need.
    Encoded,
}

/// The front of a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    bytes: [u8; 16],
    length: u8,
}

impl Header {
    pub(crate) const EMPTY: Header = Header { bytes: [0; 16], length: 0 };

    /// Appends; what does not fit is a mistake of the caller's that tests find.
    pub(crate) fn push(mut self, more: &[u8]) -> Header {
        let start = usize::from(self.length);
        if let Some(place) = self.bytes.get_mut(start..start + more.len()) {
            place.copy_from_slice(more);
            self.length += u8::try_from(more.len()).unwrap_or_default();
        } else {
            debug_assert!(false, "a frame's header of more than 16 bytes");
        }
        self
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// A protocol with streams. Everything it sends goes to `out`.
pub(crate) trait Protocol: Send {
    /// What is sent first.
    fn begin(&mut self, out: &mut BytesMut);

    /// Reads from the front of `bytes`, which may be changed in place, and says how many it used: all, or as many as
    /// make the event.
    fn read<'a>(&mut self, bytes: &'a mut [u8], out: &mut BytesMut) -> Result<(usize, Event<'a>), Malformed>;

    /// The most that one frame carries.
    fn longest(&self) -> usize;

    /// Frames `payload`, which is no longer than [`longest`](Protocol::longest).
    fn data(&mut self, stream: u32, payload: &[u8], out: &mut BytesMut) -> Framing;

    /// Nothing more will be sent on a stream.
    fn end(&mut self, stream: u32, out: &mut BytesMut);

    /// A stream is cut off.
    fn reset(&mut self, stream: u32, why: Reset, out: &mut BytesMut);

    /// Opens a stream and gives its number.
    fn open(&mut self, headers: &Headers, out: &mut BytesMut) -> u32;

    /// Takes a stream.
    fn reply(&mut self, stream: u32, out: &mut BytesMut);

    /// Grants the peer more.
    fn credit(&mut self, stream: u32, bytes: u32, out: &mut BytesMut);

    /// Asks whether the peer is there; it answers with something.
    fn ping(&mut self, out: &mut BytesMut);

    /// Shows, without being asked, that this side is there, if the protocol can.
    fn alive(&mut self, out: &mut BytesMut);

    /// Lets go of what only new streams need.
    fn seal(&mut self);

    /// The farewell.
    fn bye(&mut self, out: &mut BytesMut);

    /// The farewell to a peer that broke the rules.
    fn complain(&mut self, malformed: Malformed, out: &mut BytesMut);
}
