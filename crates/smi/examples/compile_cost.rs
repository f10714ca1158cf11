//! What a change of one object among many costs: `cargo run --release -p smi --example compile_cost [SERVICES] [PODS_EACH]`.
//!
//! All Services are in one namespace, which is the worst case: each has pods, a slice, an HTTPRoute of three rules or a TrafficSplit, a
//! group of requests and a TrafficTarget. A change is from the entered object to the delta. Printed are the median and the largest of
//! 200 for each kind of change, and what a request's rule and a peer's right cost to find.
#![allow(clippy::unwrap_used, reason = "an example ends by panicking")]

use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smi::compile::{
    Change, Compiler, Pod, Service, ServiceKind, ServicePort, Settings, Slice, SliceEndpoint, SlicePort,
};
use smi::contract::{Name, read};
use smi::gate::{Gate, Peer};
use smi::matching::{Head, Matcher};
use smi::model::{Entry, Key, Routing, Transport};

const CHANGES: usize = 200;
const NAMESPACE: &str = "shop";

fn main() {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<usize>().unwrap());
    let (services, pods) = (words.next().unwrap_or(1000), words.next().unwrap_or(5));
    let mut compiler = Compiler::new(Settings::default());
    let began = Instant::now();
    (0..services).flat_map(|n| everything(n, services, pods)).for_each(|change| compiler.enter(change));
    let entered = began.elapsed();
    let outcome = compiler.compile();
    println!(
        "{services} Services of {pods} pods: {} objects read in {entered:?}, {} entries compiled in {:?}",
        outcome.reports.len(),
        compiler.model().len(),
        began.elapsed() - entered
    );
    let whole = serde_json::to_vec(&compiler.model().whole()).unwrap();
    println!("all of it as JSON: {} kB", whole.len() / 1024);
    let mut measure = |what: &str, change: &dyn Fn(usize, usize) -> Change| {
        let (mut times, mut entries, mut bytes) = (Vec::new(), 0, 0);
        for round in 0..CHANGES {
            let change = change(round * 7 % services, round);
            let began = Instant::now();
            compiler.enter(change);
            let outcome = compiler.compile();
            times.push(began.elapsed());
            assert!(!outcome.delta.is_empty(), "{what} changes nothing");
            entries += outcome.delta.set.len();
            bytes += serde_json::to_vec(&outcome.delta).unwrap().len();
        }
        let (median, most) = median(&mut times);
        println!(
            "{what:16} median {median:>10.1?}  most {most:>10.1?}  entries {:>5.1}  bytes {:>6}",
            entries as f64 / CHANGES as f64,
            bytes / CHANGES
        );
    };
    measure("Service", &|n, round| {
        service(n, &[80, 81 + u16::try_from(round % 2).unwrap() + u16::try_from(n % 2).unwrap()])
    });
    measure("EndpointSlice", &|n, round| slice(n, pods + 1 + round));
    measure("Pod", &|n, round| pod(n, 0, &format!("a{}", (n + round + 1) % services)));
    measure("HTTPRoute", &|n, round| object(route(n / 2 * 2, services, 10 + round)));
    measure("TrafficSplit", &|n, round| object(split(n / 2 * 2 + 1, services, 10 + round)));
    measure("HTTPRouteGroup", &|n, round| object(group(n, &format!("/changed{round}"))));
    measure("TrafficTarget", &|n, round| object(target(n, (n + round + 2) % services)));
    find(&compiler);
}

fn median(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], *times.last().unwrap())
}

fn everything(n: usize, services: usize, pods: usize) -> Vec<Change> {
    let mut all = vec![
        service(n, &[80]),
        slice(n, pods),
        object(group(n, "/api")),
        object(target(n, (n + 1) % services)),
    ];
    all.extend((0..pods).map(|p| pod(n, p, &format!("a{n}"))));
    all.push(object(if n.is_multiple_of(2) { route(n, services, 1) } else { split(n, services, 1) }));
    all
}

fn address(n: usize, p: usize) -> IpAddr {
    IpAddr::from([
        10,
        u8::try_from(n / 256 % 256).unwrap(),
        u8::try_from(n % 256).unwrap(),
        u8::try_from(p % 256).unwrap(),
    ])
}

fn service(n: usize, ports: &[u16]) -> Change {
    let port = |port: &u16| ServicePort {
        name: format!("p{port}"),
        port: *port,
        transport: Transport::Tcp,
        app_protocol: None,
    };
    let service = Service {
        kind: ServiceKind::ClusterIp(vec![address(n, 255)]),
        ports: ports.iter().map(port).collect(),
    };
    Change::Service(Name::new(NAMESPACE, format!("s{n}")), Some(service))
}

fn slice(n: usize, endpoints: usize) -> Change {
    let endpoint = |p| SliceEndpoint {
        address: address(n, p),
        ready: true,
        serving: true,
        pod: Some(format!("s{n}-{p}")),
        node: Some("node".into()),
        zone: None,
    };
    let ports = vec![SlicePort { name: "p80".into(), port: 8080, transport: Transport::Tcp }];
    let slice = Slice { service: format!("s{n}"), ports, endpoints: (0..endpoints).map(endpoint).collect() };
    Change::Slice(Name::new(NAMESPACE, format!("s{n}-slice")), Some(slice))
}

fn pod(n: usize, p: usize, account: &str) -> Change {
    let pod = Pod {
        service_account: account.into(),
        labels: [("app".to_owned(), format!("s{n}"))].into(),
        addresses: vec![address(n, p)],
        node: Some("node".into()),
        host_network: false,
    };
    Change::Pod(Name::new(NAMESPACE, format!("s{n}-{p}")), Some(pod))
}

fn object(value: Value) -> Change {
    let read = read(&value).unwrap();
    Change::Object(read.object.id(), Some(read))
}

fn named(api_version: &str, kind: &str, n: usize, spec: Value) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": format!("o{n}"), "namespace": NAMESPACE}, "spec": spec})
}

fn route(n: usize, services: usize, weight: usize) -> Value {
    let backend = |k: usize, weight: usize| json!({"name": format!("s{}", (n + k) % services), "port": 80, "weight": weight});
    let rules = json!([
        {"matches": [{"path": {"type": "Exact", "value": "/health"}}], "backendRefs": [backend(0, 1)]},
        {"matches": [{"path": {"value": "/api/v2"}, "headers": [{"name": "x-user", "type": "RegularExpression", "value": "beta-.*"}]}],
         "backendRefs": [backend(1, weight), backend(2, 100)]},
        {"backendRefs": [backend(0, 1)]},
    ]);
    let parents = json!([{"group": "", "kind": "Service", "name": format!("s{n}"), "port": 80}]);
    named("gateway.networking.k8s.io/v1", "HTTPRoute", n, json!({"parentRefs": parents, "rules": rules}))
}

fn split(n: usize, services: usize, weight: usize) -> Value {
    let backends = json!([{"service": format!("s{}", (n + 1) % services), "weight": weight}, {"service": format!("s{n}"), "weight": 100}]);
    named(
        "split.smi-spec.io/v1alpha4",
        "TrafficSplit",
        n,
        json!({"service": format!("s{n}"), "backends": backends}),
    )
}

fn group(n: usize, path: &str) -> Value {
    let matches = json!([{"name": "read", "pathRegex": path, "methods": ["GET", "HEAD"]}]);
    named("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", n, json!({"matches": matches}))
}

fn target(n: usize, source: usize) -> Value {
    let account =
        |n: usize| json!({"kind": "ServiceAccount", "name": format!("a{n}"), "namespace": NAMESPACE});
    let rules = json!([{"kind": "HTTPRouteGroup", "name": format!("o{n}")}]);
    let spec = json!({"destination": account(n), "rules": rules, "sources": [account(source)]});
    named("access.smi-spec.io/v1alpha3", "TrafficTarget", n, spec)
}

struct Request;

impl Head for Request {
    fn method(&self) -> &str {
        "GET"
    }
    fn path(&self) -> &str {
        "/api/v2/users/17"
    }
    fn query(&self) -> Option<&str> {
        Some("page=2")
    }
    fn any_header(&self, name: &str, is: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        name == "x-user" && is(b"beta-17")
    }
}

fn find(compiler: &Compiler) {
    const TIMES: u32 = 1_000_000;
    let key = Key::Frontend {
        service: Name::new(NAMESPACE, "s0"),
        port: 80,
        transport: Transport::Tcp,
        consumer: None,
    };
    let Some(Entry::Frontend(frontend)) = compiler.model().get(&key).map(|entry| &**entry) else {
        panic!("{key} is not there")
    };
    let Routing::Http(http) = &frontend.routing else { panic!("{key} has no rules") };
    let matcher = Matcher::new(http.matches.iter().map(|matched| &matched.requests)).unwrap();
    let began = Instant::now();
    let found = (0..TIMES).filter(|_| matcher.find(black_box(&Request)) == Some(1)).count();
    println!("a rule is found in {:?} ({found} of {TIMES})", began.elapsed() / TIMES);
    let policies: Vec<_> = compiler
        .model()
        .iter()
        .filter_map(|(_, entry)| match &**entry {
            Entry::Policy(policy) => Some(policy),
            _ => None,
        })
        .collect();
    let gate = Gate::new(policies.iter().copied().take(10)).unwrap();
    let peer = Peer { identity: Some("spiffe://cluster.local/ns/shop/sa/a1"), address: address(1, 0) };
    let began = Instant::now();
    let refused = (0..TIMES).filter(|_| !gate.request(black_box(&peer), 8080, &Request)).count();
    println!(
        "a request is decided among 10 policies in {:?} ({refused} of {TIMES} refused)",
        began.elapsed() / TIMES
    );
}
