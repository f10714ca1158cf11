//! A process that writes is killed at random moments, again and again: what it was told is kept stays, revisions only grow,
//! and a watcher goes on where it was.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::store::{Document, Expect, Key, Kind, Options, Scope, Store, Write};
use testkit::Random;

const PLACE: &str = "SEXTANT_STORE_TEST_PLACE";
const TASKS: u64 = 8;
/// Objects of each task.
const NAMES: u64 = 5;

fn options() -> Options {
    // Little, so that history is forgotten and pages go to the disk before a commit; enough for who resumes at once.
    Options { cache: 256 << 10, history_bytes: 8 << 20, ..Options::default() }
}

fn key(task: u64, number: u64) -> Key {
    let name = format!("t{task}-{}", number % NAMES);
    Key { resource: "pods".into(), namespace: "a".into(), name }
}

/// The write of a number; each sixth deletes.
fn write(task: u64, number: u64) -> Write {
    let size = usize::try_from(number * 97 % 4000).unwrap();
    let json = format!(r#"{{"metadata":{{"resourceVersion":""}},"number":{number},"pad":"{:size$}"}}"#, "");
    let revision_at = json.find(r#""""#).unwrap() + 1;
    let value = (!number.is_multiple_of(6)).then(|| Document { json: json.into(), revision_at });
    Write { key: key(task, number), expect: Expect::Any, value }
}

fn number(json: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(json).unwrap()["number"].as_u64().unwrap()
}

/// Writes without end, and says what was acknowledged: `REVISION TASK NUMBER`.
#[test]
#[ignore = "the child of `killed_under_load`"]
fn child() {
    let place = PathBuf::from(std::env::var_os(PLACE).unwrap());
    let first: u64 = std::env::var("SEXTANT_STORE_TEST_FROM").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = Store::open(&place, options()).unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let store = store.clone();
            tasks.spawn(async move {
                for number in first.. {
                    let revision = store.commit(vec![write(task, number)]).await.unwrap();
                    let line = format!("ack {revision} {task} {number}\n");
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    });
}

/// What the parent knows.
#[derive(Default)]
struct Seen {
    /// What the last child was told, by revision: the object and the number.
    acknowledged: BTreeMap<u64, Vec<(Key, u64)>>,
    /// Where the watcher is, and what it has made of what it was told.
    watched: u64,
    mirror: BTreeMap<Key, bytes::Bytes>,
    /// From which number on nothing was tried yet.
    next: u64,
    acks: u64,
}

impl Seen {
    /// A child until it is killed.
    fn run(&mut self, place: &Path, moment: Duration) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child", "--nocapture"])
            .env(PLACE, place)
            .env("SEXTANT_STORE_TEST_FROM", self.next.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || lines.lines().map_while(Result::ok).collect::<Vec<_>>());
        let end = Instant::now() + moment;
        while Instant::now() < end {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself: {}", last_words(&mut child));
            std::thread::sleep(Duration::from_micros(500).min(end.saturating_duration_since(Instant::now())));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            self.acknowledge(&line);
        }
    }

    fn acknowledge(&mut self, line: &str) {
        let Some(words) = line.strip_prefix("ack ") else { return };
        let words: Vec<u64> = words.split(' ').map(|word| word.parse().unwrap()).collect();
        let [revision, task, number] = words[..] else { return };
        self.acknowledged.entry(revision).or_default().push((key(task, number), number));
        self.acks += 1;
        self.next = self.next.max(number + 1);
    }

    /// What is there after the kill.
    fn judge(&mut self, place: &Path) {
        let store = Store::open(place, options()).unwrap();
        let told = self.acknowledged.last_key_value().map_or(0, |(revision, _)| *revision);
        assert!(store.revision() >= told, "at {}, {told} was acknowledged", store.revision());
        assert!(store.revision() >= self.watched, "at {}, {} was seen", store.revision(), self.watched);
        self.resume(&store);
        let page = store.list(&Scope::all("pods"), None, None, None).unwrap();
        let found: BTreeMap<_, _> = page.items.into_iter().map(|it| (it.key, it.json)).collect();
        assert!(found == self.mirror, "the watcher was told something else");
        self.acknowledged.clear();
        let last = found.values().map(|json| number(json)).max().unwrap_or(0);
        // A child may have tried one more than it was told of.
        self.next = self.next.max(last + 1) + 2;
    }

    /// The watcher goes on where it was: each change fits to what it knows, and what was acknowledged is among them.
    fn resume(&mut self, store: &Store) {
        let mut watch = store.watch(Scope::all("pods"), self.watched).unwrap();
        self.check();
        while let Some(event) = watch.ready().unwrap() {
            assert_eq!(event.revision, self.watched + 1, "a revision was skipped");
            self.watched = event.revision;
            let fits = event.previous.as_ref() == self.mirror.get(&event.key);
            assert!(fits, "a change of {:?} was skipped", event.key);
            match event.kind {
                Kind::Put => self.mirror.insert(event.key.clone(), event.json.clone()),
                Kind::Delete => self.mirror.remove(&event.key),
            };
            self.check();
        }
        assert_eq!(self.watched, store.revision());
    }

    /// Whether what was acknowledged with the watcher's revision is so.
    fn check(&self) {
        for (key, acknowledged) in self.acknowledged.get(&self.watched).into_iter().flatten() {
            let there = self.mirror.get(key).map(|json| number(json));
            let wanted = (!acknowledged.is_multiple_of(6)).then_some(*acknowledged);
            assert_eq!(there, wanted, "{key:?} at {}", self.watched);
        }
    }
}

fn last_words(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn killed_under_load() {
    let kills: u64 =
        std::env::var("SEXTANT_STORE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let (mut random, seed) = Random::fresh();
    println!("seed {seed}");
    let place = tempfile::tempdir().unwrap();
    let mut seen = Seen { next: 1, ..Seen::default() };
    for kill in 0..kills {
        // Some die while they open it, some when much is written.
        let longest = if kill % 4 == 0 { 20 } else { 150 };
        seen.run(place.path(), random.duration(Duration::from_millis(longest)));
        seen.judge(place.path());
    }
    println!("{kills} kills, {} acknowledged, at revision {}", seen.acks, seen.watched);
    assert!(seen.acks > kills, "too few were acknowledged");
}
