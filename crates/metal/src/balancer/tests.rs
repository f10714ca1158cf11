//! What services get, with an API server that is a list.

use std::path::PathBuf;

use cpi::contract::CloudProvider as _;
use serde_json::{Value, json};

use super::*;

/// Services as the API server has them.
#[derive(Default)]
struct Told(Mutex<Vec<Arc<Service>>>, Mutex<Vec<Arc<Node>>>);

impl Services for Told {
    fn all(&self) -> Vec<Arc<Service>> {
        self.0.lock().unwrap().clone()
    }

    fn nodes(&self) -> Vec<Arc<Node>> {
        self.1.lock().unwrap().clone()
    }
}

struct Stand {
    metal: Metal,
    told: Arc<Told>,
    file: PathBuf,
    dir: tempfile::TempDir,
}

const POOLS: &str = "pools: [{name: lab, addresses: [10.0.0.1-10.0.0.3, 'fd00::/64']}]";

fn stand(config: &str) -> Stand {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("metal.yaml");
    std::fs::write(&file, config).unwrap();
    let (metal, told) = (Metal::open(Some(&file)).unwrap(), Arc::new(Told::default()));
    metal.see_services(told.clone());
    Stand { metal, told, file, dir }
}

/// A service of the default namespace, with more or other fields of metadata and spec.
fn web(name: &str, metadata: Value, spec: Value) -> Service {
    let mut whole = json!({"metadata": {"namespace": "default", "name": name, "uid": format!("uid-{name}")},
        "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "ports": [{"port": 80}]}});
    for (field, more) in [("metadata", metadata), ("spec", spec)] {
        whole[field].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    serde_json::from_value(whole).unwrap()
}

fn plain(name: &str) -> Service {
    web(name, json!({}), json!({}))
}

fn annotated(name: &str, key: &str, value: &str) -> Service {
    web(name, json!({"annotations": {key: value}}), json!({}))
}

fn node(name: &str, addresses: &[(&str, &str)]) -> Node {
    let addresses: Vec<Value> =
        addresses.iter().map(|(kind, address)| json!({"type": kind, "address": address})).collect();
    serde_json::from_value(json!({"metadata": {"name": name}, "status": {"addresses": addresses}})).unwrap()
}

impl Stand {
    /// Makes or changes a service, as its user does.
    fn make(&self, mut service: Service) {
        let mut all = self.told.0.lock().unwrap();
        if let Some(at) = all.iter().position(|one| service::uid(one) == service::uid(&service)) {
            service.status = all[at].status.clone();
            all[at] = Arc::new(service);
        } else {
            all.push(Arc::new(service));
        }
    }

    fn get(&self, name: &str) -> Arc<Service> {
        self.told.all().into_iter().find(|one| service::named(one) == format!("default/{name}")).unwrap()
    }

    /// What the provider answers, for these nodes.
    async fn ask_for(&self, name: &str, nodes: &[Node]) -> Result<Vec<String>, Error> {
        let service = self.get(name);
        let status = self.metal.ensure_load_balancer("c", &service, nodes).await?;
        assert!(status.ingress.iter().flatten().all(|one| one.ip_mode.as_deref() == Some("VIP")));
        Ok(status.ingress.into_iter().flatten().filter_map(|one| one.ip).collect())
    }

    async fn ask(&self, name: &str) -> Result<Vec<String>, Error> {
        self.ask_for(name, &[]).await
    }

    /// Has it written into the status, as the controller does.
    fn write(&self, name: &str, addresses: &[String]) {
        let mut service = Service::clone(&self.get(name));
        let read: Vec<IpAddr> = addresses.iter().map(|one| one.parse().unwrap()).collect();
        service.status = Some(Default::default());
        service.status.as_mut().unwrap().load_balancer = Some(status(&read));
        let mut all = self.told.0.lock().unwrap();
        let at = all.iter().position(|one| service::uid(one) == service::uid(&service)).unwrap();
        all[at] = Arc::new(service);
    }

    /// A service that has what it gets.
    async fn give(&self, service: Service) -> Vec<String> {
        let name = service.metadata.name.clone().unwrap();
        self.make(service);
        let got = self.ask(&name).await.unwrap();
        self.write(&name, &got);
        got
    }

    async fn take(&self, name: &str) {
        let service = self.get(name);
        self.metal.ensure_load_balancer_deleted("c", &service).await.unwrap();
        self.told.0.lock().unwrap().retain(|one| service::uid(one) != service::uid(&service));
    }

    /// The controllers were killed: what was written is all that is known.
    fn again(&mut self) {
        self.metal = Metal::open(Some(&self.file)).unwrap();
        self.metal.see_services(self.told.clone());
    }

    /// Another file takes the name of the provider's.
    fn replace(&self, text: &str) {
        let new = self.dir.path().join("new");
        std::fs::write(&new, text).unwrap();
        // It was ready long ago.
        let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        std::fs::File::options().append(true).open(&new).unwrap().set_modified(long_ago).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    async fn refused(&self, name: &str) -> String {
        self.ask(name).await.unwrap_err().to_string()
    }
}

#[tokio::test]
async fn each_service_gets_an_address_and_the_last_none() {
    let stand = stand(POOLS);
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
        assert_eq!(stand.give(plain(name)).await, [address]);
    }
    stand.make(plain("d"));
    let error = stand.ask("d").await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains("pool lab has 3 of them, and 3 are given out"), "{words}");
    assert!(words.contains("add addresses to a pool, or delete a service"), "{words}");
    assert!(matches!(error, Error::RetryAfter { after, .. } if after >= PAUSE), "{error:?}");
    // What is asked for again is the same.
    assert_eq!(stand.ask("b").await.unwrap(), ["10.0.0.2"]);
    stand.take("b").await;
    assert_eq!(stand.ask("d").await.unwrap(), ["10.0.0.2"]);
}

#[tokio::test]
async fn what_is_promised_is_nobody_elses_until_it_is_written() {
    let mut stand = stand(POOLS);
    for name in ["a", "b"] {
        stand.make(plain(name));
    }
    assert_eq!(stand.ask("a").await.unwrap(), ["10.0.0.1"]);
    assert_eq!(stand.ask("b").await.unwrap(), ["10.0.0.2"]);
    assert_eq!(stand.ask("a").await.unwrap(), ["10.0.0.1"], "and promised to it");
    let status = stand.metal.get_load_balancer("c", &stand.get("a")).await.unwrap().unwrap();
    assert_eq!(status.ingress.unwrap()[0].ip.as_deref(), Some("10.0.0.1"));
    // One that goes before it is written leaves nothing; neither does a kill.
    stand.take("a").await;
    stand.make(plain("c"));
    assert_eq!(stand.ask("c").await.unwrap(), ["10.0.0.1"]);
    stand.again();
    assert_eq!(stand.ask("b").await.unwrap(), ["10.0.0.1"], "it was never told of another");
    stand.write("b", &["10.0.0.1".into()]);
    assert_eq!(stand.ask("c").await.unwrap(), ["10.0.0.2"]);
    assert!(stand.metal.balancers.with(|state| !state.promised.contains_key("uid-b")), "it is written");
}

#[tokio::test]
async fn many_at_once_get_different_ones() {
    let stand = Arc::new(stand("pools: [{name: lab, addresses: [10.0.0.0/24]}]"));
    (0..200).for_each(|number| stand.make(plain(&format!("s{number}"))));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let stand = stand.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let ask = |number: usize| runtime.block_on(stand.ask(&format!("s{number}"))).unwrap();
                (0..200).filter(|number| number % 4 == thread).flat_map(ask).collect::<Vec<_>>()
            })
        })
        .collect();
    let all: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!((all.len(), all.iter().collect::<BTreeSet<_>>().len()), (200, 200));
}

#[tokio::test]
async fn families_are_those_of_the_service() {
    let stand = stand(POOLS);
    let both = |policy: &str| json!({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": policy});
    assert_eq!(stand.give(web("a", json!({}), both("RequireDualStack"))).await, ["fd00::1", "10.0.0.1"]);
    assert_eq!(stand.give(web("b", json!({}), json!({"ipFamilies": ["IPv6"]}))).await, ["fd00::2"]);
    // Another family is added, and the address stays.
    assert_eq!(stand.give(web("b", json!({}), both("PreferDualStack"))).await, ["fd00::2", "10.0.0.2"]);
    assert_eq!(stand.give(plain("c")).await, ["10.0.0.3"]);
    assert_eq!(stand.give(web("d", json!({}), both("PreferDualStack"))).await, ["fd00::3"], "one will do");
    stand.make(web("e", json!({}), both("RequireDualStack")));
    assert!(stand.refused("e").await.contains("an address of IPv4: pool lab has 3"));
    let four = self::stand("pools: [{name: lab, addresses: [10.0.0.0/24]}]");
    four.make(web("a", json!({}), json!({"ipFamilies": ["IPv6"]})));
    let words = four.refused("a").await;
    assert!(words.contains("the pools that are for it have none (lab); add a range of IPv6"), "{words}");
}

#[tokio::test]
async fn what_a_service_asks_for_it_gets_or_is_told_why_not() {
    let stand = stand(
        "pools:
- {name: lab, addresses: [10.0.0.1-10.0.0.9], priority: 2}
- {name: first, addresses: [10.1.0.0/31], priority: 1, avoidNetworkAddresses: true}
- {name: asked, addresses: [10.2.0.0/24], autoAssign: false}
- {name: shop, addresses: [10.3.0.0/24], namespaces: [shop]}
- {name: front, addresses: [10.4.0.0/24], autoAssign: false, serviceSelector: {matchLabels: {tier: front}}}
",
    );
    assert_eq!(stand.give(plain("a")).await, ["10.1.0.1"], "of the first, and not its .0");
    assert_eq!(stand.give(plain("b")).await, ["10.0.0.1"], "the first is full");
    assert_eq!(stand.give(annotated("c", service::POOL, "asked")).await, ["10.2.0.0"]);
    assert_eq!(stand.give(annotated("d", service::ADDRESSES, "10.2.0.7")).await, ["10.2.0.7"]);
    assert_eq!(stand.give(web("e", json!({}), json!({"loadBalancerIP": "10.0.0.7"}))).await, ["10.0.0.7"]);
    let labels = json!({"labels": {"tier": "front"}, "annotations": {service::POOL: "front"}});
    assert_eq!(stand.give(web("f", labels, json!({}))).await, ["10.4.0.0"]);
    // What it asks for later it gets, and gives back what it had.
    assert_eq!(stand.give(annotated("b", service::ADDRESSES, "10.0.0.5")).await, ["10.0.0.5"]);
    assert_eq!(stand.give(plain("g")).await, ["10.0.0.1"]);
    assert_eq!(stand.give(annotated("g", service::POOL, "asked")).await, ["10.2.0.1"]);
    assert_eq!(stand.give(plain("g")).await, ["10.2.0.1"], "and it keeps that");
    for (service, words) in [
        (
            annotated("x", service::ADDRESSES, "10.9.0.1"),
            "it is of no pool; ask for one of 10.0.0.1-10.0.0.9",
        ),
        (annotated("x", service::ADDRESSES, "10.1.0.0"), "it is of no pool"),
        (annotated("x", service::ADDRESSES, "10.0.0.5"), "service default/b has it; to share it"),
        (annotated("x", service::ADDRESSES, "nine"), "\"nine\" is no address"),
        (annotated("x", service::ADDRESSES, "fd00::1"), "which the service's ipFamilies do not have"),
        (annotated("x", service::ADDRESSES, "10.0.0.8,10.0.0.9"), "one address of each family"),
        (annotated("x", service::ADDRESSES, "10.3.0.1"), "not for services in namespace \"default\""),
        (annotated("x", service::POOL, "shop"), "not for services in namespace \"default\""),
        (annotated("x", service::POOL, "front"), "with label tier=front"),
        (
            annotated("x", service::POOL, "none"),
            "there is no pool \"none\"; those that there are: lab, first",
        ),
        (
            web("x", json!({"annotations": {service::POOL: "lab"}}), json!({"loadBalancerIP": "10.2.0.9"})),
            "it is of pool asked, and annotation metal.sextant.dev/pool asks for lab",
        ),
    ] {
        stand.make(service);
        let error = stand.refused("x").await;
        assert!(error.contains(words), "{words}: {error}");
    }
    let none = self::stand("pools: [{name: asked, addresses: [10.2.0.0/24], autoAssign: false}]");
    none.make(plain("a"));
    assert!(none.refused("a").await.contains("no pool is for it; make it one of asked by annotation"));
}

#[tokio::test]
async fn an_address_is_shared_where_both_say_so_and_ports_differ() {
    let stand = stand(POOLS);
    let shared = |name: &str, key: &str, port: Value, more: Value| {
        let mut spec = json!({"ports": [port]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        web(name, json!({"annotations": {service::SHARE: key}}), spec)
    };
    let tcp = |port: u16| json!({"port": port});
    let udp = |port: u16| json!({"port": port, "protocol": "UDP"});
    assert_eq!(stand.give(shared("dns-tcp", "dns", tcp(53), json!({}))).await, ["10.0.0.1"]);
    assert_eq!(stand.give(shared("dns-udp", "dns", udp(53), json!({}))).await, ["10.0.0.1"]);
    assert_eq!(stand.give(shared("other", "web", tcp(80), json!({}))).await, ["10.0.0.2"], "another word");
    assert_eq!(stand.give(shared("same-port", "dns", tcp(53), json!({}))).await, ["10.0.0.3"]);
    let local = |selector: &str| json!({"externalTrafficPolicy": "Local", "selector": {"app": selector}});
    stand.make(shared("local", "dns", tcp(54), local("a")));
    assert!(stand.refused("local").await.contains("pool lab has 3"));
    let mut asks = shared("local", "dns", tcp(54), local("a"));
    asks.metadata.annotations.as_mut().unwrap().insert(service::ADDRESSES.into(), "10.0.0.1".into());
    stand.make(asks);
    assert!(stand.refused("local").await.contains("give both externalTrafficPolicy Cluster"));
    stand.take("other").await;
    assert_eq!(stand.give(shared("local", "dns", tcp(54), local("a"))).await, ["10.0.0.2"]);
    assert_eq!(stand.give(shared("local-2", "dns", tcp(55), local("a"))).await, ["10.0.0.2"]);
    // One that takes a port that the others have there moves.
    assert_eq!(stand.give(shared("dns-udp", "dns", udp(53), json!({}))).await, ["10.0.0.1"]);
    stand.make(shared("dns-udp", "dns", tcp(53), json!({})));
    assert!(stand.refused("dns-udp").await.contains("pool lab has 3"), "both others have that port");
}

/// Two leaders at once could have written this: one of both moves, and not both.
#[tokio::test]
async fn of_two_with_the_same_address_one_moves() {
    let stand = stand(POOLS);
    for name in ["a", "b"] {
        stand.make(plain(name));
        stand.write(name, &["10.0.0.1".into()]);
    }
    assert_eq!(stand.ask("a").await.unwrap(), ["10.0.0.2"]);
    assert_eq!(stand.ask("b").await.unwrap(), ["10.0.0.1"], "the other is about to leave it");
    stand.make(plain("c"));
    assert_eq!(stand.ask("c").await.unwrap(), ["10.0.0.3"]);
}

#[tokio::test]
async fn an_address_is_kept_whatever_becomes_of_the_file() {
    let mut stand = stand(POOLS);
    stand.give(plain("a")).await;
    let other = "pools: [{name: other, addresses: [10.9.0.0/24]}]";
    stand.replace(other);
    stand.make(plain("b"));
    assert_eq!(stand.ask("b").await.unwrap(), ["10.0.0.2"], "the file takes away what default/a has");
    assert!(!stand.metal.is_of_nodes());
    let trouble = stand.metal.trouble().unwrap();
    assert!(trouble.contains("(default/a has 10.0.0.1)") && trouble.ends_with("holds on"), "{trouble}");
    assert_eq!(stand.metal.revision(), 0, "nothing of it is in use");
    // After a start there is no other file.
    stand.again();
    assert_eq!(stand.ask("b").await.unwrap(), ["10.9.0.0"]);
    let error = stand.refused("a").await;
    assert!(error.contains("has 10.0.0.1, which is of no pool: add it to one"), "{error}");
    stand.make(annotated("a", service::POOL, "other"));
    assert_eq!(stand.give(annotated("a", service::POOL, "other")).await, ["10.9.0.1"]);
    // A pool more is taken at once, and so is another order.
    stand.replace("pools: [{name: new, addresses: [10.8.0.0/24]}, {name: other, addresses: [10.9.0.0/24]}]");
    assert_eq!(stand.give(plain("c")).await, ["10.8.0.0"]);
}

/// Which pools are for a service is asked only when it gets an address, however it has come to it.
#[tokio::test]
async fn an_address_is_kept_where_its_pool_is_for_others_now() {
    let mut stand = stand("pools: [{name: lab, addresses: [10.0.0.1-10.0.0.9, 'fd00::/64']}]");
    let both = |name: &str, key: &str, value: &str| {
        let families = json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"});
        web(name, json!({"annotations": {key: value}}), families)
    };
    for (service, address) in [
        (plain("plain"), "10.0.0.1"),
        (annotated("pool", service::POOL, "lab"), "10.0.0.2"),
        (annotated("address", service::ADDRESSES, "10.0.0.7"), "10.0.0.7"),
    ] {
        assert_eq!(stand.give(service).await, [address]);
    }
    let pools = "pools: [{name: lab, addresses: [10.0.0.1-10.0.0.9, 'fd00::/64'], namespaces: [shop]}]";
    stand.replace(pools);
    for is_new in [false, true] {
        if is_new {
            stand.again();
        }
        for (name, address) in [("plain", "10.0.0.1"), ("pool", "10.0.0.2"), ("address", "10.0.0.7")] {
            assert_eq!(stand.ask(name).await.unwrap(), [address], "{name}");
        }
    }
    // What it has not yet it does not get, and neither does another service.
    let words = "not for services in namespace \"default\"";
    stand.make(both("pool", service::POOL, "lab"));
    assert_eq!(stand.ask("pool").await.unwrap(), ["10.0.0.2"], "one will do");
    for service in [
        annotated("address", service::ADDRESSES, "10.0.0.8"),
        annotated("new", service::POOL, "lab"),
        annotated("new", service::ADDRESSES, "10.0.0.9"),
    ] {
        let name = service.metadata.name.clone().unwrap();
        stand.make(service);
        let error = stand.refused(&name).await;
        assert!(error.contains(words), "{name}: {error}");
    }
    stand.make(plain("new"));
    assert!(stand.refused("new").await.contains("no pool is for it"));
}

#[tokio::test]
async fn without_pools_services_have_the_nodes_addresses() {
    let stand = stand("{}");
    stand.metal.live.settle();
    assert!(stand.metal.is_of_nodes());
    let nodes = [
        node("n1", &[("InternalIP", "10.0.0.1"), ("ExternalIP", "192.0.2.1"), ("InternalIP", "fd00::1")]),
        node("n2", &[("Hostname", "n2"), ("InternalIP", "10.0.0.2")]),
    ];
    stand.make(plain("a"));
    let got = stand.ask_for("a", &nodes).await.unwrap();
    assert_eq!(got, ["10.0.0.2", "192.0.2.1"]);
    stand.write("a", &got);
    stand.make(web("b", json!({}), json!({"ports": [{"port": 81}], "ipFamilies": ["IPv4", "IPv6"]})));
    assert!(stand.ask_for("b", &nodes).await.unwrap().len() >= 2);
    // Each port is one service's.
    stand.make(plain("c"));
    let error = stand.ask_for("c", &nodes).await.unwrap_err().to_string();
    assert!(error.contains("port 80/TCP of 10.0.0.2 is that of service default/a"), "{error}");
    stand.make(web("c", json!({}), json!({"loadBalancerIP": "10.0.0.2", "ports": [{"port": 82}]})));
    assert_eq!(stand.ask_for("c", &nodes).await.unwrap(), ["10.0.0.2"]);
    for (service, words) in [
        (annotated("d", service::POOL, "lab"), "there is no pool \"lab\", and no other"),
        (annotated("d", service::ADDRESSES, "10.0.0.9"), "no node has it, and there are no pools"),
        (
            web("d", json!({}), json!({"ipFamilies": ["IPv6"], "ports": [{"port": 83}]})),
            "no node has one of IPv6",
        ),
    ] {
        stand.make(service);
        let error = stand.ask_for("d", &nodes[1..]).await.unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    // Without nodes there is none, and another follows when one comes.
    assert_eq!(stand.ask_for("a", &[]).await.unwrap(), Vec::<String>::new());
    assert_eq!(stand.ask_for("a", &nodes[1..]).await.unwrap(), ["10.0.0.2"]);
    // Pools come: what is a node's is let go.
    stand.replace(POOLS);
    assert!(!stand.metal.is_of_nodes());
    assert_eq!((stand.metal.revision(), stand.metal.trouble()), (1, None));
    assert_eq!(stand.ask_for("a", &nodes[1..]).await.unwrap(), ["10.0.0.1"]);
    let asks = stand.ask_for("c", &nodes[1..]).await.unwrap_err().to_string();
    assert!(asks.contains("cannot give the service 10.0.0.2: a node has it"), "{asks}");
    stand.make(plain("c"));
    assert_eq!(stand.ask_for("c", &nodes[1..]).await.unwrap(), ["10.0.0.3"], "10.0.0.2 is a node's");
}

/// Pools come that are for others: clients know the nodes' addresses, and nothing is for it that could take their place.
#[tokio::test]
async fn a_service_that_no_pool_is_for_stays_with_the_nodes_addresses_and_follows_them() {
    let mut stand = stand("{}");
    stand.metal.live.settle();
    let one = |last: &u8| {
        let address = format!("192.0.2.{last}");
        node(&format!("n{last}"), &[("InternalIP", address.as_str())])
    };
    let nodes = |last: &[u8]| -> Vec<Node> { last.iter().map(one).collect() };
    stand.make(plain("a"));
    let got = stand.ask_for("a", &nodes(&[1, 2])).await.unwrap();
    assert_eq!(got, ["192.0.2.1", "192.0.2.2"]);
    stand.write("a", &got);
    let pools = |namespace: &str| {
        format!("pools: [{{name: lab, addresses: [10.0.0.0/24], namespaces: [{namespace}]}}]")
    };
    stand.replace(&pools("shop"));
    assert!(!stand.metal.follows_nodes(&stand.get("a")), "it is asked for once more");
    for is_new in [false, true] {
        if is_new {
            stand.again();
        }
        // One node goes, another comes.
        let got = stand.ask_for("a", &nodes(&[2, 3])).await.unwrap();
        assert_eq!(got, ["192.0.2.2", "192.0.2.3"], "after a start: {is_new}");
        assert!(stand.metal.follows_nodes(&stand.get("a")) && !stand.metal.is_of_nodes());
        stand.write("a", &got);
    }
    // All are others, or there are none for a while.
    for last in [&[7][..], &[], &[8]] {
        let got = stand.ask_for("a", &nodes(last)).await.unwrap();
        assert_eq!(got, last.iter().map(|last| format!("192.0.2.{last}")).collect::<Vec<_>>());
        stand.write("a", &got);
    }
    // Who had none before gets none.
    stand.make(plain("new"));
    assert!(stand.refused("new").await.contains("no pool is for it"));
    assert!(!stand.metal.follows_nodes(&stand.get("new")));
    // What it asks for it gets or is told why not.
    stand.make(annotated("a", service::POOL, "lab"));
    assert!(!stand.metal.follows_nodes(&stand.get("a")));
    let error = stand.ask_for("a", &nodes(&[8])).await.unwrap_err().to_string();
    assert!(error.contains("not for services in namespace \"default\""), "{error}");
    stand.make(plain("a"));
    assert_eq!(stand.ask_for("a", &nodes(&[8])).await.unwrap(), ["192.0.2.8"]);
    // A pool comes that is for it.
    stand.replace(&pools("default"));
    assert!(!stand.metal.follows_nodes(&stand.get("a")));
    assert_eq!(stand.ask_for("a", &nodes(&[8])).await.unwrap(), ["10.0.0.0"]);
    stand.write("a", &["10.0.0.0".into()]);
    // What it has of a pool it keeps, and moves to no node that takes that.
    stand.replace(&pools("shop"));
    assert_eq!(stand.ask_for("a", &nodes(&[8])).await.unwrap(), ["10.0.0.0"]);
    let taken = [node("n1", &[("InternalIP", "10.0.0.0")])];
    let error = stand.ask_for("a", &taken).await.unwrap_err().to_string();
    assert!(error.contains("no pool is for it"), "{error}");
}

/// The controllers are started while somebody writes their file, from its beginning on.
#[tokio::test]
async fn a_start_with_half_a_file_takes_no_address_away() {
    let mut stand = stand(POOLS);
    assert_eq!(stand.give(plain("a")).await, ["10.0.0.1"]);
    let nodes = [node("n1", &[("InternalIP", "10.0.0.7")])];
    let half = "instances:\n- {name: n1}\n";
    std::fs::write(&stand.file, half).unwrap();
    stand.again();
    let error = stand.ask_for("a", &nodes).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains("cannot take 10.0.0.1 away from the service: "), "{words}");
    assert!(words.contains("metal.yaml names no pools, and may still be being written"), "{words}");
    assert!(matches!(error, Error::RetryAfter { after, .. } if after == WRITTEN), "{error:?}");
    // Who has none gets the nodes' meanwhile.
    stand.make(web("b", json!({}), json!({"ports": [{"port": 81}]})));
    assert_eq!(stand.ask_for("b", &nodes).await.unwrap(), ["10.0.0.7"]);
    // The rest is written.
    stand.replace(&format!("{half}{POOLS}\n"));
    assert_eq!(stand.ask_for("a", &nodes).await.unwrap(), ["10.0.0.1"]);
    // And if that was all, it is meant.
    std::fs::write(&stand.file, half).unwrap();
    stand.again();
    stand.metal.live.settle();
    stand.make(web("a", json!({}), json!({"ports": [{"port": 82}]})));
    assert_eq!(stand.ask_for("a", &nodes).await.unwrap(), ["10.0.0.7"]);
}

#[tokio::test]
async fn both_families_are_to_be_had_where_both_are_required() {
    let stand = stand("{}");
    stand.metal.live.settle();
    let both = |name: &str, policy: &str| {
        web(name, json!({}), json!({"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": policy}))
    };
    let four = [node("n1", &[("InternalIP", "10.0.0.1")])];
    let six = [node("n1", &[("InternalIP", "10.0.0.1"), ("InternalIP", "fd00::1")])];
    stand.make(both("a", "RequireDualStack"));
    let error = stand.ask_for("a", &four).await.unwrap_err();
    let words = error.to_string();
    assert!(words.contains("an address of IPv6: no node has one"), "{words}");
    assert!(words.contains("RequireDualStack wants both families; make it PreferDualStack"), "{words}");
    assert!(matches!(error, Error::Failed(_)), "it is no use to ask again soon: {error:?}");
    assert_eq!(stand.ask_for("a", &six).await.unwrap(), ["10.0.0.1", "fd00::1"]);
    stand.make(both("a", "PreferDualStack"));
    assert_eq!(stand.ask_for("a", &four).await.unwrap(), ["10.0.0.1"], "one will do");
}

/// Load balancers are not led to nodes of control planes, which have their addresses all the same.
#[tokio::test]
async fn an_address_of_any_node_is_not_given_out() {
    let stand = stand(POOLS);
    stand.told.1.lock().unwrap().push(Arc::new(node("control", &[("InternalIP", "10.0.0.1")])));
    let led = [node("worker", &[("ExternalIP", "10.0.0.2")])];
    stand.make(plain("a"));
    assert_eq!(stand.ask_for("a", &led).await.unwrap(), ["10.0.0.3"]);
    stand.write("a", &["10.0.0.3".into()]);
    stand.make(annotated("b", service::ADDRESSES, "10.0.0.1"));
    let words = stand.ask_for("b", &led).await.unwrap_err().to_string();
    assert!(words.contains("cannot give the service 10.0.0.1: a node has it"), "{words}");
    // A node gets the address of a service: that moves, if there is room.
    stand.told.1.lock().unwrap().push(Arc::new(node("late", &[("InternalIP", "10.0.0.3")])));
    assert_eq!(stand.ask_for("a", &[]).await.unwrap(), ["10.0.0.2"]);
}

#[tokio::test]
async fn behind_a_socket_it_gives_nothing_rather_than_the_same_twice() {
    let metal = Metal::open(None).unwrap();
    let error = metal.ensure_load_balancer("c", &plain("a"), &[]).await.unwrap_err();
    assert!(error.to_string().contains("--cloud-provider metal"), "{error}");
}
