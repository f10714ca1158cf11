//! Requests whose `:authority` is a socket's path.
//!
//! gRPC's other implementations name the server by what they dialled: a path, percent-encoded. That is no authority by RFC 3986, and h2
//! resets the stream. So what such a client sends is read on its way in, and each `:authority` replaced by one of a single byte. Nothing
//! has to be decoded for that: an entry that is not longer stays in the receiver's table of fields at least as long as in the sender's,
//! under the same number. (An empty one could only become longer, and goes on as it is.)

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What an HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// The head of a frame.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The largest frame that is sent to a server that has not asked for larger ones, as hyper does not.
const FRAME: usize = 16_384;
/// The most fields of one request; h2 refuses as much.
const FIELDS: usize = 16 * FRAME;

/// The field's name, and its Huffman code (RFC 7541, appendix B).
const NAME: &[u8] = b":authority";
const CODED: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];
/// What it is replaced by: a string of one byte, as it is. No longer string has fewer.
const INSTEAD: &[u8] = b"\x01x";

/// What a server that takes any authority hears of what a client sends in these pieces.
pub fn heard<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    let (mut rewriting, mut out) = (Rewriting::default(), BytesMut::new());
    pieces.into_iter().for_each(|piece| rewriting.push(piece, &mut out));
    out.into()
}

/// A connection whose requests have an authority that no server refuses.
pub(crate) struct AnyAuthority<S> {
    stream: S,
    rewriting: Rewriting,
    ready: BytesMut,
}

impl<S> AnyAuthority<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, rewriting: Rewriting::default(), ready: BytesMut::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut chunk = [0; 8192];
        while this.ready.is_empty() {
            let mut read = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.rewriting.push(read.filled(), &mut this.ready);
        }
        let length = this.ready.len().min(into.remaining());
        into.put_slice(&this.ready.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What a client has sent, on its way to the server.
#[derive(Default)]
struct Rewriting {
    /// What is not understood yet.
    waiting: BytesMut,
    /// Whether the preface is over.
    has_begun: bool,
    /// Bytes that go on as they are.
    untouched: usize,
    /// Fields of a request whose end is to come, behind the head of their frame.
    fields: Option<(Head, BytesMut)>,
    /// Nothing is looked at any more: this is no HTTP/2 as it should be, and the server will say so.
    has_given_up: bool,
}

#[derive(Clone, Copy)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Head> {
        let &[a, b, c, kind, flags, d, e, f, g] = bytes.get(..HEAD)?.first_chunk()?;
        Some(Head { length: u32::from_be_bytes([0, a, b, c]) as usize, kind, flags, stream: [d, e, f, g] })
    }

    fn write(self, out: &mut BytesMut) {
        out.put_uint(self.length as u64, 3);
        out.put_slice(&[self.kind, self.flags]);
        out.put_slice(&self.stream);
    }
}

impl Rewriting {
    fn push(&mut self, bytes: &[u8], out: &mut BytesMut) {
        self.waiting.put_slice(bytes);
        if !self.has_begun && self.waiting.len() >= PREFACE {
            self.has_begun = true;
            self.untouched = PREFACE;
        }
        while self.has_begun && self.step(out) {}
        if self.has_given_up {
            out.put(self.waiting.split());
        }
    }

    /// Whether something could be done with what is waiting.
    fn step(&mut self, out: &mut BytesMut) -> bool {
        if self.has_given_up || self.waiting.is_empty() {
            return false;
        }
        if self.untouched > 0 {
            let length = self.untouched.min(self.waiting.len());
            out.put(self.waiting.split_to(length));
            self.untouched -= length;
            return true;
        }
        let Some(head) = Head::read(&self.waiting) else { return false };
        let is_wanted = if self.fields.is_some() { CONTINUATION } else { HEADERS };
        if head.kind != is_wanted {
            // A frame between parts of fields is against the rules; the fields before it are missed by the server then.
            self.untouched = HEAD + head.length;
            return true;
        }
        if head.length > FRAME {
            self.has_given_up = true;
            return false;
        }
        if self.waiting.len() < HEAD + head.length {
            return false;
        }
        let mut frame = self.waiting.split_to(HEAD + head.length);
        frame.advance(HEAD);
        self.fields(head, frame, out);
        true
    }

    /// Lets a frame go on as it is, and all that follows. Where it goes on with fields, the server misses their beginning.
    fn give_up(&mut self, head: Head, frame: &[u8], out: &mut BytesMut) {
        head.write(out);
        out.put_slice(frame);
        self.has_given_up = true;
    }

    /// Takes a part of a request's fields, and lets them go on if it is the last.
    fn fields(&mut self, head: Head, frame: BytesMut, out: &mut BytesMut) {
        let (first, mut fields) = match self.fields.take() {
            Some((first, mut fields)) => {
                fields.put_slice(&frame);
                (first, fields)
            }
            None => match bare(head.flags, &frame) {
                Some(fields) => (head, fields.into()),
                None => return self.give_up(head, &frame, out),
            },
        };
        if fields.len() > FIELDS {
            return self.give_up(head, &frame, out);
        }
        if head.flags & END_HEADERS == 0 {
            self.fields = Some((first, fields));
            return;
        }
        if let Some(new) = rewritten(&fields) {
            fields = new;
        }
        let mut kind = HEADERS;
        loop {
            let part = fields.split_to(fields.len().min(FRAME));
            let ends = if fields.is_empty() { END_HEADERS } else { 0 };
            let flags = ends | if kind == HEADERS { first.flags & END_STREAM } else { 0 };
            Head { length: part.len(), kind, flags, stream: first.stream }.write(out);
            out.put(part);
            if fields.is_empty() {
                return;
            }
            kind = CONTINUATION;
        }
    }
}

/// Fields without what may be around them in their first frame.
fn bare(flags: u8, mut frame: &[u8]) -> Option<&[u8]> {
    if flags & PADDED != 0 {
        let (&padding, rest) = frame.split_first()?;
        frame = rest.get(..rest.len().checked_sub(padding.into())?)?;
    }
    if flags & PRIORITY != 0 { frame.get(5..) } else { Some(frame) }
}

/// The fields with another authority; `None` if they are not as RFC 7541 has them.
fn rewritten(fields: &[u8]) -> Option<BytesMut> {
    let mut out = BytesMut::with_capacity(fields.len());
    let mut rest = fields;
    while let Some(&kind) = rest.first() {
        let whole = rest;
        // Indexed; literal and remembered; the table's size; literal and not remembered.
        let bits = match kind {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let index = integer(&mut rest, bits)?;
        let mut is_authority = index == 1;
        let mut name_and_before = whole.get(..whole.len() - rest.len())?;
        if matches!(bits, 4 | 6) {
            if index == 0 {
                let name = string(&mut rest)?;
                is_authority = name == NAME || name == CODED;
                name_and_before = whole.get(..whole.len() - rest.len())?;
            }
            let value = string(&mut rest)?;
            if is_authority && !value.is_empty() {
                out.put_slice(name_and_before);
                out.put_slice(INSTEAD);
                continue;
            }
        }
        out.put_slice(whole.get(..whole.len() - rest.len())?);
    }
    Some(out)
}

/// A number whose first byte has so many bits for it (RFC 7541, 5.1).
fn integer(from: &mut &[u8], bits: u32) -> Option<usize> {
    let (&first, mut rest) = from.split_first()?;
    let most = (1 << bits) - 1;
    let mut value = usize::from(first & most);
    if value == usize::from(most) {
        for shift in [0, 7, 14, 21] {
            let (&next, after) = rest.split_first()?;
            rest = after;
            value += usize::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                *from = rest;
                return Some(value);
            }
        }
        return None;
    }
    *from = rest;
    Some(value)
}

/// The bytes of a string, coded or not.
fn string<'b>(from: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = integer(from, 7)?;
    let (string, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(string)
}

#[cfg(test)]
mod tests;
