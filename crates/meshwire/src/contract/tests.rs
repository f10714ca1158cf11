//! Changes come out of updates as they were put in.

use std::net::IpAddr;
use std::sync::Arc;

use smi::contract::Name;
use smi::model::{Delta, Entry, Key, Mode, Shared, Workload};

use super::v1::{FollowRequest, SignRequest, Update};
use super::{Gathering, PART, Packed, Validate, parts};

/// A pod with so many addresses.
fn pod(name: &str, addresses: u32) -> Shared {
    let key = Key::Workload(Name::new("shop", name));
    let workload = Workload {
        addresses: (0..addresses).map(|number| IpAddr::from(number.to_be_bytes())).collect(),
        node: Some("node-1".into()),
        identity: "spiffe://cluster.local/ns/shop/sa/web".into(),
        mode: Mode::Permissive,
        policies: Vec::new(),
    };
    Shared { key, entry: Arc::new(Entry::Workload(workload)) }
}

fn sent(revision: u64, whole: bool, delta: &Delta, roots: Option<Vec<Vec<u8>>>) -> Vec<Update> {
    parts(revision, whole, Packed::of(delta).unwrap(), roots)
}

#[test]
fn a_change_comes_out_as_it_was_put_in() {
    let delta =
        Delta { set: vec![pod("a", 1), pod("b", 2)], removed: vec![Key::Policy(Name::new("shop", "web"))] };
    let updates = sent(7, false, &delta, Some(vec![vec![1, 2], vec![3]]));
    assert_eq!(updates.len(), 1);
    let mut gathering = Gathering::default();
    let gathered = gathering.take(updates[0].clone()).unwrap().unwrap();
    assert_eq!((gathered.revision, gathered.whole, &gathered.delta), (7, false, &delta));
    assert_eq!(gathered.roots, Some(vec![vec![1, 2], vec![3]]));
    // What comes next begins with nothing.
    let next = gathering.take(sent(8, false, &Delta::default(), None).remove(0)).unwrap().unwrap();
    assert!(next.delta.is_empty() && next.roots.is_none());
}

#[test]
fn what_is_large_comes_in_parts_and_is_taken_at_once() {
    let set: Vec<Shared> = (0..40).map(|number| pod(&format!("pod-{number}"), 10_000)).collect();
    let delta = Delta { set, removed: vec![Key::Workload(Name::new("shop", "gone"))] };
    let updates = sent(1, true, &delta, Some(vec![vec![9]]));
    assert!(updates.len() > 3, "{} parts", updates.len());
    let largest = updates.iter().map(prost::Message::encoded_len).max().unwrap();
    assert!(largest < 2 * PART, "{largest} bytes");
    let mut gathering = Gathering::default();
    // A first part whose others never came: its connection ended.
    assert!(gathering.take(updates[0].clone()).unwrap().is_none());
    let mut whole = None;
    for (place, update) in updates.iter().enumerate() {
        assert_eq!((update.whole, update.more), (place == 0, place + 1 < updates.len()));
        assert!(whole.is_none());
        whole = gathering.take(update.clone()).unwrap();
    }
    let whole = whole.unwrap();
    assert!(whole.whole && whole.delta == delta && whole.roots == Some(vec![vec![9]]));
}

#[test]
fn what_cannot_be_read_is_refused_with_its_cause() {
    let update = |set: &'static [u8], removed: &'static [u8]| Update {
        set: if set.is_empty() { Vec::new() } else { vec![set.into()] },
        removed: if removed.is_empty() { Vec::new() } else { vec![removed.into()] },
        ..Update::default()
    };
    for (bad, says) in [
        (update(b"{", b""), "an entry"),
        (update(br#"{"key": {"policy": "shop/web"}, "entry": {"endpoints": []}}"#, b""), "another key's"),
        (update(b"", br#"{"policy": "no name"}"#), "a key"),
    ] {
        let error = Gathering::default().take(bad).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("one version"), "{error}");
    }
}

#[test]
fn requests_are_checked_by_themselves() {
    let good = SignRequest {
        node: "node-1".into(),
        token: "secret".into(),
        identity: "spiffe://cluster.local/ns/shop/sa/web".into(),
        csr_der: vec![0; 400],
    };
    assert_eq!(good.validate(), Ok(()));
    let refused = |request: SignRequest| request.validate().unwrap_err().field.unwrap();
    assert_eq!(refused(SignRequest { node: String::new(), ..good.clone() }), "node");
    assert_eq!(refused(SignRequest { node: "a\nb".into(), ..good.clone() }), "node");
    assert_eq!(refused(SignRequest { token: "t".repeat(16_385), ..good.clone() }), "token");
    assert_eq!(refused(SignRequest { identity: "https://a".into(), ..good.clone() }), "identity");
    assert_eq!(refused(SignRequest { csr_der: vec![0; 8193], ..good.clone() }), "csr_der");
    let follow = FollowRequest { node: "node-1".into(), token: "secret".into() };
    assert_eq!(follow.validate(), Ok(()));
    // Nobody's log has a token in it.
    for shown in [format!("{good:?}"), format!("{follow:?}")] {
        assert!(shown.contains("node-1") && !shown.contains("secret"), "{shown}");
    }
}
