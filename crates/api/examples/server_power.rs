//! What a guest does whose power is cut, with a whole API server (`cargo xtask test --ring power --only server`).
//!
//! `server_power write FOLDER DISK` serves FOLDER and changes objects over TLS: several clients at once make, replace, patch
//! and delete, two watch. It marks on DISK, behind its filesystem, `ack NAME NUMBER VERSION` of each change that was
//! acknowledged and `told WATCHER VERSION NAME NUMBER` of each that a watcher has seen. `server_power look FOLDER` serves what
//! is there and says `lease NAME NUMBER VERSION` of each object, `list VERSION` of all of them, `next VERSION` of one that is
//! made then, `change WATCHER VERSION NAME NUMBER` of all that watchers are told who begin at the beginning, and `damaged` of
//! what does not fit together. A number counts the changes of an object; of one that is deleted it is `gone`.

#[path = "power/client.rs"]
mod client;
#[path = "power/marks.rs"]
mod marks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::serve::{Instance, Options};
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use client::Client;
use marks::{Marks, Result};

const TASKS: u64 = 4;
/// Objects of each task.
const EACH: u64 = 16;
/// No lease comes here by itself.
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const JSON: &str = "application/json";
/// The names of watchers, and what they select.
const WATCHERS: [(&str, &str); 2] = [("all", ""), ("half", "labelSelector=half%3Dyes")];
/// From so many places watches are resumed.
const RESUMED: usize = 8;

async fn serve(folder: &Path) -> Result<Instance> {
    let listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let folder = folder.to_owned();
    let options = Options {
        folder,
        listen,
        listen_ahead: Vec::new(),
        names: Vec::new(),
        kubeconfig: None,
        audit: None,
        node: None,
    };
    Ok(Instance::start(options).await?)
}

/// One of every second name has the label.
fn lease(name: &str, order: u64, number: u64) -> Value {
    // Of all sizes, so that pages of the store are split and joined.
    let pad = "x".repeat(usize::try_from((order * 4 + number) * 131 % 5000).unwrap_or_default());
    let half = if order.is_multiple_of(2) { "yes" } else { "no" };
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "labels": {"half": half}, "annotations": {"pad": pad}},
        "spec": {"leaseTransitions": number},
    })
}

fn version(object: &Value) -> Result<u64> {
    Ok(object["metadata"]["resourceVersion"].as_str().ok_or("an object without a version")?.parse()?)
}

fn name(object: &Value) -> Result<&str> {
    Ok(object["metadata"]["name"].as_str().ok_or("an object without a name")?)
}

fn number(object: &Value) -> Result<u64> {
    Ok(object["spec"]["leaseTransitions"].as_u64().ok_or("an object without a number")?)
}

/// Somebody who changes objects, one after the other.
struct Writer {
    client: Client,
    marks: Arc<Marks>,
    task: u64,
}

impl Writer {
    /// Makes its objects, replaces and patches each, and deletes two of three a while later.
    async fn write(mut self) -> Result<()> {
        for order in 1..=EACH {
            self.change(order).await?;
            if let Some(earlier) = order.checked_sub(2).filter(|earlier| earlier % 3 > 0) {
                let name = format!("n{}-{earlier}", self.task);
                self.client.call(Method::DELETE, &format!("{LEASES}/{name}"), JSON, &Value::Null).await?;
                // The answer is a Status, which has no version.
                self.marks.mark(&format!("ack {name} gone 0"))?;
            }
        }
        Ok(())
    }

    async fn change(&mut self, order: u64) -> Result<()> {
        let name = format!("n{}-{order}", self.task);
        let path = format!("{LEASES}/{name}");
        let made = self.client.call(Method::POST, LEASES, JSON, &lease(&name, order, 1)).await?;
        self.acknowledged(&made)?;
        let mut next = lease(&name, order, 2);
        next["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
        let replaced = self.client.call(Method::PUT, &path, JSON, &next).await?;
        self.acknowledged(&replaced)?;
        let (media, path) = match order % 3 {
            0 => ("application/merge-patch+json", path),
            1 => ("application/strategic-merge-patch+json", path),
            _ => ("application/apply-patch+yaml", format!("{path}?fieldManager=power&force=true")),
        };
        let patched = self.client.call(Method::PATCH, &path, media, &lease(&name, order, 3)).await?;
        self.acknowledged(&patched)
    }

    fn acknowledged(&self, object: &Value) -> Result<()> {
        self.marks.mark(&format!("ack {} {} {}", name(object)?, number(object)?, version(object)?))
    }
}

/// A change as a watcher is told it.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    version: u64,
    name: String,
    /// `None` of a deletion.
    number: Option<u64>,
}

impl std::fmt::Display for Change {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = self.number.map_or_else(|| "gone".to_owned(), |number| number.to_string());
        write!(out, "{} {} {number}", self.version, self.name)
    }
}

/// Follows all changes after a version up to the object `last`, which ends it; each is given to `take`.
async fn follow(
    mut client: Client,
    selector: &str,
    from: u64,
    last: &str,
    mut take: impl FnMut(Change) -> Result<()>,
) -> Result<()> {
    let path = format!("{LEASES}?watch=1&resourceVersion={from}&{selector}");
    let mut events = client.watch(&path).await?;
    let mut at = from;
    loop {
        let event = events.next().await?;
        let object = &event["object"];
        let number = match event["type"].as_str() {
            Some("DELETED") => None,
            Some("ADDED" | "MODIFIED") => Some(number(object)?),
            _ => return Err(format!("a watcher is told {event}").into()),
        };
        let change = Change { version: version(object)?, name: name(object)?.to_owned(), number };
        if change.version <= at {
            return Err(format!("a watcher is told of {change} after {at}").into());
        }
        at = change.version;
        let is_last = change.name == last;
        take(change)?;
        if is_last {
            return Ok(());
        }
    }
}

async fn write(folder: &Path, disk: &Path) -> Result<()> {
    let marks = Arc::new(Marks::open(disk)?);
    let instance = serve(folder).await?;
    let (mut tasks, mut watchers) = (JoinSet::new(), JoinSet::new());
    let mut client = Client::connect(&instance).await?;
    let from = version(&client.get(LEASES).await?)?;
    for (watcher, selector) in WATCHERS {
        let (client, marks) = (Client::connect(&instance).await?, marks.clone());
        let told = move |change: Change| marks.mark(&format!("told {watcher} {change}"));
        watchers.spawn(follow(client, selector, from, "over", told));
    }
    for task in 0..TASKS {
        let writer = Writer { client: Client::connect(&instance).await?, marks: marks.clone(), task };
        tasks.spawn(writer.write());
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    client.call(Method::POST, LEASES, JSON, &lease("over", 0, 1)).await?;
    while let Some(done) = watchers.join_next().await {
        done??;
    }
    Ok(())
}

/// Says all that a watcher is told, and compares it with what one is told who resumes.
async fn replay(client: &Client, selector: &(&str, &str), last: &str) -> Result<Vec<Change>> {
    let (watcher, selector) = selector;
    let mut all = Vec::new();
    let told = |change: Change| {
        println!("change {watcher} {change}");
        all.push(change);
        Ok(())
    };
    follow(client.clone(), selector, 1, last, told).await?;
    for from in (0..all.len().saturating_sub(1)).step_by((all.len() / RESUMED).max(1)) {
        let Some((before, expected)) = all.split_at_checked(from + 1) else { continue };
        let Some(seen) = before.last() else { continue };
        let mut rest = Vec::new();
        let told = |change: Change| {
            rest.push(change);
            Ok(())
        };
        follow(client.clone(), selector, seen.version, last, told).await?;
        if rest != expected {
            println!("damaged: watcher {watcher} resumed after {seen} misses some of {}", expected.len());
        }
    }
    Ok(all)
}

/// What is there when all that was told of has happened.
fn outcome(changes: &[Change]) -> BTreeMap<&str, (u64, u64)> {
    let mut there = BTreeMap::new();
    for change in changes {
        match change.number {
            Some(number) => drop(there.insert(change.name.as_str(), (number, change.version))),
            None => drop(there.remove(change.name.as_str())),
        }
    }
    there
}

async fn look(folder: &Path) -> Result<()> {
    let instance = serve(folder).await?;
    let mut client = Client::connect(&instance).await?;
    let list = client.get(LEASES).await?;
    let last = "afterwards";
    let made = client.call(Method::POST, LEASES, JSON, &lease(last, 0, 1)).await?;
    let items = list["items"].as_array().ok_or("a list without items")?;
    let mut found = BTreeMap::new();
    for item in items.iter().chain([&made]) {
        found.insert(name(item)?, (number(item)?, version(item)?));
    }
    for item in items {
        println!("lease {} {} {}", name(item)?, number(item)?, version(item)?);
    }
    println!("list {}\nnext {}", version(&list)?, version(&made)?);
    for watcher in WATCHERS {
        let changes = replay(&client, &watcher, last).await?;
        let there = outcome(&changes);
        let is_whole = watcher.1.is_empty();
        if (is_whole && there != found) || there.iter().any(|(name, seen)| found.get(name) != Some(seen)) {
            println!("damaged: by what watcher {} is told there is {there:?}", watcher.0);
        }
    }
    instance.stop(Duration::from_secs(5)).await;
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", folder, disk] => runtime.block_on(write(Path::new(folder), Path::new(disk))),
        ["look", folder] => runtime.block_on(look(Path::new(folder))),
        _ => Err("usage: server_power write FOLDER DISK | server_power look FOLDER".into()),
    }
}
