use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use super::super::rpc::{self, Call, Heard, Method};
use super::tenant::Key;
use crate::contract::{AddResult, Error};

/// A plugin that has connected: it says one thing, waits for its answer, and goes.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) stream: UnixStream,
    heard: Vec<u8>,
    greeted: bool,
    /// What it waits for, and its call's number.
    pub(super) waits: Option<(Key, u64)>,
    answer: Vec<u8>,
    /// All was said, or nothing can be.
    pub(super) over: bool,
}

impl Conversation {
    pub(super) fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, heard: Vec::new(), greeted: false, waits: None, answer: Vec::new(), over: false })
    }

    pub(super) fn has_to_say(&self) -> bool {
        !self.answer.is_empty()
    }

    /// Reads what has come. The call, once it is whole.
    pub(super) fn read(&mut self) -> Result<Option<(Call, u64)>, Error> {
        let mut part = [0; 16 * 1024];
        let length = match self.stream.read(&mut part) {
            Ok(length) => length,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(None),
            Err(_) => 0,
        };
        // Whoever goes before the answer finds the lease with its next call.
        if length == 0 || self.heard.len() + length > rpc::LONGEST {
            self.over = true;
            return Ok(None);
        }
        if self.waits.is_some() || self.has_to_say() {
            return Ok(None);
        }
        self.heard.extend(part.get(..length).unwrap_or_default());
        let heard = rpc::hear(&self.heard).inspect_err(|_| self.over = true)?;
        if heard != Heard::Part && !self.greeted {
            self.greeted = true;
            self.say(rpc::greeting());
        }
        match heard {
            Heard::Call(call, number) => Ok(Some((call, number))),
            _ => Ok(None),
        }
    }

    /// Answers the call.
    pub(super) fn answer(&mut self, method: Method, number: u64, outcome: Result<&AddResult, &str>) {
        self.waits = None;
        let bytes = rpc::answer(method, number, outcome);
        self.say(&bytes);
        // A plugin asks once; the rest of the answer goes out first.
        self.over |= !self.has_to_say();
    }

    fn say(&mut self, bytes: &[u8]) {
        self.answer.extend(bytes);
        self.write();
    }

    /// Sends what there is to send, as far as it can be sent.
    pub(super) fn write(&mut self) {
        match self.stream.write(&self.answer) {
            Ok(length) => drop(self.answer.drain(..length)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.over = true,
        }
    }
}
