//! The whole server killed at random moments under load: what it acknowledged stays, versions only grow, and watchers go
//! on where they were.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::Random;
use tokio::task::JoinSet;

use crate::client::{Client, Connection, Gone};
use crate::server::Server;
use crate::watcher::{Change, Seen, Watcher, number, version};

/// No lease comes by itself.
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const TASKS: u64 = 6;
/// Objects of each task.
const NAMES: u64 = 4;
/// Numbers whose objects have the label by which one watcher selects.
const HALF: u64 = 2;
const JSON: &str = "application/json";

/// What a task has done to its objects, as far as it knows.
#[derive(Default)]
struct Known {
    /// What was acknowledged and not looked for yet.
    acknowledged: Vec<Change>,
    /// What was asked for and not answered: it may have been done or not.
    open: Vec<(String, Option<u64>)>,
    /// What is there, by the answers.
    there: BTreeMap<String, Seen>,
}

/// All that is known from the outside.
struct World {
    known: Vec<Arc<Mutex<Known>>>,
    numbers: Arc<AtomicU64>,
    watchers: Vec<Watcher>,
    acknowledged: u64,
    /// Changes of which no answer came and that were done all the same.
    silent: u64,
}

fn object(name: &str, number: u64) -> Value {
    let label = if number.is_multiple_of(HALF) { "yes" } else { "no" };
    // Of all sizes, so that pages of the store are split and joined.
    let pad = "x".repeat(usize::try_from(number * 131 % 5000).unwrap());
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "labels": {"half": label}, "annotations": {"pad": pad}},
        "spec": {"leaseTransitions": number},
    })
}

/// One change of an object: made, replaced, patched (in three ways) or deleted, in turn.
async fn change(
    connection: &mut Connection,
    name: &str,
    number: u64,
    before: Option<Seen>,
) -> Result<(u16, Value), Gone> {
    let path = format!("{LEASES}/{name}");
    let patch = |kind: &str| format!("application/{kind}");
    let mut body = object(name, number);
    let (code, body) = match (before, number % 6) {
        (None, _) => connection.call(Method::POST, LEASES, JSON, body.to_string()).await?,
        (Some((revision, _)), 0) => {
            body["metadata"]["resourceVersion"] = revision.to_string().into();
            connection.call(Method::PUT, &path, JSON, body.to_string()).await?
        }
        (_, 1) => connection.call(Method::PATCH, &path, &patch("merge-patch+json"), body.to_string()).await?,
        (_, 2) => {
            let media = patch("strategic-merge-patch+json");
            connection.call(Method::PATCH, &path, &media, body.to_string()).await?
        }
        (_, 3) => {
            let path = format!("{path}?fieldManager=kills&force=true");
            connection.call(Method::PATCH, &path, &patch("apply-patch+yaml"), body.to_string()).await?
        }
        _ => connection.call(Method::DELETE, &path, JSON, "").await?,
    };
    Ok((code, serde_json::from_slice(&body)?))
}

fn deletes(number: u64, exists: bool) -> bool {
    exists && number % 6 > 3
}

/// Changes its objects until the server is gone.
async fn write(client: Client, task: u64, known: Arc<Mutex<Known>>, numbers: Arc<AtomicU64>) {
    let Ok(mut connection) = client.connect().await else { return };
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{task}-{}", (number / 7) % NAMES);
        let before = {
            let mut known = known.lock().unwrap();
            let before = known.there.get(&name).copied();
            known.open.push((name.clone(), (!deletes(number, before.is_some())).then_some(number)));
            before
        };
        let answer = change(&mut connection, &name, number, before).await;
        let Ok((code, body)) = answer else { return };
        assert!(matches!(code, 200 | 201), "{name} {number}: {code} {body}");
        let mut known = known.lock().unwrap();
        known.open.clear();
        if deletes(number, before.is_some()) {
            known.there.remove(&name);
            // The answer is a Status, which has no version.
            continue;
        }
        let revision = version(&body);
        known.there.insert(name.clone(), (revision, number));
        known.acknowledged.push(Change { revision, name, number: Some(number) });
    }
}

impl World {
    async fn new(client: &Client) -> World {
        let (code, list) = client.connect().await.unwrap().get(LEASES).await.unwrap();
        assert_eq!(code, 200, "{list}");
        assert_eq!(list["items"].as_array().unwrap().len(), 0, "{list}");
        let at = version(&list);
        World {
            known: (0..TASKS).map(|_| Arc::default()).collect(),
            numbers: Arc::default(),
            watchers: vec![
                Watcher::new(LEASES, "", at),
                Watcher::new(
                    "/apis/coordination.k8s.io/v1/leases",
                    "fieldSelector=metadata.namespace%3Ddefault",
                    at,
                ),
                Watcher::new(LEASES, "labelSelector=half%3Dyes", at),
            ],
            acknowledged: 0,
            silent: 0,
        }
    }

    /// Load for a while, with watchers that watch.
    async fn load(&mut self, client: &Client, server: &mut Server, moment: Duration) {
        let mut writers = JoinSet::new();
        for (task, known) in (0..).zip(&self.known) {
            writers.spawn(write(client.clone(), task, Arc::clone(known), Arc::clone(&self.numbers)));
        }
        let mut followers = JoinSet::new();
        for mut watcher in self.watchers.drain(..) {
            let client = client.clone();
            followers.spawn(async move {
                watcher.follow(&client, u64::MAX).await;
                watcher
            });
        }
        tokio::time::sleep(moment).await;
        server.kill();
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
        while let Some(watcher) = followers.join_next().await {
            self.watchers.push(watcher.unwrap());
        }
    }

    /// What is there after a kill, and what watchers are told of it.
    async fn judge(&mut self, client: &Client) {
        let mut connection = client.connect().await.unwrap();
        // Its version is behind all that happened before.
        let marker = self.numbers.fetch_add(HALF, Ordering::Relaxed).next_multiple_of(HALF);
        let path = format!("{LEASES}/marker?fieldManager=kills&force=true");
        let body = object("marker", marker).to_string();
        let (code, body) =
            connection.call(Method::PATCH, &path, "application/apply-patch+yaml", body).await.unwrap();
        assert!(matches!(code, 200 | 201), "{code} {body:?}");
        let until = version(&serde_json::from_slice(&body).unwrap());
        for watcher in &mut self.watchers {
            assert!(watcher.at < until, "at {until} now, a watcher was told of {}", watcher.at);
            watcher.follow(client, until).await;
            assert_eq!(watcher.at, until);
        }
        let list = connection.get(LEASES).await.unwrap().1;
        let items = list["items"].as_array().unwrap();
        let all: BTreeMap<_, _> =
            items.iter().map(|item| (name(item), (version(item), number(item)))).collect();
        let half = all.iter().filter(|(_, (_, number))| number.is_multiple_of(HALF));
        let half: BTreeMap<_, _> = half.map(|(name, seen)| (name.clone(), *seen)).collect();
        for watcher in &self.watchers {
            let wanted = if watcher.is_selective() { &half } else { &all };
            assert!(watcher.mirror == *wanted, "{:?} was told, and there is {wanted:?}", watcher.mirror);
        }
        let everything: Vec<&Watcher> =
            self.watchers.iter().filter(|watcher| !watcher.is_selective()).collect();
        assert!(
            everything.windows(2).all(|two| two[0].told == two[1].told),
            "two watchers were told different things"
        );
        let told = everything[0].told.clone();
        self.compare(&told);
        self.watchers.iter_mut().for_each(|watcher| watcher.told.clear());
    }

    /// What was acknowledged is among what was told, and nothing was told that nobody asked for.
    fn compare(&mut self, told: &[Change]) {
        let mirror = &self.watchers.iter().find(|watcher| !watcher.is_selective()).unwrap().mirror;
        for known in &self.known {
            let mut known = known.lock().unwrap();
            for change in known.acknowledged.drain(..) {
                assert!(
                    told.contains(&change),
                    "{change:?} was acknowledged and is not among what watchers were told"
                );
                self.acknowledged += 1;
            }
            let open = std::mem::take(&mut known.open);
            for (name, number) in open {
                let there = mirror.get(&name).copied();
                let now = there.map(|(_, number)| number);
                let before = known.there.get(&name).map(|(_, number)| *number);
                assert!(
                    now == number || now == before,
                    "{name} is {now:?}, was {before:?}, and {number:?} was asked for"
                );
                self.silent += u64::from(now == number && now != before);
                match there {
                    Some(there) => known.there.insert(name, there),
                    None => known.there.remove(&name),
                };
            }
            for (name, seen) in &known.there {
                assert_eq!(mirror.get(name), Some(seen), "{name} was acknowledged");
            }
        }
        let known: usize = self.known.iter().map(|known| known.lock().unwrap().there.len()).sum();
        assert_eq!(known + 1, mirror.len(), "beside the marker there is what nobody has made: {mirror:?}");
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

async fn killed(folder: &Path, kills: u64, random: &mut Random) {
    let mut server = Server::spawn(folder);
    let client = server.client(folder);
    let mut world = World::new(&client).await;
    world.load(&client, &mut server, random.duration(Duration::from_millis(400))).await;
    for kill in 1..kills {
        let mut server = Server::spawn(folder);
        if kill.is_multiple_of(5) {
            // While it opens its store, or makes what every cluster has.
            tokio::time::sleep(random.duration(Duration::from_millis(150))).await;
            server.kill();
            continue;
        }
        let client = server.client(folder);
        world.judge(&client).await;
        world.load(&client, &mut server, random.duration(Duration::from_millis(300))).await;
    }
    let mut server = Server::spawn(folder);
    world.judge(&server.client(folder)).await;
    let events: u64 = world.watchers.iter().map(|watcher| watcher.events).sum();
    println!(
        "{kills} kills, {} changes acknowledged, {} done that were not, {events} events, at version {}",
        world.acknowledged, world.silent, world.watchers[0].at
    );
    assert!(world.acknowledged > kills, "too little was acknowledged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_keeps_what_it_acknowledged() {
    let kills = std::env::var("SEXTANT_API_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let (mut random, seed) = Random::fresh();
    println!("seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), kills, &mut random).await;
}
