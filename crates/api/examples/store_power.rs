//! What a guest does whose power is cut (`cargo xtask test --ring power --only store`).
//!
//! `store_power write FOLDER DISK` writes to the store in FOLDER, and marks on DISK, behind its filesystem, what was
//! acknowledged. `store_power look FOLDER` says what is whole there, and what is not as it was promised.

#[path = "power/marks.rs"]
mod marks;

use std::collections::BTreeMap;
use std::path::Path;

use api::store::{Document, Expect, Key, Kind, Options, Scope, Store, Write};

use marks::{Marks, Result};

const TASKS: u64 = 4;
const EACH: u64 = 100;

fn key(name: String) -> Key {
    Key { resource: "pods".into(), namespace: "a".into(), name }
}

fn put(name: String, expect: Expect, number: u64) -> Write {
    let size = usize::try_from(number * 97 % 5000).unwrap_or_default();
    let json = format!(r#"{{"metadata":{{"resourceVersion":""}},"number":{number},"pad":"{:size$}"}}"#, "");
    let revision_at = json.find(r#""""#).map_or(0, |at| at + 1);
    Write { key: key(name), expect, value: Some(Document { json: json.into(), revision_at }) }
}

fn options() -> Options {
    // Little, so that pages go to the disk before a commit and history is forgotten.
    Options { cache: 256 << 10, history_bytes: 200_000, ..Options::default() }
}

/// Each transaction makes an object and raises its task's count.
async fn write(folder: &Path, disk: &Path) -> Result<()> {
    let marks = std::sync::Arc::new(Marks::open(disk)?);
    let store = Store::open(folder, options())?;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, marks) = (store.clone(), marks.clone());
        tasks.spawn(async move {
            for number in 1..=EACH {
                let name = format!("n{task}-{number}");
                let made = put(name.clone(), Expect::Absent, number);
                store.commit(vec![made, put(format!("count{task}"), Expect::Any, number)]).await?;
                marks.mark(&format!("ack {name}"))?;
            }
            Result::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

fn number(json: &[u8]) -> Result<u64> {
    let value: serde_json::Value = serde_json::from_slice(json)?;
    value["number"].as_u64().ok_or_else(|| "no number".into())
}

type State = BTreeMap<String, bytes::Bytes>;

fn list(store: &Store, at: Option<u64>) -> Result<State> {
    let page = store.list(&Scope::all("pods"), None, None, at)?;
    Ok(page.items.into_iter().map(|item| (item.key.name, item.json)).collect())
}

/// What the oldest state becomes by the changes that a watcher is told.
fn replayed(store: &Store) -> Result<State> {
    let from = (0..=store.revision()).find(|from| store.watch(Scope::all("pods"), *from).is_ok());
    let from = from.ok_or("no revision can be watched")?;
    let (mut state, mut watch) = (list(store, Some(from))?, store.watch(Scope::all("pods"), from)?);
    while let Some(event) = watch.ready()? {
        let before = match event.kind {
            Kind::Put => state.insert(event.key.name.clone(), event.json.clone()),
            Kind::Delete => state.remove(&event.key.name),
        };
        if before != event.previous {
            return Err(
                format!("a change of {} was skipped before {}", event.key.name, event.revision).into()
            );
        }
    }
    Ok(state)
}

fn look(folder: &Path) -> Result<()> {
    let store = Store::open(folder, options())?;
    let found = list(&store, None)?;
    let mut counts = BTreeMap::<&str, u64>::new();
    for (name, json) in found.iter().filter(|(name, _)| name.starts_with('n')) {
        let task = name.trim_start_matches('n').split('-').next().unwrap_or_default();
        let count = counts.entry(task).or_default();
        *count = (*count).max(number(json)?);
        println!("whole {name}");
    }
    for (task, made) in counts {
        let count = found.get(&format!("count{task}")).map_or(Ok(0), |json| number(json))?;
        if count != made {
            println!("damaged count{task}: {count}, and {made} are there");
        }
    }
    if store.revision() != found.keys().filter(|name| name.starts_with('n')).count() as u64 {
        println!("damaged: at revision {} there are {} objects", store.revision(), found.len());
    }
    match replayed(&store) {
        Ok(state) if state == found => {}
        Ok(_) => println!("damaged: a watcher is told something else"),
        Err(e) => println!("damaged: {e}"),
    }
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", folder, disk] => {
            let runtime = tokio::runtime::Builder::new_current_thread().build()?;
            runtime.block_on(write(Path::new(folder), Path::new(disk)))
        }
        ["look", folder] => look(Path::new(folder)),
        _ => Err("usage: store_power write FOLDER DISK | store_power look FOLDER".into()),
    }
}
