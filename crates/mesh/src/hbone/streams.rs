//! The streams of a connection of HBONE.

use std::collections::HashMap;
use std::io::IoSlice;
use std::time::Instant;

use crate::h2::{Code, Connection, Event, message};
use crate::reactor::{Buffer, Marks, Reactor, Sink};

/// So many pieces of one stream are written by one call: more than are read at a time, unless their frames are short.
const GATHERED: usize = 16;

/// What a stream has.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) marks: Marks,
    /// What came and nobody has taken.
    pub(super) came: Buffer,
    /// The status of the answer to our CONNECT.
    pub(super) answer: Option<u16>,
    /// Nothing comes behind it.
    pub(super) ended: bool,
    /// It is gone both ways.
    pub(super) broken: bool,
    /// This side sends nothing more.
    pub(super) finished: bool,
    /// Whoever sends waits for room.
    pub(super) blocked: bool,
    /// When it sent last, among the others.
    pub(super) served: u64,
    /// Where what comes is written at once.
    pub(super) sink: Option<Sink>,
}

impl Flow {
    pub(super) fn new(marks: Marks) -> Self {
        Self {
            marks,
            came: Buffer::default(),
            answer: None,
            ended: false,
            broken: false,
            finished: false,
            blocked: false,
            served: 0,
            sink: None,
        }
    }

    pub(super) fn tear(&mut self) {
        self.broken = true;
        self.sink = None;
        self.marks.dead();
    }
}

/// HTTP/2 within TLS, and its streams.
#[derive(Debug)]
pub(super) struct Streams {
    reactor: Reactor,
    /// This side opens streams.
    opens: bool,
    pub(super) connection: Connection,
    pub(super) flows: HashMap<u32, Flow>,
    /// Frames that are not whole.
    part: Buffer,
    /// Streams that the peer has opened and nobody has taken.
    pub(super) asked: Vec<(u32, String)>,
    /// When the last stream ended.
    pub(super) quiet: Instant,
    /// So often a stream has sent something.
    served: u64,
    /// Those that wait for room, while they are told that there is some.
    waiting: Vec<(u64, u32)>,
}

/// Data of one stream that came in a row, where it came: it is written to where the stream leads by one call.
#[derive(Debug)]
pub(super) struct Gathered<'a> {
    stream: u32,
    pieces: [IoSlice<'a>; GATHERED],
    count: usize,
}

impl Default for Gathered<'_> {
    fn default() -> Self {
        Self { stream: 0, pieces: [IoSlice::new(&[]); GATHERED], count: 0 }
    }
}

impl<'a> Gathered<'a> {
    /// Whether a piece of this stream goes with those that there are.
    fn goes_on(&self, stream: u32) -> bool {
        self.count > 0 && self.stream == stream && self.count < self.pieces.len()
    }

    /// Takes a piece of the stream whose others there are, if there are any.
    fn push(&mut self, stream: u32, bytes: &'a [u8]) {
        self.stream = stream;
        if let Some(place) = self.pieces.get_mut(self.count) {
            *place = IoSlice::new(bytes);
            self.count += 1;
        }
    }
}

impl Streams {
    pub(super) fn new(reactor: &Reactor, opens: bool, connection: Connection) -> Self {
        Self {
            reactor: reactor.clone(),
            opens,
            connection,
            flows: HashMap::new(),
            part: Buffer::default(),
            asked: Vec::new(),
            quiet: reactor.now(),
            served: 0,
            waiting: Vec::new(),
        }
    }

    /// Takes what one record says.
    pub(super) fn record<'a>(&mut self, now: Instant, bytes: &'a [u8], gathered: &mut Gathered<'a>) {
        if self.part.is_empty() {
            let used = self.frames(now, bytes, gathered);
            let rest = bytes.get(used..).unwrap_or_default();
            if !rest.is_empty() {
                if self.part.is_unused() {
                    self.part = self.reactor.buffer();
                }
                self.part.push(rest);
            }
            return;
        }
        self.pass_on(gathered);
        self.part.push(bytes);
        let mut part = std::mem::take(&mut self.part);
        // What is within was put together, and is not where it came.
        let mut within = Gathered::default();
        let used = self.frames(now, part.data(), &mut within);
        self.pass_on(&mut within);
        part.consume(used);
        if part.is_empty() {
            self.reactor.give_back(part);
        } else {
            self.part = part;
        }
    }

    /// Takes the frames that are whole; how many bytes they have.
    fn frames<'a>(&mut self, now: Instant, bytes: &'a [u8], gathered: &mut Gathered<'a>) -> usize {
        let mut taken = 0;
        // What breaks the rules is remembered by the connection.
        while let Some(rest) = bytes.get(taken..)
            && let Ok((used @ 1.., event)) = self.connection.receive(now, rest)
        {
            taken += used;
            if let Some(event) = event {
                self.told(event, gathered);
            }
        }
        taken
    }

    fn told<'a>(&mut self, event: Event<'a>, gathered: &mut Gathered<'a>) {
        // Whatever else is told comes behind it.
        if !matches!(event, Event::Data { stream, .. } if gathered.goes_on(stream)) {
            self.pass_on(gathered);
        }
        match event {
            Event::Head { stream, end } => self.head(stream, end),
            Event::TooLarge { stream } => {
                self.connection.reset(stream, Code::PROTOCOL_ERROR);
                self.connection.release(stream);
                // Whoever waits for the answer is told that there is none.
                if let Some(flow) = self.flows.get_mut(&stream) {
                    flow.tear();
                }
            }
            Event::Data { stream, bytes, end } => self.data(stream, (bytes, end), gathered),
            Event::Trailers { stream } => {
                if let Some(flow) = self.flows.get_mut(&stream) {
                    flow.ended = true;
                    flow.marks.ended();
                }
            }
            Event::Reset { stream, .. } => {
                if let Some(place) = self.asked.iter().position(|(asked, _)| *asked == stream) {
                    // Nobody has it yet who would release it.
                    self.asked.remove(place);
                    self.flows.remove(&stream);
                    self.connection.release(stream);
                } else if let Some(flow) = self.flows.get_mut(&stream) {
                    flow.tear();
                }
            }
            Event::Window { .. } => self.unblock(),
            // Whoever opens streams is told which are not looked at; of those that come, none are.
            Event::GoAway { .. } if !self.opens => {}
            Event::GoAway { last, .. } => {
                for flow in self.flows.iter_mut().filter(|(stream, _)| **stream > last).map(|(_, flow)| flow)
                {
                    flow.tear();
                }
            }
            Event::Informational { .. } | Event::Pong(_) => {}
        }
    }

    /// Data of a stream: it goes where the stream leads, if all that came before is there.
    fn data<'a>(&mut self, stream: u32, (bytes, end): (&'a [u8], bool), gathered: &mut Gathered<'a>) {
        let Some(flow) = self.flows.get(&stream).filter(|flow| !flow.broken) else {
            return self.connection.consumed(stream, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        };
        if !bytes.is_empty() && flow.came.is_empty() && flow.sink.as_ref().is_some_and(Sink::takes) {
            gathered.push(stream, bytes);
            if !end {
                return;
            }
            self.pass_on(gathered);
        } else {
            self.pass_on(gathered);
            self.keep(stream, bytes);
        }
        if end && let Some(flow) = self.flows.get_mut(&stream) {
            flow.ended = true;
            flow.marks.ended();
        }
    }

    /// Writes what was gathered to where its stream leads, and keeps what is not taken there: whoever reads the stream writes it, and hears why it
    /// cannot be.
    pub(super) fn pass_on(&mut self, gathered: &mut Gathered<'_>) {
        let count = std::mem::take(&mut gathered.count);
        let stream = gathered.stream;
        let pieces = gathered.pieces.get(..count).unwrap_or_default();
        let Some(flow) = self.flows.get(&stream).filter(|_| count > 0) else { return };
        let mut written = flow.sink.as_ref().map_or(0, |sink| sink.write(pieces));
        if written > 0 {
            // It is to be counted.
            flow.marks.wake();
            self.connection.consumed(stream, u32::try_from(written).unwrap_or(u32::MAX));
        }
        for piece in pieces {
            let (_, rest) = piece.split_at(written.min(piece.len()));
            written -= piece.len() - rest.len();
            if !rest.is_empty() {
                self.keep(stream, rest);
            }
        }
    }

    /// Keeps what came until somebody takes it.
    fn keep(&mut self, stream: u32, bytes: &[u8]) {
        let Some(flow) = self.flows.get_mut(&stream) else { return };
        if flow.came.is_unused() && !bytes.is_empty() {
            flow.came = self.reactor.buffer();
        }
        flow.came.push(bytes);
        flow.marks.readable();
    }

    /// A CONNECT, or the answer to one.
    fn head(&mut self, stream: u32, end: bool) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.answer = message::response(self.connection.fields()).ok().map(|response| response.status);
            flow.ended |= end;
            if end {
                flow.marks.ended();
            } else {
                flow.marks.wake();
            }
            return;
        }
        let request = message::request(self.connection.fields());
        let authority = match &request {
            Ok(request) if request.method == "CONNECT" => request.authority.unwrap_or_default().to_owned(),
            // Answered as an address that is none: nothing else is served here.
            _ => String::new(),
        };
        let mut flow = Flow::new(self.reactor.marks());
        flow.ended = end;
        if end {
            flow.marks.ended();
        }
        self.flows.insert(stream, flow);
        self.asked.push((stream, authority));
    }

    /// Tells those that wait for room that there is some.
    pub(super) fn unblock(&mut self) {
        let Self { flows, connection, waiting, .. } = self;
        let blocked = flows.iter().filter(|(stream, flow)| flow.blocked && connection.room(**stream) > 0);
        waiting.extend(blocked.map(|(stream, flow)| (flow.served, *stream)));
        // Whoever has sent last is the last to send again.
        waiting.sort_unstable();
        for (_, stream) in waiting.drain(..) {
            if let Some(flow) = flows.get_mut(&stream) {
                flow.blocked = false;
                flow.marks.writable();
            }
        }
    }

    /// Takes note that a stream has sent something.
    pub(super) fn serve(&mut self, stream: u32) {
        self.served += 1;
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.served = self.served;
        }
    }
}
