//! The objects of the mesh's own kinds, in the newest version that both the server and the compiler have.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
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
/// After the server has not told.
const AGAIN: Duration = Duration::from_secs(1);

/// Follows all kinds that the server has, and gets, for as long as it is polled. `known` is told once the objects are known of all kinds that it
/// had at the start.
pub(super) async fn follow(client: &Client, changes: &Changes, known: oneshot::Sender<()>) {
    let mut known = Some(known);
    let mut followed = BTreeSet::new();
    // They end with this.
    let mut watches = JoinSet::new();
    let mut told = false;
    loop {
        match served(client, &followed).await {
            Ok(found) => {
                told = false;
                let mut listed = Vec::new();
                for (kind, version) in found {
                    followed.insert(kind);
                    let (tell, is_listed) = oneshot::channel();
                    listed.push(is_listed);
                    watches.spawn(watch(client.clone(), (kind, version), changes.clone(), tell));
                }
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
    let groups = client.list_api_groups().await?.groups;
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
    changes: Changes,
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
    let (mut there, mut listing) = (BTreeSet::new(), BTreeSet::new());
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
                match event {
                    Event::Init => listing.clear(),
                    Event::InitApply(object) => {
                        listing.insert(name(&object));
                        tell(read(kind, version, &object));
                    }
                    Event::InitDone => {
                        there.difference(&listing).for_each(|name| tell(gone(name)));
                        there = std::mem::take(&mut listing);
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
            Err(error) if !std::mem::replace(&mut told, true) => {
                let (of, cause) = (kind.group(), client::causes(&error));
                eprintln!("sextant: warning: cannot watch {kind} of {of}, and tries again: {cause}");
            }
            Err(_) => {}
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
