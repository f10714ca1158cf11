//! list, in one piece or in several.

use super::cursor::Cursor;
use super::options::{ListOptions, VersionMatch};
use super::read::parsed;
use super::selection::Selection;
use super::shown;
pub(super) use super::shown::written;
use super::target::{Answer, Target, View};
use super::token::Token;
use super::{Context, Registry, too_large, unavailable};
use crate::contract::{Result, Status};
use crate::lane::Lanes;
use crate::store::{self, Key, Most, Store, Stored};
use bytes::Bytes;

/// A piece of a list ends when its objects have so many bytes, whatever its limit: it is put together in memory.
const PIECE: usize = 16 << 20;
/// A list without a limit is told in pieces of about so many bytes.
const CHUNK: usize = 128 * 1024;

/// Objects of a collection as of one revision.
pub(super) struct Listed {
    pub(super) items: Vec<Stored>,
    pub(super) revision: u64,
    /// Where the list goes on, and how many there are behind where that is known.
    pub(super) next: Option<(Token, Option<usize>)>,
}

impl Registry {
    /// The collection, or a piece of it.
    ///
    /// # Errors
    /// 400 for selectors and tokens that are none; 410 for versions that are gone, 504 for those that are yet to come.
    pub async fn list(
        &self,
        context: &Context,
        target: &Target,
        options: &ListOptions,
        form: View,
    ) -> Result<Answer> {
        let mut listing = self.listing(context, target, options, form)?;
        let mut whole = bytes::BytesMut::new();
        while let Some(chunk) = listing.next().await? {
            if whole.is_empty() && listing.has_ended() {
                return Ok(Answer { code: 200, json: chunk });
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(Answer { code: 200, json: whole.freeze() })
    }

    /// The same, told in pieces of JSON, none of which is read before it is asked for.
    ///
    /// # Errors
    /// As of [`Registry::list`].
    pub fn listing(
        &self,
        _context: &Context,
        target: &Target,
        options: &ListOptions,
        form: View,
    ) -> Result<Listing> {
        let selection = Selection::new(target, options)?;
        let gathering = self.gathering(&selection, options)?;
        let lanes = self.lanes().clone();
        Ok(Listing { lanes, gathering, form, ration: None, told: 0, begun: false, ended: false })
    }

    /// The objects that a list tells.
    pub(super) fn listed(&self, selection: &Selection, options: &ListOptions) -> Result<Listed> {
        let mut gathering = self.gathering(selection, options)?;
        let mut items = Vec::new();
        while !gathering.ended {
            gathering.step(&mut items)?;
        }
        Ok(gathering.listed(items))
    }

    fn gathering(&self, selection: &Selection, options: &ListOptions) -> Result<Gathering> {
        let start = self.start(options)?;
        let within = selection.scope.namespace.clone();
        let key = |(namespace, name): (String, String)| Key {
            resource: selection.scope.resource.clone(),
            namespace: within.unwrap_or(namespace),
            name,
        };
        let after = start.after.map(key);
        Ok(Gathering {
            cursor: Cursor::new(self.store(), &selection.scope, after, start.revision),
            store: self.store().clone(),
            selection: selection.clone(),
            limit: options.limit,
            goes_on: !options.token.is_empty(),
            bytes: 0,
            ended: false,
            revision: 0,
            next: None,
        })
    }

    fn start(&self, options: &ListOptions) -> Result<Start> {
        if !options.token.is_empty() {
            let token = Token::parse(&options.token)?;
            if !options.is_from_any() {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            return Ok(Start { revision: token.revision, after: Some(token.after) });
        }
        let asked = parsed(&options.version)
            .map_err(|status| Status::bad_request(format!("invalid resource version: {}", status.message)))?;
        let current = self.store().revision();
        if asked > current {
            return Err(too_large(asked, current));
        }
        let exact = match options.version_match {
            Some(wanted) => wanted == VersionMatch::Exact,
            None => options.limit > 0 && asked > 0,
        };
        Ok(Start { revision: exact.then_some(asked), after: None })
    }
}

struct Start {
    revision: Option<u64>,
    after: Option<(String, String)>,
}

/// A list that is being put together.
struct Gathering {
    store: Store,
    selection: Selection,
    cursor: Cursor,
    /// 0: all there are.
    limit: usize,
    /// Whether it goes on with a list.
    goes_on: bool,
    /// How many bytes the objects have that a limited list has so far.
    bytes: usize,
    ended: bool,
    revision: u64,
    next: Option<(Token, Option<usize>)>,
}

impl Gathering {
    /// Reads a page more, and adds what is meant of it.
    fn step(&mut self, items: &mut Vec<Stored>) -> Result<()> {
        // What it was at a revision only a walk tells.
        if let Some(name) = self.selection.name()
            && self.cursor.revision().is_none()
            && (self.selection.scope.namespace.is_some() || !self.selection.resource.namespaced)
        {
            let name = name.to_owned();
            return self.single(&name, items);
        }
        if self.limit > 0 && self.selection.is_everything() {
            return self.counted(items);
        }
        let page = self.cursor.next().map_err(|error| self.expired(error))?;
        self.revision = self.cursor.revision().unwrap_or_default();
        let last = page.last().map(|stored| stored.key.clone());
        for stored in page {
            if !self.selection.means(&stored.json)? {
                continue;
            }
            self.bytes += stored.json.len();
            items.push(stored);
            if self.limit > 0 && (items.len() == self.limit || self.bytes >= PIECE) {
                self.ended = true;
                let cut = items.last().map(|stored| &stored.key);
                if !(self.cursor.has_ended() && cut == last.as_ref()) {
                    self.next = cut.map(|key| (self.token(key), None));
                }
                return Ok(());
            }
        }
        self.ended = self.cursor.has_ended();
        Ok(())
    }

    /// A piece of everything, which says how much is left.
    fn counted(&mut self, items: &mut Vec<Stored>) -> Result<()> {
        let most = Most { items: self.limit, bytes: PIECE, counted: true };
        let (scope, after) = (&self.selection.scope, self.cursor.after());
        let page = self
            .store
            .page(scope, after, most, self.cursor.revision())
            .map_err(|error| self.expired(error))?;
        self.revision = page.revision;
        self.ended = true;
        if page.more.is_some() {
            self.next = page.items.last().map(|last| (self.token(&last.key), page.more));
        }
        items.extend(page.items);
        Ok(())
    }

    /// The collection of at most one object.
    fn single(&mut self, name: &str, items: &mut Vec<Stored>) -> Result<()> {
        self.ended = true;
        self.revision = self.store.revision();
        let key = Key {
            resource: self.selection.scope.resource.clone(),
            namespace: self.selection.scope.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
        };
        if let Some(stored) = self.store.get(&key).map_err(unavailable)?
            && self.selection.means(&stored.json)?
        {
            self.revision = stored.revision.max(self.revision);
            items.push(stored);
        }
        Ok(())
    }

    fn token(&self, last: &Key) -> Token {
        let is_within = self.selection.scope.namespace.is_some();
        let namespace = if is_within { String::new() } else { last.namespace.clone() };
        Token { revision: Some(self.revision), after: (namespace, last.name.clone()) }
    }

    /// What a list at a revision that is gone is told.
    fn expired(&self, error: store::Error) -> Status {
        if !matches!(error, store::Error::Compacted { .. }) || !self.goes_on {
            return unavailable(error);
        }
        Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter.",
        )
    }

    fn listed(self, items: Vec<Stored>) -> Listed {
        Listed { items, revision: self.revision, next: self.next }
    }
}

/// Says whether so many bytes more may be held.
pub type Ration = Box<dyn Fn(usize) -> Result<()> + Send + Sync>;

/// A list on its way: JSON in pieces, that of a long list made while it is sent.
pub struct Listing {
    lanes: Lanes,
    gathering: Gathering,
    form: View,
    ration: Option<Ration>,
    /// How many objects have been told.
    told: usize,
    begun: bool,
    ended: bool,
}

impl Listing {
    /// Asks `ration` before it holds what a limited list comes to.
    #[must_use]
    pub fn rationed(mut self, ration: Ration) -> Listing {
        self.ration = Some(ration);
        self
    }

    /// Whether everything has been told.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next piece. A limited list is one piece, for it tells first where it goes on.
    ///
    /// # Errors
    /// As of [`Registry::list`]; 410 also later, where whoever reads it takes longer than the history is kept.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        let lanes = self.lanes.clone();
        let (mut out, mut items) = (Vec::new(), Vec::new());
        let is_whole = self.gathering.limit > 0;
        loop {
            lanes.run(|| self.step(is_whole, &mut items, &mut out)).await?;
            if self.ended || !is_whole && out.len() >= CHUNK {
                return Ok(Some(out.into()));
            }
            // A selection may mean little of much.
            tokio::task::yield_now().await;
        }
    }

    fn step(&mut self, is_whole: bool, items: &mut Vec<Stored>, out: &mut Vec<u8>) -> Result<()> {
        let had = items.len();
        self.gathering.step(items)?;
        if is_whole {
            let bytes = items[had..].iter().map(|stored| stored.json.len()).sum();
            self.ration.as_ref().map_or(Ok(()), |ration| ration(bytes))?;
            if !self.gathering.ended {
                return Ok(());
            }
        }
        let resource = &self.gathering.selection.resource;
        if !std::mem::replace(&mut self.begun, true) {
            shown::head(resource, self.form, self.gathering.revision, self.gathering.next.as_ref(), out);
        }
        for stored in items.drain(..) {
            if self.told > 0 {
                out.push(b',');
            }
            self.told += 1;
            shown::item(resource, self.form, &stored, out)?;
        }
        self.ended = self.gathering.ended;
        if self.ended {
            out.extend_from_slice(shown::TAIL);
        }
        Ok(())
    }
}
