//! What comes in.

use std::time::Instant;

use super::stream::{Half, widen};
use super::{Connection, Event, Failure, PARTED, Partial, REMEMBERED, Side};
use crate::h2::Code;
use crate::h2::frame::{Broken, Frame, PAYLOAD, PREFACE, SettingsFrame, id, read, write};

/// So many pieces a block of headers may have (CVE-2024-27316).
const PIECES: usize = 64;
/// So many bytes of answers may wait for a peer that does not take them (CVE-2019-9512, CVE-2019-9514, CVE-2019-9515).
const ANSWERS: usize = 32 << 10;

type Came<'a> = Result<Option<Event<'a>>, Broken>;

impl Connection {
    /// Takes the first of the bytes that came: says how many of them, and what they mean if that is of interest. None are taken where more
    /// are needed to know; a frame with its head has at most 16,393.
    ///
    /// # Errors
    /// The connection cannot go on, now or ever. The peer is told why once the output is sent.
    pub fn receive<'a>(
        &mut self,
        now: Instant,
        bytes: &'a [u8],
    ) -> Result<(usize, Option<Event<'a>>), Failure> {
        if let Some(failed) = self.failed {
            return Err(failed);
        }
        self.first(now, bytes).map_err(|broken| self.fail(broken))
    }

    fn first<'a>(&mut self, now: Instant, bytes: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Broken> {
        if !self.begun {
            let count = bytes.len().min(PREFACE.len());
            if bytes.get(..count) != PREFACE.get(..count) {
                let why = "the connection does not begin as HTTP/2 does";
                return Err(Broken::new(Code::PROTOCOL_ERROR, why));
            }
            self.begun = count == PREFACE.len();
            return Ok((if self.begun { count } else { 0 }, None));
        }
        let Some((frame, used)) = read(bytes, PAYLOAD as u32)? else { return Ok((0, None)) };
        if !self.settled && !matches!(frame, Frame::Settings(_)) {
            return Err(Broken::new(Code::PROTOCOL_ERROR, "the first frame is not SETTINGS"));
        }
        let of_block = |stream| matches!(frame, Frame::Continuation { stream: its, .. } if its == stream);
        if self.partial.is_some_and(|partial| !of_block(partial.stream)) {
            return Err(Broken::new(Code::PROTOCOL_ERROR, "a frame within a block of headers"));
        }
        let event = self.frame(now, frame)?;
        // Data and heads that wait are this side's own doing.
        if self.answers > ANSWERS && self.output().len() > self.limits.queue + ANSWERS {
            return Err(Broken::new(Code::ENHANCE_YOUR_CALM, "too many answers wait to be taken"));
        }
        Ok((used, event))
    }

    fn frame<'a>(&mut self, now: Instant, frame: Frame<'a>) -> Came<'a> {
        match frame {
            Frame::Data { stream, bytes, flow, end } => self.data_came(now, stream, (bytes, flow), end),
            Frame::Headers { stream, block, end, whole: true } => self.block(now, stream, block, end),
            Frame::Headers { stream, block, end, whole: false } => {
                self.block.clear();
                self.partial = Some(Partial { stream, end, pieces: 0 });
                self.piece(now, block, false)
            }
            Frame::Continuation { block, whole, .. } => self.piece(now, block, whole),
            Frame::Priority { .. } | Frame::Unknown { .. } => {
                self.patience.others.spend(now)?;
                Ok(None)
            }
            Frame::Reset { stream, code } => self.reset_came(now, stream, code),
            Frame::Settings(settings) => self.settings_came(now, settings),
            Frame::SettingsAck => {
                match self.unsettled.checked_sub(1) {
                    Some(left) => self.unsettled = left,
                    None => self.patience.others.spend(now)?,
                }
                Ok(None)
            }
            Frame::Push { .. } => {
                Err(Broken::new(Code::PROTOCOL_ERROR, "PUSH_PROMISE, which nobody has asked for"))
            }
            Frame::Ping { data, ack: true } => {
                self.patience.others.spend(now)?;
                Ok(Some(Event::Pong(data)))
            }
            Frame::Ping { data, ack: false } => {
                self.patience.pings.spend(now)?;
                self.answer(|out| write::ping(out, data, true));
                Ok(None)
            }
            Frame::GoAway { last, code, about } => {
                self.patience.others.spend(now)?;
                self.parted |= about == PARTED.as_bytes();
                // It may not grow; if it does, what was said first holds.
                let last = self.left.unwrap_or(last).min(last);
                self.left = Some(last);
                Ok(Some(Event::GoAway { last, code }))
            }
            Frame::Window { stream: 0, more } => {
                self.patience.windows.spend(now)?;
                if !widen(&mut self.out_window, more.into()) {
                    let why = "the connection's window is larger than one may be";
                    return Err(Broken::new(Code::FLOW_CONTROL_ERROR, why));
                }
                Ok(Some(Event::Window { stream: 0 }))
            }
            Frame::Window { stream, more } => {
                self.known(stream, "WINDOW_UPDATE of a stream that is not there")?;
                self.patience.windows.spend(now)?;
                let found = self.streams.get_mut(&stream).filter(|found| !found.is_over());
                let Some(found) = found else { return Ok(None) };
                if widen(&mut found.out_window, more.into()) {
                    return Ok(Some(Event::Window { stream }));
                }
                let why = "a stream's window is larger than one may be";
                self.wrong(now, stream, Code::FLOW_CONTROL_ERROR, why)
            }
            Frame::Wrong { stream, code, why } => {
                self.known(stream, why)?;
                self.wrong(now, stream, code, why)
            }
        }
    }

    /// The next piece of a block of headers.
    fn piece<'a>(&mut self, now: Instant, piece: &[u8], whole: bool) -> Came<'a> {
        let Some(partial) = &mut self.partial else {
            return Err(Broken::new(Code::PROTOCOL_ERROR, "CONTINUATION of no block of headers"));
        };
        if piece.is_empty() && !whole {
            self.patience.empty.spend(now)?;
        }
        partial.pieces += 1;
        let Partial { stream, end, pieces } = *partial;
        if pieces > PIECES || self.block.len() + piece.len() > self.limits.block {
            return Err(Broken::new(Code::ENHANCE_YOUR_CALM, "a block of headers has no end"));
        }
        self.block.extend_from_slice(piece);
        if !whole {
            return Ok(None);
        }
        self.partial = None;
        let block = std::mem::take(&mut self.block);
        let event = self.block(now, stream, &block, end);
        self.block = block;
        event
    }

    fn data_came<'a>(
        &mut self,
        now: Instant,
        stream: u32,
        (bytes, flow): (&'a [u8], u32),
        end: bool,
    ) -> Came<'a> {
        self.known(stream, "DATA of a stream that is not there")?;
        self.in_window -= i64::from(flow);
        if self.in_window < 0 {
            let why = "more data than the connection's window lets";
            return Err(Broken::new(Code::FLOW_CONTROL_ERROR, why));
        }
        if !bytes.is_empty() {
            self.patience.came();
        } else if !end {
            self.patience.empty.spend(now)?;
        }
        let Some(found) = self.streams.get_mut(&stream).filter(|found| !found.reset) else {
            // What was on its way when its stream was reset; nobody will give it back.
            self.give_back(flow);
            return self.closed(stream).map(|()| None);
        };
        let was_over = found.is_over();
        let wrong = match found.receiving {
            Half::Head => Some((Code::PROTOCOL_ERROR, "data before a head")),
            Half::Done => Some((Code::STREAM_CLOSED, "data behind the end of a stream")),
            Half::Body => {
                found.in_window -= i64::from(flow);
                if found.in_window < 0 {
                    Some((Code::FLOW_CONTROL_ERROR, "more data than a stream's window lets"))
                } else {
                    found.announced(bytes.len(), end).err().map(|why| (Code::PROTOCOL_ERROR, why))
                }
            }
        };
        if let Some((code, why)) = wrong {
            self.give_back(flow);
            return self.wrong(now, stream, code, why);
        }
        if end {
            found.receiving = Half::Done;
        }
        found.held += flow;
        // What is no more than padding is not held by anybody.
        self.consumed(stream, flow - bytes.len() as u32);
        self.settle(stream, was_over);
        Ok(Some(Event::Data { stream, bytes, end }))
    }

    fn reset_came<'a>(&mut self, now: Instant, stream: u32, code: Code) -> Came<'a> {
        self.known(stream, "RST_STREAM of a stream that is not there")?;
        match self.streams.get_mut(&stream) {
            Some(found) if !found.is_over() => {
                // Who opens no streams here has none to waste.
                if self.side == Side::Server {
                    self.patience.resets.spend(now)?;
                }
                found.reset = true;
                self.settle(stream, false);
                Ok(Some(Event::Reset { stream, code, why: None }))
            }
            _ => {
                self.patience.others.spend(now)?;
                Ok(None)
            }
        }
    }

    fn settings_came<'a>(&mut self, now: Instant, settings: SettingsFrame<'_>) -> Came<'a> {
        self.patience.settings.spend(now)?;
        self.settled = true;
        let before = i64::from(self.peer.window);
        let mut smallest = None;
        for (name, value) in settings.iter() {
            if (self.side, name, value) == (Side::Client, id::PUSH, 1) {
                let why = "a server that sends SETTINGS_ENABLE_PUSH 1";
                return Err(Broken::new(Code::PROTOCOL_ERROR, why));
            }
            self.peer.set(name, value)?;
            if name == id::TABLE {
                smallest = Some(smallest.unwrap_or(value).min(value));
            }
        }
        if let Some(smallest) = smallest {
            self.encoder.allow(smallest as usize);
            self.encoder.allow(self.peer.table as usize);
        }
        let by = i64::from(self.peer.window) - before;
        if by != 0 && !self.streams.values_mut().all(|stream| widen(&mut stream.out_window, by)) {
            let why = "SETTINGS_INITIAL_WINDOW_SIZE makes a window larger than one may be";
            return Err(Broken::new(Code::FLOW_CONTROL_ERROR, why));
        }
        self.answer(write::settings_ack);
        Ok(Some(Event::Window { stream: 0 }))
    }

    /// A frame that only a stream which was opened may have.
    fn known(&self, stream: u32, why: &'static str) -> Result<(), Broken> {
        if self.is_idle(stream) { Err(Broken::new(Code::PROTOCOL_ERROR, why)) } else { Ok(()) }
    }

    /// A frame of a stream that is not there any more: let pass if this side may have reset it, since the peer may not have known.
    pub(super) fn closed(&self, stream: u32) -> Result<(), Broken> {
        let forgets = self.ended.len() >= REMEMBERED;
        if forgets || self.ended.contains(&stream) || self.streams.contains_key(&stream) {
            return Ok(());
        }
        Err(Broken::new(Code::STREAM_CLOSED, "a frame of a stream that has ended"))
    }

    /// Ends a stream for what its peer did.
    pub(super) fn wrong<'a>(&mut self, now: Instant, stream: u32, code: Code, why: &'static str) -> Came<'a> {
        self.patience.resets.spend(now)?;
        self.answer(|out| write::reset(out, stream, code));
        self.remember(stream);
        let Some(found) = self.streams.get_mut(&stream).filter(|found| !found.reset) else { return Ok(None) };
        let was_over = found.is_over();
        found.reset = true;
        self.settle(stream, was_over);
        Ok(Some(Event::Reset { stream, code, why: Some(why) }))
    }

    /// Writes what the peer has asked for.
    fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.out.len();
        write(&mut self.out);
        self.answers += self.out.len() - before;
    }
}
