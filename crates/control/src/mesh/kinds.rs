//! The objects of the mesh's own kinds, in the newest version that both the server and the compiler have.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use smi::compile::Change;
use smi::contract::{Id, Kind, Name};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep;

type Changes = mpsc::UnboundedSender<Change>;

/// How often it is asked which kinds there are.
const LOOK: Duration = Duration::from_secs(10);
/// A kind that so many looks in a row have not found is served no more. A server that begins may not know all its groups at once, and without its policies a
/// pod is open to everybody.
const MISSING: u32 = 3;
/// After the server has not told.
const AGAIN: Duration = Duration::from_secs(1);

/// What is known of a kind that is followed.
#[derive(Debug, Default)]
struct State {
    /// Objects that were told of, and are not gone.
    there: Mutex<BTreeSet<Name>>,
    /// What was last tried has failed.
    is_failing: AtomicBool,
}

impl State {
    fn there(&self) -> MutexGuard<'_, BTreeSet<Name>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kind that is followed.
struct Followed {
    version: &'static str,
    /// How many looks in a row have not found it.
    missing: u32,
    state: Arc<State>,
    /// The one task, which ends with this.
    watch: JoinSet<()>,
}

impl Followed {
    /// Whether there is no reason to look whether it is served still.
    fn is_sound(&self, kind: Kind, groups: &[APIGroup]) -> bool {
        let is_there = |group: &APIGroup| {
            group.name == kind.group() && group.versions.iter().any(|theirs| theirs.version == self.version)
        };
        !self.state.is_failing.load(Ordering::Relaxed) && groups.iter().any(is_there)
    }
}

/// All kinds that are followed.
#[derive(Default)]
struct All(BTreeMap<Kind, Followed>);

impl All {
    /// Follows what the server has now, in the version that it has now, and nothing else. What is to be waited for until the new ones are listed.
    async fn look(&mut self, client: &Client, changes: &Changes) -> kube::Result<Vec<oneshot::Receiver<()>>> {
        let groups = client.list_api_groups().await?.groups;
        let sound = self.0.iter().filter(|(kind, followed)| followed.is_sound(**kind, &groups));
        let sound: BTreeSet<Kind> = sound.map(|(kind, _)| *kind).collect();
        let found: BTreeMap<Kind, &'static str> =
            served_of(client, &groups, &sound).await?.into_iter().collect();
        for (kind, followed) in &mut self.0 {
            let is_missing = !sound.contains(kind) && !found.contains_key(kind);
            followed.missing = if is_missing { followed.missing + 1 } else { 0 };
        }
        let is_other = |(kind, followed): &(&Kind, &Followed)| match found.get(*kind) {
            Some(version) => *version != followed.version,
            None => followed.missing >= MISSING,
        };
        let others: Vec<Kind> = self.0.iter().filter(is_other).map(|(kind, _)| *kind).collect();
        let mut states = BTreeMap::new();
        for kind in others {
            let Some(mut followed) = self.0.remove(&kind) else { continue };
            // Nothing is told of it behind this.
            followed.watch.shutdown().await;
            if found.contains_key(&kind) {
                states.insert(kind, followed.state);
                continue;
            }
            let (group, version) = (kind.group(), followed.version);
            eprintln!("sextant: {kind} of {group}/{version} is served no more: its objects count as gone");
            for name in std::mem::take(&mut *followed.state.there()) {
                // Who compiles is gone at the end, and this with it.
                let _gone = changes.send(Change::Object(Id { kind, name }, None));
            }
        }
        let mut listed = Vec::new();
        for (kind, version) in found {
            if self.0.contains_key(&kind) {
                continue;
            }
            // Of another version it is known what to take back once that one is listed.
            let state: Arc<State> = states.remove(&kind).unwrap_or_default();
            state.is_failing.store(false, Ordering::Relaxed);
            let (tell, is_listed) = oneshot::channel();
            listed.push(is_listed);
            let mut watch = JoinSet::new();
            watch.spawn(self::watch(client.clone(), (kind, version), (changes.clone(), state.clone()), tell));
            self.0.insert(kind, Followed { version, missing: 0, state, watch });
        }
        Ok(listed)
    }
}

/// Follows all kinds that the server has, and gets, for as long as it is polled; one that it has no more is as if its objects were gone. `known` is
/// told once the objects are known of all kinds that it had at the start.
pub(super) async fn follow(client: &Client, changes: &Changes, known: oneshot::Sender<()>) {
    let mut known = Some(known);
    let mut all = All::default();
    let mut told = false;
    loop {
        match all.look(client, changes).await {
            Ok(listed) => {
                told = false;
                if let Some(known) = known.take() {
                    for one in listed {
                        // A watch ends with this alone.
                        let _ended = one.await;
                    }
                    let _gone = known.send(());
                }
                sleep(LOOK).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    let cause = client::causes(&error);
                    eprintln!(
                        "sextant: warning: cannot list the server's API groups, and tries again: {cause}"
                    );
                }
                sleep(AGAIN).await;
            }
        }
    }
}

/// The kinds that the server has, but those that are known, each with its newest version that is read.
pub(super) async fn served(
    client: &Client,
    known: &BTreeSet<Kind>,
) -> kube::Result<Vec<(Kind, &'static str)>> {
    served_of(client, &client.list_api_groups().await?.groups, known).await
}

/// The same, of what these groups have.
async fn served_of(
    client: &Client,
    groups: &[APIGroup],
    known: &BTreeSet<Kind>,
) -> kube::Result<Vec<(Kind, &'static str)>> {
    let mut resources: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut found = Vec::new();
    for kind in Kind::all().filter(|kind| !known.contains(kind)) {
        let Some(group) = groups.iter().find(|group| group.name == kind.group()) else { continue };
        let has = |version: &&&str| group.versions.iter().any(|theirs| theirs.version == **version);
        for version in kind.versions().iter().filter(has) {
            let of = format!("{}/{version}", kind.group());
            if !resources.contains_key(&of) {
                let list = client.list_api_group_resources(&of).await?.resources;
                resources.insert(of.clone(), list.into_iter().map(|resource| resource.name).collect());
            }
            if resources.get(&of).is_some_and(|names| names.iter().any(|name| name == kind.plural())) {
                found.push((kind, *version));
                break;
            }
        }
    }
    Ok(found)
}

/// Tells of all objects of a kind, and of their changes. `listed` is told once all that there were have been told.
async fn watch(
    client: Client,
    (kind, version): (Kind, &'static str),
    (changes, state): (Changes, Arc<State>),
    listed: oneshot::Sender<()>,
) {
    let resource = ApiResource {
        group: kind.group().into(),
        version: version.into(),
        api_version: format!("{}/{version}", kind.group()),
        kind: kind.as_str().into(),
        plural: kind.plural().into(),
    };
    let objects: Api<DynamicObject> = Api::all_with(client, &resource);
    let mut events = pin!(watcher::watcher(objects, watcher::Config::default()).default_backoff());
    let mut listing = BTreeSet::new();
    let (mut listed, mut told) = (Some(listed), false);
    // Who compiles is gone at the end, and this with it.
    let tell = |change| {
        let _gone = changes.send(change);
    };
    let gone = |name: &Name| Change::Object(Id { kind, name: name.clone() }, None);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // That it begins with a list says nothing yet: each try to list does.
                told &= matches!(event, Event::Init | Event::InitApply(_));
                state.is_failing.store(told, Ordering::Relaxed);
                let mut there = state.there();
                match event {
                    Event::Init => listing.clear(),
                    Event::InitApply(object) => {
                        listing.insert(name(&object));
                        there.insert(name(&object));
                        tell(read(kind, version, &object));
                    }
                    Event::InitDone => {
                        there.difference(&listing).for_each(|name| tell(gone(name)));
                        *there = std::mem::take(&mut listing);
                        listed.take().map(|listed| listed.send(()));
                    }
                    Event::Apply(object) => {
                        there.insert(name(&object));
                        tell(read(kind, version, &object));
                    }
                    Event::Delete(object) => {
                        there.remove(&name(&object));
                        tell(gone(&name(&object)));
                    }
                }
            }
            // The watcher begins anew by itself, later each time.
            Err(error) => {
                state.is_failing.store(true, Ordering::Relaxed);
                if !std::mem::replace(&mut told, true) {
                    let (of, cause) = (kind.group(), client::causes(&error));
                    eprintln!("sextant: warning: cannot watch {kind} of {of}, and tries again: {cause}");
                }
            }
        }
    }
}

fn name(object: &DynamicObject) -> Name {
    Name::new(object.namespace().unwrap_or_default(), object.name_any())
}

/// An object as it is. What cannot be read at all is as if it were not there.
pub(super) fn read(kind: Kind, version: &str, object: &DynamicObject) -> Change {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    // Lists do not say of each object what it is.
    if let Value::Object(fields) = &mut value {
        fields.insert("apiVersion".into(), format!("{}/{version}", kind.group()).into());
        fields.insert("kind".into(), kind.as_str().into());
    }
    Change::Object(Id { kind, name: name(object) }, smi::contract::read(&value).ok())
}
