//! The one thread that writes: it takes what waits, and makes it durable in one go.

use super::batch::{Answer, Batch, Request};
use super::engine::{After, Engine};
use super::ring::Publisher;
use super::tables::Counters;
use super::{Error, Options, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How much goes into one batch: more would make the first wait for the last.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;
/// How many marks of time there are in the history's age.
const MARKS: u32 = 10;
/// How often a database that cannot be opened is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    engine: Arc<Engine>,
    publisher: Publisher,
    /// As on the disk.
    counters: Counters,
    options: Options,
    /// Up to which revision history may go.
    forget: u64,
    /// At which time which revision was the last: what was before is forgotten so much later.
    marks: VecDeque<(Instant, u64)>,
    /// Changes may be left that are to be forgotten.
    untidy: bool,
    health: Health,
}

#[derive(Debug)]
enum Health {
    Well,
    /// The database has to be opened before the next write; what came of the last batch shows then.
    Broken(Box<Batch>),
    /// Nothing can be written any more.
    Failed(String),
}

impl Writer {
    pub(super) fn new(
        engine: Arc<Engine>,
        publisher: Publisher,
        counters: Counters,
        options: Options,
    ) -> Writer {
        let marks = [(Instant::now(), counters.revision)].into();
        let (forget, untidy) = (counters.compacted, true);
        Writer { engine, publisher, counters, options, forget, marks, untidy, health: Health::Well }
    }

    /// Serves requests until nobody can make any, then closes the database.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        while let Some(batch) = self.wait(requests) {
            self.age();
            // What it woke for may have been memory alone.
            if !batch.is_empty() || self.untidy || !matches!(self.health, Health::Well) {
                self.serve(batch);
            }
        }
        self.engine.close();
    }

    /// The requests that wait; none when it is time to tidy, `None` when there will be no more.
    fn wait(&self, requests: &Receiver<Request>) -> Option<Vec<Request>> {
        let first = match self.pause() {
            None => requests.recv().ok()?,
            Some(pause) => match requests.recv_timeout(pause) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        let mut size = first.size();
        let mut batch = vec![first];
        while batch.len() < BATCH && size < BATCH_BYTES {
            let Ok(next) = requests.try_recv() else { break };
            size += next.size();
            batch.push(next);
        }
        Some(batch)
    }

    /// How long it may sleep before there is something to do unasked.
    fn pause(&self) -> Option<Duration> {
        match self.health {
            Health::Well if self.untidy => return Some(Duration::ZERO),
            Health::Well => {}
            Health::Broken(_) => return Some(AGAIN),
            Health::Failed(_) => return None,
        }
        let oldest = self.marks.front().filter(|_| self.forget != self.counters.revision);
        let forget = oldest.map(|(at, _)| *at + self.options.history);
        let next = forget.into_iter().chain(self.publisher.due()).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Marks the time, and lets history go that is too old.
    fn age(&mut self) {
        let now = Instant::now();
        self.publisher.age(now);
        let step = self.options.history / MARKS;
        while let Some((_, revision)) = self.marks.pop_front_if(|(at, _)| now - *at >= self.options.history) {
            self.untidy |= revision > self.forget;
            self.forget = self.forget.max(revision);
        }
        if self.marks.back().is_none_or(|(last, _)| now - *last >= step) {
            self.marks.push_back((now, self.counters.revision));
        }
    }

    fn serve(&mut self, requests: Vec<Request>) {
        if let Err(e) = self.ready() {
            requests.into_iter().for_each(|request| request.answer(Err(e.clone())));
            return;
        }
        let mut batch = Batch::new(self.counters, self.forget, self.options.history_bytes);
        let mut requests = requests.into_iter();
        let outcome =
            self.engine.with(|database| Ok(batch.write(database, &mut requests, self.publisher.recent())));
        match outcome.map_err(|e| e.to_string()).and_then(|outcome| outcome.map_err(|e| e.to_string())) {
            Ok(()) => self.done(batch),
            Err(e) => {
                requests.for_each(|request| request.answer(Err(Error::Write(e.clone()))));
                self.failed(batch, &e);
            }
        }
    }

    /// Tells everybody what was done.
    fn done(&mut self, batch: Batch) {
        self.counters = batch.counters;
        self.forget = self.forget.max(self.counters.compacted);
        self.untidy = batch.more;
        if !batch.events.is_empty() {
            self.publisher.publish(batch.events, self.counters.revision);
        }
        batch.answers.into_iter().for_each(Answer::give);
    }

    /// Finds out whether a batch was done that failed.
    fn failed(&mut self, mut batch: Batch, cause: &str) {
        match self.engine.reopen() {
            After::Well(counters) => self.resolve(batch, counters, cause),
            After::Broken(again) => {
                batch.refuse(&Error::Unknown(format!("{cause}; {again}")));
                self.health = Health::Broken(Box::new(batch));
            }
            After::Lost(lost) => {
                batch.refuse(&Error::Unknown(cause.to_owned()));
                self.health = Health::Failed(lost);
            }
        }
    }

    /// Goes on with the counters that the reopened database has.
    fn resolve(&mut self, mut batch: Batch, counters: Counters, cause: &str) {
        self.health = Health::Well;
        if counters == batch.counters {
            self.done(batch);
        } else if counters == self.counters {
            batch.refuse(&Error::Write(cause.to_owned()));
        } else {
            let lost =
                format!("it is at revision {} and was at {}", counters.revision, self.counters.revision);
            batch.refuse(&Error::Failed(lost.clone()));
            self.health = Health::Failed(lost);
        }
    }

    /// Sees to it that the database is open.
    fn ready(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.health, Health::Well) {
            Health::Well => Ok(()),
            Health::Failed(cause) => {
                self.health = Health::Failed(cause.clone());
                Err(Error::Failed(cause))
            }
            Health::Broken(batch) => match self.engine.reopen() {
                After::Well(counters) => {
                    self.resolve(*batch, counters, "it failed before");
                    self.ready()
                }
                After::Broken(cause) => {
                    self.health = Health::Broken(batch);
                    Err(Error::Write(cause))
                }
                After::Lost(cause) => {
                    self.health = Health::Failed(cause.clone());
                    Err(Error::Failed(cause))
                }
            },
        }
    }
}
