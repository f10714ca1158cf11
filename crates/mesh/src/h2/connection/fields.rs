//! Blocks of headers: which message they begin or end.

use std::time::Instant;

use super::stream::{Half, Stream};
use super::{Connection, Event, Side};
use crate::h2::frame::Broken;
use crate::h2::{Code, message};

type Came<'a> = Result<Option<Event<'a>>, Broken>;

impl Connection {
    /// A whole block.
    pub(super) fn block<'a>(&mut self, now: Instant, stream: u32, block: &[u8], end: bool) -> Came<'a> {
        self.fields.clear();
        // It is read whatever stream it is of: the table goes on with it.
        let fits = self.decoder.decode(block, &self.limits.fields, &mut self.fields);
        let fits = fits
            .map_err(|_| Broken::new(Code::COMPRESSION_ERROR, "a block of headers cannot be decompressed"))?;
        if let Some(found) = self.streams.get(&stream) {
            return match found.receiving {
                _ if found.reset => {
                    self.patience.others.spend(now)?;
                    Ok(None)
                }
                Half::Head => self.response_came(now, stream, fits, end),
                Half::Body => self.trailers_came(now, stream, fits, end),
                Half::Done => {
                    self.wrong(now, stream, Code::STREAM_CLOSED, "headers behind the end of a stream")
                }
            };
        }
        if self.side == Side::Client || stream.is_multiple_of(2) {
            if self.is_idle(stream) {
                let why = "HEADERS of a stream that its sender may not open";
                return Err(Broken::new(Code::PROTOCOL_ERROR, why));
            }
            return self.too_late(now, stream);
        }
        if stream <= self.theirs {
            return self.too_late(now, stream);
        }
        self.theirs = stream;
        self.request_came(now, stream, fits, end)
    }

    /// A block of a stream that has ended. It was read for nobody, which costs more than any other frame does.
    fn too_late<'a>(&mut self, now: Instant, stream: u32) -> Came<'a> {
        self.closed(stream)?;
        self.patience.others.spend(now)?;
        Ok(None)
    }

    fn request_came<'a>(&mut self, now: Instant, stream: u32, fits: bool, end: bool) -> Came<'a> {
        if self.leaving.is_some_and(|last| stream > last) {
            self.remember(stream);
            self.patience.others.spend(now)?;
            return Ok(None);
        }
        // Those that are over and not released are work that still goes on.
        let all = self.streams.len() as u64;
        if self.active >= self.limits.streams || all >= 2 * u64::from(self.limits.streams) {
            return self.wrong(now, stream, Code::REFUSED_STREAM, "more streams at once than there may be");
        }
        let mut left = None;
        if fits {
            match message::request(&self.fields) {
                Ok(request) if end && request.length.is_some_and(|length| length > 0) => {
                    let why = "content-length of a request without data";
                    return self.wrong(now, stream, Code::PROTOCOL_ERROR, why);
                }
                Ok(request) => left = request.length,
                Err(why) => return self.wrong(now, stream, Code::PROTOCOL_ERROR, why),
            }
        }
        let mut opened = Stream::new(Half::body(end), Half::Head, self.peer.window, self.in_window_of_new());
        opened.left = left;
        self.streams.insert(stream, opened);
        self.active += 1;
        self.patience.begun();
        Ok(Some(if fits { Event::Head { stream, end } } else { Event::TooLarge { stream } }))
    }

    fn response_came<'a>(&mut self, now: Instant, stream: u32, fits: bool, end: bool) -> Came<'a> {
        if !fits {
            return self.wrong(now, stream, Code::CANCEL, "the answer's head is larger than it may be");
        }
        let response = match message::response(&self.fields) {
            Ok(response) => response,
            Err(why) => return self.wrong(now, stream, Code::PROTOCOL_ERROR, why),
        };
        if response.status < 200 {
            if end {
                return self.wrong(now, stream, Code::PROTOCOL_ERROR, "an answer of 1xx is the last");
            }
            self.patience.others.spend(now)?;
            return Ok(Some(Event::Informational { stream }));
        }
        let Some(found) = self.streams.get_mut(&stream) else { return Ok(None) };
        let was_over = found.is_over();
        let bodyless = found.bodyless || matches!(response.status, 204 | 304);
        found.left = if bodyless { Some(0) } else { response.length };
        if end && found.left.is_some_and(|left| left > 0) {
            let why = "content-length of an answer without data";
            return self.wrong(now, stream, Code::PROTOCOL_ERROR, why);
        }
        found.receiving = Half::body(end);
        self.settle(stream, was_over);
        Ok(Some(Event::Head { stream, end }))
    }

    fn trailers_came<'a>(&mut self, now: Instant, stream: u32, fits: bool, end: bool) -> Came<'a> {
        if !end {
            return self.wrong(now, stream, Code::PROTOCOL_ERROR, "headers in the middle of a stream");
        }
        if !fits {
            return self.wrong(now, stream, Code::CANCEL, "the trailers are larger than they may be");
        }
        let Some(found) = self.streams.get_mut(&stream) else { return Ok(None) };
        let was_over = found.is_over();
        if let Err(why) = message::trailers(&self.fields).and_then(|()| found.announced(0, true)) {
            return self.wrong(now, stream, Code::PROTOCOL_ERROR, why);
        }
        found.receiving = Half::Done;
        self.settle(stream, was_over);
        Ok(Some(Event::Trailers { stream }))
    }
}
