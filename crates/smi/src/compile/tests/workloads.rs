//! Pods and endpoints.

use super::*;
use crate::compile::{MEMBER, MODE};
use crate::model::{Mode, Workload};

fn workload(done: &Compiled, at: &str) -> Workload {
    match done.model.get(&Key::Workload(name(at))).map(|entry| &**entry) {
        Some(Entry::Workload(workload)) => workload.clone(),
        other => panic!("{other:?}"),
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_pods_label_goes_before_its_namespaces() {
    let of = |namespace: &[(&str, &str)], own: &[(&str, &str)]| {
        let done = Cluster::default()
            .with(Change::Namespace("shop".into(), Some(labels(namespace))))
            .with(Change::Pod(name("shop/a"), Some(pod("web", own, [10, 0, 0, 1]))))
            .compile();
        workload(&done, "shop/a").mode
    };
    assert_eq!(of(&[], &[]), Mode::Outside);
    assert_eq!(of(&[(MEMBER, "true")], &[]), Mode::Permissive);
    assert_eq!(of(&[(MEMBER, "true"), (MODE, "strict")], &[]), Mode::Strict);
    assert_eq!(of(&[(MEMBER, "true"), (MODE, "strict")], &[(MEMBER, "false")]), Mode::Outside);
    assert_eq!(of(&[(MODE, "strict")], &[(MEMBER, "true")]), Mode::Strict);
    assert_eq!(of(&[(MEMBER, "true"), (MODE, "permissive")], &[]), Mode::Permissive);
    for other in ["Strict", "strickt", ""] {
        assert_eq!(of(&[(MEMBER, "true"), (MODE, other)], &[]), Mode::Strict, "{other:?}");
    }
    assert_eq!(of(&[(MODE, "strict")], &[(MODE, "permissive")]), Mode::Outside);
}

#[test]
fn a_pod_on_its_nodes_network_is_never_a_member_and_has_no_address() {
    let mut on_node = pod("web", &[(MEMBER, "true")], [10, 0, 0, 1]);
    on_node.host_network = true;
    let done = Cluster::default().with(Change::Pod(name("shop/a"), Some(on_node))).compile();
    let workload = workload(&done, "shop/a");
    assert_eq!((workload.mode, workload.addresses.len()), (Mode::Outside, 0));
}

#[test]
fn a_pods_identity_is_its_service_accounts() {
    let done = Cluster::default()
        .with(Change::Pod(name("shop/a"), Some(pod("web", &[], [10, 0, 0, 1]))))
        .with(Change::Pod(name("shop/b"), Some(pod("", &[], [10, 0, 0, 2]))))
        .compile();
    assert_eq!(workload(&done, "shop/a").identity, "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(workload(&done, "shop/b").identity, "spiffe://cluster.local/ns/shop/sa/default");
}

#[test]
fn endpoints_are_found_by_the_ports_name_and_once() {
    let mut late = slice("web", 80, &[[10, 0, 0, 1], [10, 0, 0, 2]]);
    late.endpoints[0].ready = false;
    late.endpoints[1].pod = Some("b".into());
    let done = Cluster::default()
        .service("shop/web", &[80, 81])
        .with(Change::Slice(name("shop/one"), Some(late)))
        .with(Change::Slice(name("shop/two"), Some(slice("web", 80, &[[10, 0, 0, 1]]))))
        .with(Change::Slice(name("shop/other"), Some(slice("other", 80, &[[10, 0, 0, 9]]))))
        .compile();
    let of = |port| {
        let key = Key::Endpoints { service: name("shop/web"), port, transport: Transport::Tcp };
        match done.model.get(&key).map(|entry| &**entry) {
            Some(Entry::Endpoints(endpoints)) => endpoints.clone(),
            other => panic!("{other:?}"),
        }
    };
    let found: Vec<_> =
        of(80).into_iter().map(|at| (at.address.to_string(), at.port, at.ready, at.pod)).collect();
    assert_eq!(
        found,
        [("10.0.0.1".into(), 8080, true, None), ("10.0.0.2".into(), 8080, true, Some(name("shop/b")))]
    );
    assert_eq!(of(81), []);
}
