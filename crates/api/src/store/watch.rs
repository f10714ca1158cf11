//! What a watcher has.

use super::event::Position;
use super::ring::{Behind, Topic};
use super::{Error, Event, Result, Scope, Shared, past};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch::Receiver;

/// The changes of a scope, one after the other, without a gap.
///
/// It is a place in the store's history and no queue: one that is not asked costs nothing, and may find one day that the
/// history it had still to see is gone. What is gone of other resources is nothing to it.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    scope: Scope,
    topic: Arc<Topic>,
    news: Receiver<u64>,
    /// Everything up to here was told, or is in `read`.
    position: Position,
    /// The last thing told.
    told: Position,
    /// What was read from the disk and not told yet.
    read: VecDeque<Arc<Event>>,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, scope: Scope, from: u64) -> Result<Watch> {
        let topic = shared.recent.topic(&scope.resource);
        let news = topic.news();
        let position = Position::after(from);
        let watch = Watch { shared, scope, topic, news, position, told: position, read: VecDeque::new() };
        // What has been seen by nobody yet may be on the disk already; a list has shown it then.
        let ahead = from > watch.shared.recent.revision();
        if ahead || matches!(watch.topic.behind(position, &watch.scope), Behind::Gone) {
            let counters = watch.shared.engine.counters()?;
            super::read::check(from, counters)?;
        }
        Ok(watch)
    }

    /// The next change, when there is one. It can be dropped and called again without losing one.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the next change is no longer kept: the watcher was too slow. [`Error::Closed`] when the
    /// store is closed, [`Error::Read`].
    pub async fn next(&mut self) -> Result<Arc<Event>> {
        loop {
            self.news.borrow_and_update();
            if let Some(event) = self.ready()? {
                return Ok(event);
            }
            if self.shared.is_closed() || self.news.changed().await.is_err() {
                return Err(Error::Closed);
            }
        }
    }

    /// The next change, if it is there already.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn ready(&mut self) -> Result<Option<Arc<Event>>> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.told = event.position();
                return Ok(Some(event));
            }
            match self.topic.behind(self.position, &self.scope) {
                Behind::Event(event) => {
                    (self.position, self.told) = (event.position(), event.position());
                    return Ok(Some(event));
                }
                Behind::Nothing(position) => {
                    self.position = position;
                    return Ok(None);
                }
                Behind::Gone => {
                    let (scope, position) = (&self.scope, self.position);
                    let lost = || self.topic.lost();
                    let stretch =
                        self.shared.engine.read(|from| past::behind(from, scope, position, lost))?;
                    (self.position, self.read) = (stretch.end, stretch.events.into());
                }
            }
        }
    }

    /// The revision up to which it has told everything: what a bookmark may name.
    #[must_use]
    pub fn revision(&self) -> u64 {
        let revision = self.shared.recent.revision();
        let idle = self.read.is_empty()
            && matches!(self.topic.behind(self.position, &self.scope), Behind::Nothing(_));
        if idle { revision.max(self.told.revision) } else { self.told.seen() }
    }

    /// What it is about.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}
