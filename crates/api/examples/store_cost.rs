//! What the store costs: `store_cost [FOLDER]` (a new folder below the temporary one by default).
//!
//! Prints the latency of commits (p50 and p99) with one writer and with 32, how long one event takes to reach 100 watchers,
//! how long lists take, and memory: idle, and with 100,000 objects.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use api::store::{Document, Expect, Key, Options, Scope, Store, Write};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// About what a pod takes.
const SIZE: usize = 2000;

fn put(resource: &str, name: &str) -> Write {
    let json = format!(r#"{{"metadata":{{"resourceVersion":""}},"pad":"{:SIZE$}"}}"#, "");
    let revision_at = json.find(r#""""#).map_or(0, |at| at + 1);
    let key = Key { resource: resource.into(), namespace: "default".into(), name: name.into() };
    Write { key, expect: Expect::Any, value: Some(Document { json: json.into(), revision_at }) }
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{what:44} p50 {:9.3?}  p99 {:9.3?}", at(50), at(99));
}

/// Of this process: all that is in memory, and what of it is its own.
fn memory(what: &str) -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    println!("{what:44} resident {}, anonymous {}", line("VmRSS:"), line("RssAnon:"));
    Ok(())
}

async fn writers(store: &Store, count: usize, each: usize) -> Result<()> {
    let (begun, mut tasks) = (Instant::now(), tokio::task::JoinSet::new());
    for task in 0..count {
        let store = store.clone();
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(each);
            for number in 0..each {
                let begun = Instant::now();
                store.commit(vec![put("pods", &format!("w{task}-{}", number % 100))]).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, api::store::Error>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    print(&format!("commit, {count} writers ({rate:.0} a second)"), times);
    Ok(())
}

/// From when a commit is asked for to when the last of the watchers has its event, and from the first to the last of them.
async fn watchers(store: &Store, count: usize, rounds: usize) -> Result<()> {
    let (told, mut reached) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let mut watch = store.watch(Scope::all("services"), store.revision())?;
        let told = told.clone();
        tasks.spawn(async move {
            while let Ok(event) = watch.next().await {
                if told.send((event.revision, Instant::now())).is_err() {
                    return;
                }
            }
        });
    }
    let (mut whole, mut spread) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        store.commit(vec![put("services", "x")]).await?;
        let mut times = Vec::new();
        for _ in 0..count {
            times.push(reached.recv().await.ok_or("no watcher is left")?.1);
        }
        let first = times.iter().min().copied().unwrap_or(begun);
        let last = times.iter().max().copied().unwrap_or(begun);
        whole.push(last - begun);
        spread.push(last - first);
    }
    print(&format!("event at the last of {count}, with commit"), whole);
    print(&format!("event from the first to the last of {count}"), spread);
    Ok(())
}

async fn many(store: &Store, count: usize) -> Result<()> {
    let begun = Instant::now();
    for start in (0..count).step_by(500) {
        let writes = (start..count.min(start + 500)).map(|number| put("configmaps", &format!("c{number}")));
        store.commit(writes.collect()).await?;
    }
    println!("{:44} {:.3?}", format!("{count} objects made, 500 a commit"), begun.elapsed());
    memory(&format!("with {count} objects"))?;
    let (begun, scope) = (Instant::now(), Scope::all("configmaps"));
    let (mut after, mut at, mut pages) = (None, None, Vec::new());
    loop {
        let one = Instant::now();
        let page = store.list(&scope, after.as_ref(), Some(500), at)?;
        pages.push(one.elapsed());
        at = Some(page.revision);
        if page.more.is_none() {
            break;
        }
        after = page.items.into_iter().last().map(|item| item.key);
        // So that the rest is of the past.
        store.commit(vec![put("configmaps", "c7")]).await?;
    }
    println!("{:44} {:.3?}", format!("{count} objects listed by 500"), begun.elapsed());
    print("page of 500", pages);
    memory("after the list")
}

async fn measure(folder: PathBuf) -> Result<()> {
    let begun = Instant::now();
    let store = Store::open(&folder, Options::default())?;
    println!("{:44} {:.3?}", "new store opened", begun.elapsed());
    memory("idle")?;
    writers(&store, 1, 500).await?;
    writers(&store, 32, 100).await?;
    watchers(&store, 100, 200).await?;
    let get = Key { resource: "pods".into(), namespace: "default".into(), name: "w0-7".into() };
    let gets = (0..10_000).map(|_| {
        let begun = Instant::now();
        store.get(&get).map(|_| begun.elapsed())
    });
    print("get", gets.collect::<std::result::Result<_, _>>()?);
    memory("after that")?;
    reopen(&folder, store, "small")?;
    let store = Store::open(&folder, Options::default())?;
    many(&store, 100_000).await?;
    reopen(&folder, store, "large")
}

fn reopen(folder: &PathBuf, store: Store, what: &str) -> Result<()> {
    let file = folder.join(api::store::FILE);
    println!("{:44} {} MiB", format!("{what} file"), std::fs::metadata(&file)?.len() >> 20);
    let copy = folder.with_extension("killed");
    std::fs::create_dir_all(&copy)?;
    std::fs::copy(&file, copy.join(api::store::FILE))?;
    drop(store);
    for (how, folder) in [("opened again", folder), ("opened as after a kill", &copy)] {
        let begun = Instant::now();
        let store = Store::open(folder, Options::default())?;
        println!("{:44} {:.3?}", format!("{what} file {how}"), begun.elapsed());
        drop(store);
    }
    memory(&format!("after opening the {what} file"))?;
    std::fs::remove_dir_all(&copy)?;
    Ok(())
}

fn main() -> Result<()> {
    let place = tempfile::tempdir()?;
    let folder = std::env::args_os().nth(1).map_or_else(|| place.path().join("store"), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    runtime.block_on(measure(folder))
}
