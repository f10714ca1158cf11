//! watch.

use super::cursor::Cursor;
use super::options::ListOptions;
use super::read::parsed;
use super::selection::Selection;
use super::target::{Target, View};
use super::{Context, Registry, document, too_large, view};
use crate::contract::{Object, Result, Status};
use crate::lane::Lanes;
use crate::resource::Resource;
use crate::store::{self, Event, Kind, Store, Stored, Watch};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch as watch_channel;
use tokio::time::{Instant, Sleep, sleep_until};

/// How often a watch that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch ends after so many seconds, whatever was asked: a year.
const LONGEST: u64 = 365 * 86_400;
/// How long a watch lasts that does not say so; up to twice that, so that clients do not come back all at once.
const SHORTEST: u64 = 1800;

/// A watch: frames of JSON, one a line.
pub struct Watching {
    selection: Selection,
    form: View,
    store: Store,
    lanes: Lanes,
    /// The objects that are told before all changes, as far as they were not told yet.
    initial: Option<Initial>,
    /// What is told before anything else, and what ends it after that.
    waiting: VecDeque<Bytes>,
    changes: Option<Watch>,
    /// Changes up to here are not told.
    after: u64,
    ends: Instant,
    bookmark: Option<Instant>,
    /// Goes off when the next bookmark is due, or at the end. It stays set over events, for setting one costs more than
    /// telling an event.
    alarm: Option<Pin<Box<Sleep>>>,
    headed: bool,
    /// Of a custom resource: whether it is still served.
    served: Option<Served>,
}

/// A resource that may go.
struct Served {
    registry: Registry,
    changes: watch_channel::Receiver<u64>,
}

impl Served {
    /// Waits until nobody serves `resource` any more. It may be dropped while it waits.
    async fn gone(&mut self, resource: &Resource) {
        while self.changes.changed().await.is_ok() {
            if !self.registry.serves(resource) {
                return;
            }
        }
    }
}

/// What there was when a watch began: read as it is told, so that a client that does not read holds a page of it.
struct Initial {
    cursor: Cursor,
    /// Whether a bookmark says where it ends.
    bookmarked: bool,
}

impl Registry {
    /// A watch of the collection, or of the object that the target names.
    ///
    /// # Errors
    /// 400 for selectors that are none. A version that is gone is told within the watch, as Kubernetes does.
    pub async fn watch(
        &self,
        _context: &Context,
        target: &Target,
        options: &ListOptions,
        form: View,
    ) -> Result<Watching> {
        let selection = Selection::new(target, options)?;
        let asked = parsed(&options.version)?;
        let seconds = options.timeout.filter(|seconds| *seconds > 0).unwrap_or_else(|| {
            SHORTEST + u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs()) % SHORTEST
        });
        let now = Instant::now();
        let served = target.resource.is_custom().then(|| {
            let mut changes = self.set_changes();
            // It may be gone already.
            changes.mark_changed();
            Served { registry: self.clone(), changes }
        });
        let mut watching = Watching {
            selection,
            form,
            store: self.store().clone(),
            lanes: self.lanes().clone(),
            initial: None,
            waiting: VecDeque::new(),
            changes: None,
            after: asked,
            ends: now + Duration::from_secs(seconds.min(LONGEST)),
            bookmark: options.bookmarks.then(|| now + BOOKMARK_EVERY),
            alarm: None,
            headed: true,
            served,
        };
        let current = self.store().revision();
        let initial = options.initial_events.unwrap_or_else(|| options.is_from_any());
        if initial {
            if asked > current {
                return Err(too_large(asked, current));
            }
            let bookmarked = options.bookmarks && options.initial_events == Some(true);
            let cursor = Cursor::new(self.store(), &watching.selection.scope, None, None);
            watching.initial = Some(Initial { cursor, bookmarked });
            // What is there when the watch begins is what is there now, and what is wrong is told at once.
            watching.page().await?;
        } else {
            let from = if options.is_from_any() { current } else { asked.min(current) };
            watching.follow(from);
        }
        Ok(watching)
    }
}

impl Watching {
    /// The next frame with its line break, or the end: the time is over, or an error has been told. It may be dropped
    /// while it waits.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Some(frame);
            }
            if self.initial.is_some() {
                if let Err(status) = self.page().await {
                    self.fail(&status);
                }
                continue;
            }
            if Instant::now() >= self.ends {
                return None;
            }
            // Read before the changes are: whatever it counts has been told when there is none to tell.
            let revision = self.store.revision();
            let rings = self.bookmark.map_or(self.ends, |due| due.min(self.ends));
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(rings)));
            let changes = self.changes.as_mut()?;
            let event = tokio::select! {
                biased;
                event = changes.next() => event,
                // What had to be told of its objects has been.
                () = gone(&mut self.served, &self.selection.resource) => return None,
                () = alarm.as_mut() => {
                    self.alarm = None;
                    if self.bookmark.is_none_or(|due| due > Instant::now()) {
                        continue;
                    }
                    self.bookmark = Some(Instant::now() + BOOKMARK_EVERY);
                    return Some(self.bookmark_frame(revision, false));
                }
            };
            match event {
                Ok(event) if event.revision <= self.after => {}
                Ok(event) => match self.told(&event) {
                    Ok(Some(frame)) => return Some(frame),
                    Ok(None) => {}
                    Err(status) => self.fail(&status),
                },
                Err(error) => self.fail(&missed(&error)),
            }
        }
    }

    /// Reads a page of what there is; behind the last one it follows.
    async fn page(&mut self) -> Result<()> {
        let lanes = self.lanes.clone();
        lanes.run(|| self.read_page()).await?;
        // A selection may mean little of much.
        tokio::task::yield_now().await;
        Ok(())
    }

    fn read_page(&mut self) -> Result<()> {
        let Some(initial) = &mut self.initial else { return Ok(()) };
        let page = initial.cursor.next().map_err(|error| missed(&error))?;
        let ended = initial.cursor.has_ended().then(|| (initial.bookmarked, initial.cursor.revision()));
        for Stored { json, .. } in page {
            if self.selection.means(&json)? {
                let frame = self.frame("ADDED", &json)?;
                self.waiting.push_back(frame);
            }
        }
        let Some((bookmarked, revision)) = ended else { return Ok(()) };
        let revision = revision.unwrap_or_default();
        if bookmarked {
            let frame = self.bookmark_frame(revision, true);
            self.waiting.push_back(frame);
        }
        self.initial = None;
        self.after = revision;
        self.follow(revision);
        Ok(())
    }

    fn follow(&mut self, from: u64) {
        match self.store.watch(self.selection.scope.clone(), from) {
            Ok(changes) => self.changes = Some(changes),
            Err(error) => self.fail(&missed(&error)),
        }
    }

    /// Ends the watch with an error.
    fn fail(&mut self, status: &Status) {
        (self.initial, self.changes) = (None, None);
        self.waiting.push_back(framed("ERROR", status.to_value().to_string().as_bytes()));
    }

    /// What a change is to this watch: the selection makes some of them come and go.
    fn told(&mut self, event: &Arc<Event>) -> Result<Option<Bytes>> {
        if event.kind == Kind::Delete {
            let meant = self.selection.means(&event.json)?;
            return if meant { self.shared("DELETED", event).map(Some) } else { Ok(None) };
        }
        if self.selection.is_everything() {
            let kind = if event.created() { "ADDED" } else { "MODIFIED" };
            return self.shared(kind, event).map(Some);
        }
        let is = self.selection.means(&event.json)?;
        let previous = event.previous.as_ref().filter(|_| !event.created());
        let was = previous.map(|json| self.selection.means(json)).transpose()?.unwrap_or(false);
        match (was, is) {
            (false, false) => Ok(None),
            (false, true) => self.frame("ADDED", &event.json).map(Some),
            (true, true) => self.frame("MODIFIED", &event.json).map(Some),
            (true, false) => {
                let mut left = document::parse(previous.map_or(&event.json, |json| json))?;
                let version = event.revision.to_string();
                left.metadata_mut().insert("resourceVersion".to_owned(), version.into());
                self.frame("DELETED", &document::json(&left)).map(Some)
            }
        }
    }

    /// A frame of a change, which watches that see it in the same form share.
    fn shared(&mut self, kind: &'static str, event: &Arc<Event>) -> Result<Bytes> {
        if self.form == View::Full && document::is_as_kept(&self.selection.resource, &event.json) {
            return Ok(event.encoding(|| framed(kind, &event.json)));
        }
        self.frame(kind, &event.json)
    }

    /// A frame of an object, given as it is kept.
    fn frame(&mut self, kind: &str, json: &Bytes) -> Result<Bytes> {
        let resource = &self.selection.resource;
        let object = || document::open(resource, json);
        Ok(match self.form {
            View::Full if document::is_as_kept(resource, json) => framed(kind, json),
            View::Full => framed(kind, &document::json(&object()?)),
            View::Metadata(meta) => framed(kind, &view::metadata(&object()?, meta)),
            View::Table(include, meta) => {
                let headed = std::mem::take(&mut self.headed);
                let table = view::table(resource, &object()?, (include, meta), headed);
                framed(kind, &table)
            }
        })
    }

    fn bookmark_frame(&self, revision: u64, initial_end: bool) -> Bytes {
        let names = &self.selection.resource.names;
        let mut object = json!({
            "kind": names.kind,
            "apiVersion": names.api_version(),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial_end {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = Object::from_value(object).expect("written as an object above");
        let json = match self.form {
            View::Full => document::json(&object),
            View::Metadata(meta) => Bytes::from(view::metadata(&object, meta)),
            View::Table(_, meta) => {
                let (api_version, version) = (meta.api_version(), revision.to_string());
                let mut row = json!({"cells": [], "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": api_version,
                }});
                row["object"]["metadata"] = object.0["metadata"].clone();
                Bytes::from(
                    json!({
                        "kind": "Table", "apiVersion": api_version,
                        "metadata": {"resourceVersion": version},
                        "columnDefinitions": Value::Null, "rows": [row],
                    })
                    .to_string(),
                )
            }
        };
        framed("BOOKMARK", &json)
    }
}

/// Waits until a resource that may go is gone.
async fn gone(served: &mut Option<Served>, resource: &Resource) {
    match served {
        Some(served) => served.gone(resource).await,
        None => std::future::pending().await,
    }
}

fn framed(kind: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    Bytes::from(out)
}

/// What a watch is told whose changes cannot be had any more.
fn missed(error: &store::Error) -> Status {
    match error {
        store::Error::Compacted { asked, oldest } => {
            Status::expired(format!("too old resource version: {asked} ({oldest})"))
        }
        other => Status::internal(other),
    }
}
