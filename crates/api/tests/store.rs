//! What the store promises to those who call it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use api::store::{Document, Error, Expect, FILE, Key, Kind, Options, Scope, Store, Write};

fn key(namespace: &str, name: &str) -> Key {
    Key { resource: "pods".into(), namespace: namespace.into(), name: name.into() }
}

fn document(text: &str) -> Document {
    let json = format!(r#"{{"metadata":{{"resourceVersion":""}},"text":"{text}"}}"#);
    Document { revision_at: json.find(r#""""#).unwrap() + 1, json: json.into() }
}

fn put(key: Key, expect: Expect, text: &str) -> Write {
    Write { key, expect, value: Some(document(text)) }
}

fn delete(key: Key, expect: Expect) -> Write {
    Write { key, expect, value: None }
}

fn json(revision: u64, text: &str) -> String {
    format!(r#"{{"metadata":{{"resourceVersion":"{revision}"}},"text":"{text}"}}"#)
}

fn open(folder: &Path) -> Store {
    Store::open(folder, Options::default()).unwrap()
}

#[tokio::test]
async fn one_revision_for_all_writes_of_a_transaction_and_all_or_none() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    assert_eq!(store.revision(), 0);
    let first = [put(key("a", "x"), Expect::Absent, "1"), put(key("a", "y"), Expect::Any, "2")];
    assert_eq!(store.commit(first.into()).await.unwrap(), 1);
    assert_eq!(store.get(&key("a", "x")).unwrap().unwrap().json, json(1, "1"));
    let bad = [put(key("a", "x"), Expect::Revision(1), "3"), put(key("a", "y"), Expect::Absent, "4")];
    let error = store.commit(bad.into()).await.unwrap_err();
    let Error::Unexpected { index: 1, found: Some(found), .. } = error else { panic!("{error}") };
    assert_eq!((found.revision, found.json), (1, json(1, "2").into()));
    assert_eq!(store.get(&key("a", "x")).unwrap().unwrap().revision, 1);
    for expect in [Expect::Revision(2), Expect::Absent] {
        store.commit(vec![delete(key("a", "x"), expect)]).await.unwrap_err();
    }
    assert_eq!(
        store.commit(vec![delete(key("a", "none"), Expect::Any)]).await.unwrap(),
        1,
        "nothing changed"
    );
    assert_eq!(store.commit(Vec::new()).await.unwrap(), 1);
    assert_eq!(store.commit(vec![delete(key("a", "x"), Expect::Revision(1))]).await.unwrap(), 2);
    assert_eq!(store.get(&key("a", "x")).unwrap(), None);
}

#[tokio::test]
async fn a_condition_alone_changes_nothing_and_may_refuse_a_transaction() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    store.commit(vec![put(key("a", "x"), Expect::Absent, "1")]).await.unwrap();
    let beside =
        |revision| vec![put(key("a", "y"), Expect::Any, "2"), delete(key("a", "x"), Expect::Still(revision))];
    assert_eq!(store.commit(beside(1)).await.unwrap(), 2);
    assert_eq!(store.get(&key("a", "x")).unwrap().unwrap().revision, 1);
    let error = store.commit(beside(2)).await.unwrap_err();
    assert!(matches!(error, Error::Unexpected { index: 1, found: Some(_), .. }), "{error}");
    assert_eq!(store.get(&key("a", "y")).unwrap().unwrap().revision, 2);
    let of_none = delete(key("a", "none"), Expect::Still(0));
    assert!(matches!(store.commit(vec![of_none]).await, Err(Error::Unexpected { found: None, .. })));
}

#[tokio::test]
async fn what_cannot_be_written_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    let twice = vec![put(key("a", "x"), Expect::Any, "1"), delete(key("a", "x"), Expect::Any)];
    assert!(matches!(store.commit(twice).await, Err(Error::Repeated { .. })));
    let nameless = vec![put(key("a", ""), Expect::Any, "1")];
    assert!(matches!(store.commit(nameless).await, Err(Error::Name { part: "name", .. })));
    for at in [0, 5, usize::MAX] {
        let wrong = Document { revision_at: at, ..document("1") };
        let write = Write { key: key("a", "x"), expect: Expect::Any, value: Some(wrong) };
        assert!(matches!(store.commit(vec![write]).await, Err(Error::Document { .. })), "{at}");
    }
    assert_eq!(store.revision(), 0);
}

#[tokio::test]
async fn a_watcher_is_told_what_changed_with_the_last_state_of_what_is_deleted() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    let mut watch = store.watch(Scope::within("pods", "a"), 0).unwrap();
    assert_eq!(watch.revision(), 0);
    store.commit(vec![put(key("a", "x"), Expect::Any, "1")]).await.unwrap();
    store.commit(vec![put(key("b", "x"), Expect::Any, "other")]).await.unwrap();
    store.commit(vec![put(key("a", "x"), Expect::Any, "2")]).await.unwrap();
    store.commit(vec![delete(key("a", "x"), Expect::Any)]).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        let event = watch.next().await.unwrap();
        let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        told.push((event.kind, event.revision, text(&event.json), event.previous.as_ref().map(text)));
    }
    let wanted = [
        (Kind::Put, 1, json(1, "1"), None),
        (Kind::Put, 3, json(3, "2"), Some(json(1, "1"))),
        (Kind::Delete, 4, json(4, "2"), Some(json(3, "2"))),
    ];
    assert_eq!(told, wanted);
    assert!(watch.ready().unwrap().is_none());
    store.commit(vec![put(key("b", "y"), Expect::Any, "other")]).await.unwrap();
    assert_eq!(watch.revision(), 5, "it has told all there is, up to the last change of others");
    let waiting = tokio::time::timeout(Duration::from_millis(20), watch.next());
    waiting.await.unwrap_err();
    drop(store);
    assert!(matches!(watch.next().await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_list_is_cut_and_goes_on_at_its_revision() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    for name in ["a", "b", "c", "d"] {
        store.commit(vec![put(key("a", name), Expect::Any, name)]).await.unwrap();
    }
    store.commit(vec![put(key("a-b", "z"), Expect::Any, "z")]).await.unwrap();
    let all = store.list(&Scope::all("pods"), None, Some(2), None).unwrap();
    let names: Vec<_> = all.items.iter().map(|item| item.key.name.as_str()).collect();
    assert_eq!((names.as_slice(), all.revision, all.more), (&["z", "a"][..], 5, Some(3)));
    store
        .commit(vec![delete(key("a", "b"), Expect::Any), put(key("a", "c"), Expect::Any, "new")])
        .await
        .unwrap();
    store.commit(vec![put(key("a", "bb"), Expect::Any, "new")]).await.unwrap();
    let rest = store.list(&Scope::all("pods"), Some(&all.items[1].key), Some(2), Some(all.revision)).unwrap();
    let texts: Vec<_> = rest.items.iter().map(|item| item.json.clone()).collect();
    assert_eq!((texts, rest.more), (vec![json(2, "b").into(), json(3, "c").into()], Some(1)));
    let end = store.list(&Scope::all("pods"), Some(&rest.items[1].key), Some(2), Some(5)).unwrap();
    assert_eq!((end.items.len(), end.more, end.revision), (1, None, 5));
    assert!(matches!(
        store.list(&Scope::all("pods"), None, None, Some(8)),
        Err(Error::Future { asked: 8, current: 7 })
    ));
    assert_eq!(store.list(&Scope::all("nodes"), None, None, None).unwrap().items, []);
}

#[tokio::test]
async fn history_that_was_compacted_is_refused_and_the_present_is_not() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    for text in 0..10 {
        store.commit(vec![put(key("a", "x"), Expect::Any, &text.to_string())]).await.unwrap();
    }
    store.compact(5).await.unwrap();
    let list = |at| store.list(&Scope::all("pods"), None, None, Some(at));
    assert!(matches!(list(4), Err(Error::Compacted { asked: 4, oldest: 5 })));
    assert_eq!(list(5).unwrap().items[0].json, json(5, "4"));
    assert!(matches!(store.compact(11).await, Err(Error::Future { asked: 11, current: 10 })));
    drop(store);
    let store = open(place.path());
    assert!(matches!(store.watch(Scope::all("pods"), 4), Err(Error::Compacted { asked: 4, oldest: 5 })));
    assert!(matches!(store.watch(Scope::all("pods"), 11), Err(Error::Future { asked: 11, current: 10 })));
    let mut watch = store.watch(Scope::all("pods"), 5).unwrap();
    for revision in 6..=10 {
        assert_eq!(watch.next().await.unwrap().revision, revision);
    }
    store.compact(10).await.unwrap();
    assert_eq!(store.commit(vec![put(key("a", "y"), Expect::Absent, "")]).await.unwrap(), 11);
    assert_eq!(watch.next().await.unwrap().revision, 11);
}

#[tokio::test]
async fn history_is_bounded_in_bytes_and_in_age() {
    let place = tempfile::tempdir().unwrap();
    let options = Options { history_bytes: 10_000, recent: 0, ..Options::default() };
    let store = Store::open(place.path(), options).unwrap();
    let mut slow = store.watch(Scope::all("pods"), 0).unwrap();
    for text in 0..200 {
        store.commit(vec![put(key("a", "x"), Expect::Any, &format!("{text:0500}"))]).await.unwrap();
    }
    assert!(matches!(slow.next().await, Err(Error::Compacted { asked: 0, oldest: 180.. })));
    drop(store);
    let options = Options { history: Duration::from_secs(5), ..Options::default() };
    let store = Store::open(place.path(), options).unwrap();
    let last = store.commit(vec![put(key("a", "x"), Expect::Any, "last")]).await.unwrap();
    let past = || store.list(&Scope::all("pods"), None, None, Some(last - 1));
    assert!(past().is_ok());
    while past().is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(past(), Err(Error::Compacted { .. })));
    assert_eq!(store.list(&Scope::all("pods"), None, None, Some(last)).unwrap().items.len(), 1);
}

#[tokio::test]
async fn who_was_told_all_of_a_resource_misses_nothing_when_others_are_compacted() {
    let place = tempfile::tempdir().unwrap();
    // Nothing in memory: each change is read from the disk, as by a watcher that was not asked for a while.
    let store = Store::open(place.path(), Options { recent: 0, ..Options::default() }).unwrap();
    store.commit(vec![put(key("a", "x"), Expect::Any, "")]).await.unwrap();
    let mut told = store.watch(Scope::all("pods"), 0).unwrap();
    assert_eq!(told.next().await.unwrap().revision, 1);
    let mut behind = store.watch(Scope::all("pods"), 0).unwrap();
    let node = Key { resource: "nodes".into(), namespace: String::new(), name: "n".into() };
    for _ in 0..20 {
        store.commit(vec![put(node.clone(), Expect::Any, "")]).await.unwrap();
    }
    store.compact(21).await.unwrap();
    for revision in 22..=23 {
        store.commit(vec![put(key("b", &revision.to_string()), Expect::Any, "")]).await.unwrap();
    }
    assert!(matches!(behind.next().await, Err(Error::Compacted { asked: 0, oldest: 21 })));
    for revision in 22..=23 {
        assert_eq!(told.next().await.unwrap().revision, revision);
    }
    // What is gone of its own resource is missed, whoever else is told of it.
    let mut slow = store.watch(Scope::within("pods", "a"), 23).unwrap();
    for name in ["x", "y"] {
        store.commit(vec![put(key("a", name), Expect::Any, "")]).await.unwrap();
    }
    store.compact(24).await.unwrap();
    assert!(matches!(slow.next().await, Err(Error::Compacted { asked: 23, oldest: 24 })));
    // What an earlier process has forgotten is not known by resource.
    drop((told, behind, slow, store));
    let store = Store::open(place.path(), Options { recent: 0, ..Options::default() }).unwrap();
    assert!(matches!(store.watch(Scope::all("nodes"), 21), Err(Error::Compacted { asked: 21, oldest: 24 })));
}

#[tokio::test]
async fn half_a_transaction_that_is_compacted_is_not_skipped() {
    let place = tempfile::tempdir().unwrap();
    let store = Store::open(place.path(), Options { recent: 0, ..Options::default() }).unwrap();
    let mut watch = store.watch(Scope::all("pods"), 0).unwrap();
    let names: Vec<_> = (0..100).map(|name| put(key("a", &name.to_string()), Expect::Any, "")).collect();
    store.commit(names).await.unwrap();
    store.commit(vec![put(key("a", "later"), Expect::Any, "")]).await.unwrap();
    assert_eq!((watch.next().await.unwrap().index, watch.revision()), (0, 0));
    store.compact(1).await.unwrap();
    let error = loop {
        match watch.next().await {
            Ok(event) => assert_eq!(event.revision, 1),
            Err(e) => break e,
        }
    };
    assert!(matches!(error, Error::Compacted { asked: 0, oldest: 1 }), "{error}");
}

#[tokio::test]
async fn many_at_once_are_one_after_the_other() {
    let place = tempfile::tempdir().unwrap();
    let store = open(place.path());
    store.commit(vec![put(key("a", "x"), Expect::Any, "0")]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let store = store.clone();
        tasks.spawn(async move {
            loop {
                let found = store.get(&key("a", "x")).unwrap().unwrap();
                let next = put(key("a", "x"), Expect::Revision(found.revision), "next");
                match store.commit(vec![next]).await {
                    Ok(revision) => return revision,
                    Err(Error::Unexpected { found: Some(now), .. }) => assert!(now.revision > found.revision),
                    Err(e) => panic!("{e}"),
                }
            }
        });
    }
    let mut revisions = tasks.join_all().await;
    revisions.sort_unstable();
    assert_eq!(revisions, (2..=33).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_folder_is_private_and_one_process_has_it() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("data/api");
    let store = open(&folder);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
    let error = Store::open(&folder, Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot open the store {}: another process has it open", folder.display())
    );
    drop(store);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    drop(open(&folder));
    assert_eq!(mode(&folder), 0o700);
}

#[test]
fn a_file_that_is_none_of_ours_is_named() {
    let place = tempfile::tempdir().unwrap();
    let refused = || Store::open(place.path(), Options::default()).unwrap_err().to_string();
    let file = place.path().join(FILE);
    fs::write(&file, "").unwrap();
    assert!(refused().contains("the file is empty; move objects.redb away"), "{}", refused());
    fs::write(&file, "SQLite format 3\0 or whatever else somebody left here").unwrap();
    assert!(refused().contains("the file is no database"), "{}", refused());
    fs::remove_file(&file).unwrap();
    redb::Database::create(&file).unwrap();
    assert!(refused().contains("the database of another program"), "{}", refused());
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(refused().contains("cannot open"), "{}", refused());
    fs::remove_dir(&file).unwrap();
    drop(open(place.path()));
    let database = redb::Database::open(&file).unwrap();
    let write = database.begin_write().unwrap();
    let facts = redb::TableDefinition::<&str, u64>::new("facts");
    write.open_table(facts).unwrap().insert("format", 2).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(
        refused().contains("its format is 2, this version knows 1; use the version that wrote it"),
        "{}",
        refused()
    );
}

#[test]
fn a_half_made_store_is_made_anew() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("objects.new"), "cut off").unwrap();
    drop(open(place.path()));
    let names: Vec<_> = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE]);
}

/// Bytes that changed, sectors that were lost and files that were cut short: an error, or nothing that one could tell.
#[tokio::test]
async fn a_damaged_file_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let store = open(&place.path().join("whole"));
    for name in 0..60 {
        let text = format!("{name:0900}");
        store.commit(vec![put(key("a", &format!("n{}", name % 20)), Expect::Any, &text)]).await.unwrap();
    }
    let all = |store: &Store| store.list(&Scope::all("pods"), None, None, None).map(|page| page.items);
    let wanted = all(&store).unwrap();
    drop(store);
    let whole = fs::read(place.path().join("whole").join(FILE)).unwrap();
    let (mut random, seed) = testkit::Random::fresh();
    println!("seed {seed}");
    let mut below = |end: usize| usize::try_from(random.below(end as u64)).unwrap();
    let mut refused = 0;
    for round in 0..60 {
        let (mut bytes, at) = (whole.clone(), below(whole.len()));
        match round % 3 {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at / 4096 * 4096..][..4096].fill(0),
            _ => bytes.truncate(at),
        }
        let folder = place.path().join("damaged");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(FILE), bytes).unwrap();
        match Store::open(&folder, Options::default()) {
            Ok(store) => assert_eq!(all(&store).unwrap(), wanted, "round {round} at {at}"),
            Err(e) => {
                assert!(matches!(e, Error::Foreign { .. }), "round {round} at {at}: {e}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "only {refused} were refused");
}
