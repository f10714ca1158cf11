//! Random calls to the store, beside a model that keeps every state in memory.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use api::store::{Document, Error, Event, Expect, Key, Kind, Options, Scope, Store, Watch, Write};
use proptest::prelude::*;

const RESOURCES: [&str; 3] = ["pods", "leases", "pods.other"];
const NAMESPACES: [&str; 4] = ["", "a", "a-b", "b"];
const NAMES: [&str; 6] = ["x", "x-y", "x.y", "x0", "y", "z"];

#[derive(Clone, Debug)]
enum Op {
    Commit(Vec<(Key, u8, Option<usize>)>),
    /// Of the scope, by pages of so many, so many revisions ago, going on behind a key.
    List(Scope, Option<usize>, u64, Option<Key>),
    /// From so many revisions ago.
    Watch(Scope, u64),
    /// So many events of a watcher.
    Read(usize, usize),
    Compact(u64),
    Reopen,
}

fn key() -> impl Strategy<Value = Key> {
    (0..RESOURCES.len(), 0..NAMESPACES.len(), 0..NAMES.len()).prop_map(|(resource, namespace, name)| Key {
        resource: RESOURCES[resource].into(),
        namespace: NAMESPACES[namespace].into(),
        name: NAMES[name].into(),
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    (key(), any::<bool>())
        .prop_map(|(key, all)| Scope { resource: key.resource, namespace: (!all).then_some(key.namespace) })
}

fn op() -> impl Strategy<Value = Op> {
    let value = prop_oneof![3 => (0usize..300).prop_map(Some), 1 => Just(None)];
    let writes = prop::collection::vec((key(), 0u8..8, value), 0..4);
    prop_oneof![
        20 => writes.prop_map(Op::Commit),
        4 => (scope(), prop::option::of(1usize..5), 0u64..20, prop::option::of(key()))
            .prop_map(|(scope, limit, ago, after)| Op::List(scope, limit, ago, after)),
        3 => (scope(), 0u64..30).prop_map(|(scope, ago)| Op::Watch(scope, ago)),
        6 => (any::<usize>(), 0usize..20).prop_map(|(which, count)| Op::Read(which, count)),
        1 => (0u64..20).prop_map(Op::Compact),
        1 => Just(Op::Reopen),
    ]
}

type State = BTreeMap<String, (Key, u64, String)>;

/// An event as it should be told.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    kind: Kind,
    key: Key,
    revision: u64,
    json: String,
    previous: Option<String>,
}

#[derive(Default)]
struct Model {
    /// The state at each revision, from 0.
    states: Vec<State>,
    events: Vec<Told>,
    compacted: u64,
}

/// A watcher, and which events of the model it should tell next.
struct Watcher {
    watch: Watch,
    next: usize,
}

fn path(key: &Key) -> String {
    format!("{}/{}/{}", key.resource, key.namespace, key.name)
}

fn json(revision: u64, size: usize) -> String {
    format!(r#"{{"metadata":{{"resourceVersion":"{revision}"}},"pad":"{:size$}"}}"#, "")
}

fn document(size: usize) -> Document {
    let json = json(0, size).replace(r#""0""#, r#""""#);
    Document { revision_at: json.find(r#""""#).unwrap() + 1, json: json.into() }
}

fn told(event: &Event) -> Told {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(event.created(), event.previous.is_none());
    Told {
        kind: event.kind,
        key: event.key.clone(),
        revision: event.revision,
        json: text(&event.json),
        previous: event.previous.as_deref().map(text),
    }
}

impl Model {
    fn revision(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    fn expect(&self, key: &Key, how: u8) -> Expect {
        let found = self.states.last().unwrap().get(&path(key));
        match (how, found) {
            (0..4, _) => Expect::Any,
            (4, _) => Expect::Absent,
            (5..7, Some((_, revision, _))) => Expect::Revision(*revision),
            _ => Expect::Revision(self.revision() / 2),
        }
    }

    /// Does the writes, and returns the revision or which of them fails; `None` if one object is written twice.
    fn commit(&mut self, writes: &[(Key, Expect, Option<usize>)]) -> Option<Result<u64, usize>> {
        for (index, (key, _, _)) in writes.iter().enumerate() {
            if writes[..index].iter().any(|(other, _, _)| other == key) {
                return None;
            }
        }
        let mut state = self.states.last().unwrap().clone();
        for (index, (key, expect, _)) in writes.iter().enumerate() {
            let found = state.get(&path(key)).map(|(_, revision, _)| *revision);
            let holds = match expect {
                Expect::Any => true,
                Expect::Absent => found.is_none(),
                Expect::Revision(revision) | Expect::Still(revision) => found == Some(*revision),
            };
            if !holds {
                return Some(Err(index));
            }
        }
        let (revision, before) = (self.revision() + 1, self.events.len());
        for (key, expect, value) in writes {
            if matches!(expect, Expect::Still(_)) {
                continue;
            }
            let previous = match value {
                Some(size) => state.insert(path(key), (key.clone(), revision, json(revision, *size))),
                None => state.remove(&path(key)),
            };
            let Some(json) = value.map(|size| json(revision, size)).or_else(|| {
                let (_, old, json) = previous.as_ref()?;
                Some(json.replacen(&format!(r#""{old}""#), &format!(r#""{revision}""#), 1))
            }) else {
                continue;
            };
            let kind = if value.is_some() { Kind::Put } else { Kind::Delete };
            let previous = previous.map(|(_, _, json)| json);
            self.events.push(Told { kind, key: key.clone(), revision, json, previous });
        }
        if self.events.len() > before {
            self.states.push(state);
        }
        Some(Ok(self.revision()))
    }

    fn list(&self, scope: &Scope, after: Option<&Key>, at: u64) -> Vec<(Key, u64, String)> {
        let start = after.map_or(Bound::Unbounded, |key| Bound::Excluded(path(key)));
        let state = &self.states[usize::try_from(at).unwrap()];
        let range = state.range((start, Bound::Unbounded)).map(|(_, item)| item.clone());
        range.filter(|(key, _, _)| scope.holds(key)).collect()
    }
}

struct Run {
    runtime: tokio::runtime::Runtime,
    place: tempfile::TempDir,
    options: Options,
    /// History is never too much: what was not compacted must be there.
    roomy: bool,
    store: Option<Store>,
    model: Model,
    watchers: Vec<Watcher>,
}

impl Run {
    fn new(recent: usize, recent_for: Duration, roomy: bool) -> Run {
        let history_bytes = if roomy { u64::MAX } else { 6000 };
        let history = Duration::from_secs(3600);
        let options = Options { recent, recent_for, history_bytes, history, ..Options::default() };
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path(), options.clone()).unwrap();
        let model = Model { states: vec![State::new()], ..Model::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Run { runtime, place, options, roomy, store: Some(store), model, watchers: Vec::new() }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Whether a revision may be called too old.
    fn check_compacted(&self, asked: u64, error: &Error) {
        let Error::Compacted { asked: told, oldest } = error else { panic!("{error}") };
        assert!(*told >= asked && told < oldest && *oldest <= self.model.revision(), "{error}");
        if self.roomy {
            assert_eq!(*oldest, self.model.compacted, "{error}");
        }
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Commit(writes) => self.commit(writes),
            Op::List(scope, limit, ago, after) => self.list(&scope, limit, ago, after),
            Op::Watch(scope, ago) => self.watch(scope, ago),
            Op::Read(which, count) => self.read(which, count),
            Op::Compact(ago) => {
                let revision = self.model.revision().saturating_sub(ago);
                self.runtime.block_on(self.store().compact(revision)).unwrap();
                self.model.compacted = self.model.compacted.max(revision);
            }
            Op::Reopen => {
                self.store = None;
                for watcher in std::mem::take(&mut self.watchers) {
                    self.drain(watcher);
                }
                self.store = Some(Store::open(self.place.path(), self.options.clone()).unwrap());
                assert_eq!(self.store().revision(), self.model.revision());
            }
        }
    }

    fn commit(&mut self, writes: Vec<(Key, u8, Option<usize>)>) {
        let writes: Vec<_> = writes
            .into_iter()
            .map(|(key, how, value)| (key.clone(), self.model.expect(&key, how), value))
            .collect();
        let wanted = self.model.commit(&writes);
        let writes =
            writes.into_iter().map(|(key, expect, value)| Write { key, expect, value: value.map(document) });
        let done = self.runtime.block_on(self.store().commit(writes.collect()));
        match (wanted, done) {
            (None, Err(Error::Repeated { .. })) => {}
            (Some(Ok(wanted)), Ok(done)) => assert_eq!(done, wanted),
            (Some(Err(wanted)), Err(Error::Unexpected { index, key, found })) => {
                let there = self.model.states.last().unwrap().get(&path(&key)).cloned();
                let found =
                    found.map(|it| (it.key, it.revision, String::from_utf8(it.json.to_vec()).unwrap()));
                assert_eq!((index, found), (wanted, there));
            }
            (wanted, done) => panic!("{wanted:?} {done:?}"),
        }
        assert_eq!(self.store().revision(), self.model.revision());
    }

    fn list(&mut self, scope: &Scope, limit: Option<usize>, ago: u64, mut after: Option<Key>) {
        let at = self.model.revision().saturating_sub(ago);
        let mut wanted = self.model.list(scope, after.as_ref(), at);
        loop {
            let asked = (ago > 0).then_some(at);
            let page = match self.store().list(scope, after.as_ref(), limit, asked) {
                Ok(page) => page,
                Err(e) => return self.check_compacted(at, &e),
            };
            let cut = limit.filter(|limit| wanted.len() > *limit);
            let rest = cut.map(|limit| wanted.split_off(limit));
            let text = |bytes: bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
            let items: Vec<_> =
                page.items.into_iter().map(|it| (it.key, it.revision, text(it.json))).collect();
            assert_eq!((page.revision, page.more), (at, rest.as_ref().map(Vec::len)));
            assert_eq!(items, wanted);
            let Some(rest) = rest else { return };
            (after, wanted) = (items.into_iter().last().map(|(key, _, _)| key), rest);
        }
    }

    fn watch(&mut self, scope: Scope, ago: u64) {
        let from = self.model.revision().saturating_sub(ago);
        match self.store().watch(scope, from) {
            Ok(watch) => {
                let next = self.model.events.partition_point(|event| event.revision <= from);
                self.watchers.push(Watcher { watch, next });
            }
            Err(e) => self.check_compacted(from, &e),
        }
    }

    fn read(&mut self, which: usize, count: usize) {
        if self.watchers.is_empty() {
            return;
        }
        let which = which % self.watchers.len();
        for _ in 0..count {
            let mut watcher = self.watchers.swap_remove(which);
            let seen = watcher.watch.revision();
            let mut wanted = self.model.events.iter().enumerate().skip(watcher.next);
            let wanted = wanted.find(|(_, event)| watcher.watch.scope().holds(&event.key));
            assert!(
                wanted.is_none_or(|(_, event)| event.revision > seen),
                "a bookmark would skip {wanted:?}"
            );
            let from = watcher.next.checked_sub(1).map_or(0, |told| self.model.events[told].revision);
            match (watcher.watch.ready(), wanted) {
                (Ok(Some(event)), Some((place, wanted))) => {
                    assert_eq!(told(&event), *wanted);
                    watcher.next = place + 1;
                }
                (Ok(None), None) => {
                    assert_eq!(watcher.watch.revision(), self.model.revision());
                    self.watchers.push(watcher);
                    return;
                }
                // Also where nothing of the scope was missed: what is gone cannot be looked at.
                (Err(e), _) => return self.check_compacted(from.saturating_sub(1), &e),
                (got, wanted) => panic!("{got:?} {wanted:?}"),
            }
            self.watchers.push(watcher);
            let last = self.watchers.len() - 1;
            self.watchers.swap(which, last);
        }
    }

    /// Of a store that is closed, what is in memory may still be told; then it says that it is closed.
    fn drain(&self, mut watcher: Watcher) {
        loop {
            match self.runtime.block_on(watcher.watch.next()) {
                Ok(event) => {
                    let mut wanted = self.model.events.iter().enumerate().skip(watcher.next);
                    let (place, wanted) =
                        wanted.find(|(_, event)| watcher.watch.scope().holds(&event.key)).unwrap();
                    assert_eq!(told(&event), *wanted);
                    watcher.next = place + 1;
                }
                Err(Error::Closed) => return,
                Err(e) => panic!("{e}"),
            }
        }
    }
}

/// Fewer by default: each commit is on the disk before the next.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(
        recent in prop_oneof![Just(0usize), Just(3000), Just(1 << 20)],
        recent_for in prop_oneof![Just(0u64), Just(1), Just(10_000)].prop_map(Duration::from_millis),
        roomy in any::<bool>(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut run = Run::new(recent, recent_for, roomy);
        for op in ops {
            run.act(op);
        }
        for which in (0..run.watchers.len()).rev() {
            run.read(which, usize::MAX);
        }
    }
}
