//! What goes out.

use super::stream::{Half, Stream};
use super::{Connection, PARTED, Side};
use crate::h2::frame::{LARGEST, PAYLOAD, write};
use crate::h2::{Code, Field, Fields};

/// So many bytes that were sent are kept in front of those that were not, rather than moving these each time.
const KEPT: usize = 16 << 10;

/// The stream has ended: nothing can be sent on it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has ended")]
pub struct Gone;

/// Why no stream can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many are open as the peer or this side lets be, or too much waits to be sent; [`Event::Window`](super::Event::Window), a release
    /// or what was sent says when to ask again.
    #[error("cannot open a stream: as many are open, or as much waits to be sent, as may be")]
    Full,
    /// The connection takes no more: another is needed.
    #[error("cannot open a stream: the connection takes no more of them")]
    Leaving,
}

impl Connection {
    /// What is to be sent.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// Whether so much waits to be sent that nothing more should be read of the peer: heads, which no window bounds, would pile up for one
    /// that asks and does not take its answers.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.output().len() >= 2 * self.limits.queue
    }

    /// So many bytes of the output were sent.
    pub fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.out.len());
        if self.sent < self.out.len() {
            self.answers = self.answers.min(self.out.len() - self.sent);
            if self.sent >= KEPT && self.sent >= self.out.len() / 2 {
                self.out.drain(..self.sent);
                self.sent = 0;
            }
            return;
        }
        (self.sent, self.answers) = (0, 0);
        self.out.clear();
        self.rest();
    }

    /// A connection without a stream, and with nothing to be sent, holds no buffer.
    fn rest(&mut self) {
        if self.streams.is_empty() && self.partial.is_none() {
            (self.out, self.block, self.coded) = (Vec::new(), Vec::new(), Vec::new());
            self.fields = Fields::default();
        }
    }

    /// Opens a stream with a request's head, whose pseudo-headers come first.
    ///
    /// # Errors
    /// Not now, or not on this connection.
    pub fn open<'a>(
        &mut self,
        fields: impl Iterator<Item = Field<'a>> + Clone,
        end: bool,
    ) -> Result<u32, Refused> {
        if self.is_leaving() || self.side == Side::Server || self.next > LARGEST {
            return Err(Refused::Leaving);
        }
        let most = self.peer.streams.min(self.limits.streams);
        if self.active >= most || self.streams.len() as u64 >= 2 * u64::from(most) || self.is_full() {
            return Err(Refused::Full);
        }
        let stream = self.next;
        self.next += 2;
        let bodyless = fields.clone().any(|field| field.name == b":method" && field.value == b"HEAD");
        let opened = Stream::new(Half::Head, Half::body(end), self.peer.window, self.in_window_of_new());
        self.streams.insert(stream, Stream { bodyless, ..opened });
        self.active += 1;
        self.patience.begun();
        self.headers(stream, fields, end);
        Ok(stream)
    }

    /// Answers a stream with a head; one whose `:status` is 1xx is not the last.
    ///
    /// # Errors
    /// The stream has ended, or was answered.
    pub fn respond<'a>(
        &mut self,
        stream: u32,
        fields: impl Iterator<Item = Field<'a>> + Clone,
        end: bool,
    ) -> Result<(), Gone> {
        let found = self.sending(stream, Half::Head)?;
        let was_over = found.is_over();
        let status = fields.clone().find(|field| field.name == b":status");
        if !status.is_some_and(|status| status.value.starts_with(b"1")) {
            found.sending = Half::body(end);
        }
        self.headers(stream, fields, end);
        self.settle(stream, was_over);
        Ok(())
    }

    /// Ends what is sent on a stream with trailers.
    ///
    /// # Errors
    /// The stream has ended, or has no head yet.
    pub fn trailers<'a>(
        &mut self,
        stream: u32,
        fields: impl Iterator<Item = Field<'a>> + Clone,
    ) -> Result<(), Gone> {
        let found = self.sending(stream, Half::Body)?;
        let was_over = found.is_over();
        found.sending = Half::Done;
        self.headers(stream, fields, true);
        self.settle(stream, was_over);
        Ok(())
    }

    /// So many bytes could be sent on a stream now.
    #[must_use]
    pub fn room(&self, stream: u32) -> usize {
        let Some(found) = self.streams.get(&stream) else { return 0 };
        let window = usize::try_from(found.out_window.min(self.out_window)).unwrap_or(0);
        window.min(self.limits.queue.saturating_sub(self.out.len() - self.sent))
    }

    /// Sends as much of a body as there is room for, and says how much that is. The `end` goes with the last byte.
    ///
    /// # Errors
    /// The stream has ended, or has no head yet.
    pub fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> Result<usize, Gone> {
        let room = self.room(stream);
        let found = self.sending(stream, Half::Body)?;
        let was_over = found.is_over();
        let count = bytes.len().min(room);
        let last = end && count == bytes.len();
        found.out_window -= count as i64;
        if last {
            found.sending = Half::Done;
        }
        self.out_window -= count as i64;
        let mut rest = bytes.get(..count).unwrap_or_default();
        // Longer frames would have the other streams wait.
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at_checked(PAYLOAD).unwrap_or((rest, &[]));
            write::data(&mut self.out, stream, piece, last && behind.is_empty());
            self.patience.sent(piece.len());
            rest = behind;
        }
        if last && bytes.is_empty() {
            write::data(&mut self.out, stream, b"", true);
        }
        self.settle(stream, was_over);
        Ok(count)
    }

    /// So many bytes of a body the windows would let go now, if they went past the output: for who has nothing else to send.
    ///
    /// # Errors
    /// The stream has ended, or has no head yet.
    pub fn window(&mut self, stream: u32) -> Result<usize, Gone> {
        let all = self.out_window;
        let found = self.sending(stream, Half::Body)?;
        Ok(usize::try_from(found.out_window.min(all)).unwrap_or(0))
    }

    /// One DATA of so many bytes, no more than [`Connection::window`] says, has gone past the output, which is empty.
    pub fn passed(&mut self, stream: u32, count: usize) {
        if let Some(found) = self.streams.get_mut(&stream) {
            found.out_window -= count as i64;
        }
        self.out_window -= count as i64;
        self.patience.sent(count);
    }

    /// So many bytes of what came on a stream are not needed any more: as many may come.
    pub fn consumed(&mut self, stream: u32, count: u32) {
        let Some(found) = self.streams.get_mut(&stream) else { return };
        let count = count.min(found.held);
        found.held -= count;
        found.owed += count;
        // Told when it is half of the window: not for each frame, and before the peer has to wait.
        if found.receiving != Half::Done
            && !found.reset
            && found.owed >= self.limits.window / 2
            && found.owed > 0
        {
            write::window(&mut self.out, stream, found.owed);
            found.in_window += i64::from(found.owed);
            found.owed = 0;
        }
        self.give_back(count);
    }

    /// So many bytes more may come on the connection.
    pub(super) fn give_back(&mut self, count: u32) {
        self.owed += count;
        // Told as early as a stream's is: what is owed of many that rest would be missing to the one that does not.
        let enough = (self.limits.all / 2).min(self.limits.window / 2).max(1);
        if self.owed >= enough {
            write::window(&mut self.out, 0, self.owed);
            self.in_window += i64::from(self.owed);
            self.owed = 0;
        }
    }

    /// Ends a stream, which is still to be released.
    pub fn reset(&mut self, stream: u32, code: Code) {
        let Some(found) = self.streams.get_mut(&stream).filter(|found| !found.is_over()) else { return };
        found.reset = true;
        // Nothing comes behind the last word to whoever has broken the rules.
        if self.failed.is_none() {
            write::reset(&mut self.out, stream, code);
        }
        self.remember(stream);
        self.settle(stream, false);
    }

    /// Nobody works on a stream any more. One that is not over is reset: with NO_ERROR if it was answered, else with CANCEL.
    pub fn release(&mut self, stream: u32) {
        let Some(found) = self.streams.get(&stream) else { return };
        let answered = self.side == Side::Server && found.sending == Half::Done;
        self.reset(stream, if answered { Code::NO_ERROR } else { Code::CANCEL });
        if let Some(released) = self.streams.remove(&stream) {
            self.give_back(released.held);
        }
        if self.output().is_empty() {
            self.rest();
        }
    }

    /// Asks the peer for a sign of life.
    pub fn ping(&mut self, data: [u8; 8]) {
        write::ping(&mut self.out, data, false);
    }

    /// Tells the peer that the connection ends. At first (`last` is false) it is told to open no more streams, and those that are on their
    /// way are still answered; a round trip later that none but those which have come are.
    pub fn leave(&mut self, last: bool) {
        self.leave_for(last, "");
    }

    /// Tells the peer that the connection ends with the streams that have come, and that there will be no other: nobody is served here any more.
    pub fn part(&mut self) {
        self.leave_for(true, PARTED);
    }

    fn leave_for(&mut self, last: bool, why: &str) {
        let told = self.leaving.is_some_and(|known| !last || known <= self.theirs);
        if self.failed.is_some() || told {
            return;
        }
        let stream = if last || self.side == Side::Client { self.theirs } else { LARGEST };
        self.leaving = Some(stream);
        write::go_away(&mut self.out, stream, Code::NO_ERROR, why);
    }

    fn sending(&mut self, stream: u32, half: Half) -> Result<&mut Stream, Gone> {
        if self.failed.is_some() {
            return Err(Gone);
        }
        let found = self.streams.get_mut(&stream).ok_or(Gone)?;
        if found.reset || found.sending != half { Err(Gone) } else { Ok(found) }
    }

    fn headers<'a>(&mut self, stream: u32, fields: impl Iterator<Item = Field<'a>>, end: bool) {
        self.coded.clear();
        self.encoder.encode(fields, &mut self.coded);
        // No longer than everybody takes: who takes more gains nothing by it.
        write::headers(&mut self.out, stream, &self.coded, end, PAYLOAD);
    }
}
