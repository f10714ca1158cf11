use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::*;

fn object(name: &str, uid: &str) -> Secret {
    let (name, uid) = (Some(name.into()), Some(uid.into()));
    Secret { metadata: ObjectMeta { name, uid, ..ObjectMeta::default() }, ..Secret::default() }
}

/// A cache without a server, and what its listener was told: uids before and after.
fn heard() -> (Arc<Cache<Secret>>, Arc<Mutex<Vec<String>>>) {
    let cache = Arc::new(Cache {
        objects: RwLock::default(),
        listeners: RwLock::default(),
        filled: watch::Sender::new(false),
    });
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (told, weak) = (heard.clone(), Arc::downgrade(&cache));
    cache.listen(move |change: &Change<Secret>| {
        let uid = |one: &Option<Arc<Secret>>| one.as_ref().and_then(|one| one.metadata.uid.clone());
        // What is told is what can be read then.
        let cache = weak.upgrade().unwrap();
        assert!(change.new.is_none() || cache.get(&Name::of(&**change.object())).is_some());
        let text = |uid: Option<String>| uid.unwrap_or_else(|| "-".into());
        told.lock().unwrap().push(format!("{} {}", text(uid(&change.old)), text(uid(&change.new))));
    });
    (cache, heard)
}

#[test]
fn another_object_of_the_same_name_comes_after_the_first_has_gone() {
    let (cache, heard) = heard();
    let mut listed = BTreeMap::new();
    let mut take = |event| cache.take(event, &mut listed);
    take(Event::Init);
    for one in [object("a", "1"), object("b", "2"), object("c", "3")] {
        take(Event::InitApply(one));
    }
    assert!(!*cache.filled.borrow() && heard.lock().unwrap().is_empty());
    take(Event::InitDone);
    assert!(*cache.filled.borrow());
    take(Event::Apply(object("a", "1")));
    take(Event::Delete(object("c", "3")));
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), ["- 1", "- 2", "- 3", "1 1", "3 -"]);
    // The watch was lost: meanwhile b was replaced, and d has come.
    take(Event::Init);
    for one in [object("a", "1"), object("b", "4"), object("d", "5")] {
        take(Event::InitApply(one));
    }
    take(Event::InitDone);
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), ["1 1", "2 -", "- 4", "- 5"]);
    take(Event::Apply(object("d", "6")));
    assert_eq!(*heard.lock().unwrap(), ["5 -", "- 6"]);
    assert_eq!(cache.all().len(), 3);
}
