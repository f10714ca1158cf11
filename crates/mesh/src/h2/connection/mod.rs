//! A connection's state, for either side (RFC 9113, 5 and 6).
//!
//! [`Connection::receive`] takes bytes that came and gives what they mean; what is to be sent waits in [`Connection::output`]. Nothing in it waits for
//! anything, and the time is told to it.
//!
//! A stream is there from its [`Event::Head`] (or [`Connection::open`]) until whoever works on it says [`Connection::release`]: one that its client has
//! reset counts for as long as somebody works on it, so that resetting buys no more work than leaving it be.
//!
//! **Windows** go both ways. What came in [`Event::Data`] is given back with [`Connection::consumed`], and no more comes than the windows let;
//! [`Connection::data`] takes no more than the peer's windows and a queue of bounded size let, and [`Event::Window`] says that more may go.
//!
//! **Floods**: whatever costs and brings nothing is counted, and ends the connection with ENHANCE_YOUR_CALM when it is too much
//! (`budget`). What is owed as an answer is bounded, and so are blocks of headers, in bytes and in pieces.

mod budget;
mod fields;
mod receive;
mod send;
mod stream;

#[cfg(test)]
mod floods;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use super::frame::{Broken, Code, PREFACE, Settings, id, write};
use super::hpack::{Bounds, Decoder, Encoder, Fields, TABLE};
use budget::Patience;
pub use send::{Gone, Refused};
use stream::{Half, Stream};

/// So many streams that were reset are remembered: what was sent before the peer knew is let pass. Once one may be forgotten nobody can tell.
const REMEMBERED: usize = 256;

/// What a GOAWAY says with which somebody parts for good: it serves nobody any more, and not this connection alone is over.
const PARTED: &str = "nobody is served here any more";

/// Which side this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It opens streams.
    Client,
    /// It answers them.
    Server,
}

/// How much there may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams at once, which a server's peer is told and a client keeps to itself.
    pub streams: u32,
    /// What may come of a stream before some is given back, in bytes.
    pub window: u32,
    /// What may come of all of them, in bytes; at least 65,535. Where it is less than the windows of all streams together, streams that rest
    /// keep it from the others.
    pub all: u32,
    /// Headers of a message.
    pub fields: Bounds,
    /// A block of headers, in bytes as they come.
    pub block: usize,
    /// What waits to be sent, in bytes; then no more data is taken.
    pub queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let (streams, window) = (100, 64 << 10);
        Self {
            streams,
            window,
            all: streams * window,
            fields: Bounds { size: 64 << 10, count: 128 },
            block: 64 << 10,
            queue: 64 << 10,
        }
    }
}

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The head of a request, or of its answer, in [`Connection::fields`].
    Head {
        /// Of this stream.
        stream: u32,
        /// Nothing comes behind it.
        end: bool,
    },
    /// An answer of 1xx, in [`Connection::fields`]: the one that counts is still to come.
    Informational {
        /// Of this stream.
        stream: u32,
    },
    /// A request's head that is larger than it may be: to be answered 431. [`Connection::fields`] has the beginning of it.
    TooLarge {
        /// Of this stream.
        stream: u32,
    },
    /// A piece of a body. It counts until it is given back.
    Data {
        /// Of this stream.
        stream: u32,
        /// The piece.
        bytes: &'a [u8],
        /// Nothing comes behind it.
        end: bool,
    },
    /// What stands behind a body, in [`Connection::fields`]. Nothing comes behind it.
    Trailers {
        /// Of this stream.
        stream: u32,
    },
    /// The stream has ended; it is still to be released.
    Reset {
        /// This one.
        stream: u32,
        /// For this reason.
        code: Code,
        /// What the peer did, if it was not the peer who has ended it.
        why: Option<&'static str>,
    },
    /// More data may be sent, or more streams opened: on this stream, or on all (0).
    Window {
        /// This one.
        stream: u32,
    },
    /// The peer ends the connection: it did not look at our streams above `last`, and takes no more.
    GoAway {
        /// The last one that it looked at.
        last: u32,
        /// Why.
        code: Code,
    },
    /// What [`Connection::ping`] has sent came back.
    Pong([u8; 8]),
}

/// Why a connection cannot go on. The peer is told: what is in [`Connection::output`] is still to be sent.
pub type Failure = Broken;

/// A piece of a block of headers has come.
#[derive(Debug, Clone, Copy)]
struct Partial {
    stream: u32,
    end: bool,
    pieces: usize,
}

/// One side of a connection.
#[derive(Debug)]
pub struct Connection {
    side: Side,
    limits: Limits,
    peer: Settings,
    /// The client's preface was read, or need not be.
    begun: bool,
    /// The peer's first SETTINGS were read.
    settled: bool,
    /// SETTINGS of ours that were not acknowledged.
    unsettled: u32,
    decoder: Decoder,
    encoder: Encoder,
    fields: Fields,
    block: Vec<u8>,
    partial: Option<Partial>,
    coded: Vec<u8>,
    streams: HashMap<u32, Stream>,
    /// So many of them are not over.
    active: u32,
    /// The highest that the peer has opened.
    theirs: u32,
    /// The next that this side opens.
    next: u32,
    out_window: i64,
    in_window: i64,
    owed: u32,
    out: Vec<u8>,
    sent: usize,
    /// So many of the bytes to be sent are answers that the peer has asked for.
    answers: usize,
    ended: VecDeque<u32>,
    /// The last stream that is answered, once the peer was told so.
    leaving: Option<u32>,
    /// The last of our streams that the peer looks at, once it has told.
    left: Option<u32>,
    /// The peer has parted for good.
    parted: bool,
    patience: Patience,
    failed: Option<Broken>,
}

impl Connection {
    /// At its beginning, with what is to be sent first in its output.
    #[must_use]
    pub fn new(side: Side, limits: Limits) -> Self {
        let mut out = Vec::new();
        let list = u32::try_from(limits.fields.size).unwrap_or(u32::MAX);
        match side {
            Side::Client => {
                out.extend_from_slice(PREFACE);
                let settings = [(id::PUSH, 0), (id::WINDOW, limits.window), (id::LIST, list)];
                write::settings(&mut out, &settings);
            }
            Side::Server => {
                let settings = [(id::STREAMS, limits.streams), (id::WINDOW, limits.window), (id::LIST, list)];
                write::settings(&mut out, &settings);
            }
        }
        let start = Settings::default().window;
        let all = limits.all.max(start);
        if all > start {
            write::window(&mut out, 0, all - start);
        }
        Self {
            side,
            limits: Limits { all, ..limits },
            peer: Settings::default(),
            begun: side == Side::Client,
            settled: false,
            unsettled: 1,
            decoder: Decoder::new(TABLE),
            encoder: Encoder::default(),
            fields: Fields::default(),
            block: Vec::new(),
            partial: None,
            coded: Vec::new(),
            streams: HashMap::new(),
            active: 0,
            theirs: 0,
            next: 1,
            out_window: start.into(),
            in_window: all.into(),
            owed: 0,
            out,
            sent: 0,
            answers: 0,
            ended: VecDeque::new(),
            leaving: None,
            left: None,
            parted: false,
            patience: Patience::new(),
            failed: None,
        }
    }

    /// The headers of the last event that has some.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// How many streams were not released.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether a block of headers has begun and not ended: whoever sends it slowly should be waited for no longer than for a head.
    #[must_use]
    pub fn is_within_head(&self) -> bool {
        self.partial.is_some()
    }

    /// Whether more of a body is to come on a stream, by what its `content-length` says.
    #[must_use]
    pub fn lacks(&self, stream: u32) -> bool {
        let comes = |found: &&Stream| !found.reset && found.receiving == Half::Body;
        self.streams.get(&stream).filter(comes).is_some_and(|found| found.left.is_some_and(|left| left > 0))
    }

    /// Whether the peer has acknowledged what it was asked for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled && self.unsettled == 0
    }

    /// Whether either side has said that it opens, or looks at, no more streams.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some() || self.left.is_some() || self.failed.is_some()
    }

    /// Whether it is said which stream is the last: of those that are there each ends, and none comes behind them.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.left.is_some() || self.failed.is_some() || self.leaving.is_some_and(|last| last <= self.theirs)
    }

    /// Whether the peer has said that it serves nobody any more ([`Connection::part`]).
    #[must_use]
    pub fn has_parted(&self) -> bool {
        self.parted
    }

    /// Whether this side has opened a stream.
    #[must_use]
    pub fn has_opened(&self) -> bool {
        self.next > 1
    }

    /// Whether the peer has broken the rules.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Takes note that a stream may be over.
    fn settle(&mut self, stream: u32, was_over: bool) {
        let Some(found) = self.streams.get(&stream) else { return };
        if !was_over && found.is_over() {
            self.active = self.active.saturating_sub(1);
            if !found.reset {
                self.patience.ended();
            }
        }
    }

    fn remember(&mut self, stream: u32) {
        if self.ended.len() >= REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(stream);
    }

    /// Whether nobody has opened it.
    fn is_idle(&self, stream: u32) -> bool {
        match (self.side, stream % 2) {
            (Side::Server, 1) => stream > self.theirs,
            (Side::Client, 1) => stream >= self.next,
            _ => true,
        }
    }

    /// What may come of a new stream. Until the peer has read our settings it goes by what everybody starts with.
    fn in_window_of_new(&self) -> u32 {
        if self.unsettled == 0 {
            self.limits.window
        } else {
            self.limits.window.max(Settings::default().window)
        }
    }

    fn fail(&mut self, broken: Broken) -> Failure {
        let last = self.leaving.unwrap_or(self.theirs).min(self.theirs);
        write::go_away(&mut self.out, last, broken.code, broken.why);
        self.failed = Some(broken);
        broken
    }
}
