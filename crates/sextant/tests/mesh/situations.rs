//! What the public suite of SMI's conformance tries of splits and of groups of requests, with its bugs mended: weights are counted within bounds,
//! `matches` are looked at, and a change is made while requests come. What it tries of access is in `access`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testkit::whoami::{ask, ask_with, connect};

use crate::objects::{self, V1, WEB};
use crate::rig::{PATIENCE, Rig};
use crate::runtime::Runtime;
use crate::{Pods, cluster};

/// Requests that are counted.
const COUNTED: usize = 2000;
/// Clients that ask all the time.
const CLIENTS: usize = 4;
/// A Service whose own endpoint is the first version's alone.
const SHOP: &str = "10.96.1.5";

/// A pod that is served.
async fn served(rig: &Rig, runtime: &Runtime) -> Pods {
    let pods = Pods::new(1);
    objects::pod(rig, "client", true).await;
    runtime.add("s0", "client", &pods.pin(0, rig));
    rig.words_have("mesh", "serves pod default/client").await;
    pods
}

/// Clients that ask the apex until they are told to stop, each over a connection of its own; one whose request fails panics.
pub(crate) struct Clients {
    /// Of each client, how often each version has answered.
    answers: Arc<[[AtomicUsize; 2]; CLIENTS]>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub(crate) fn start(pods: &Pods) -> Self {
        let answers: Arc<[[AtomicUsize; 2]; CLIENTS]> = Arc::default();
        let is_over: Arc<AtomicBool> = Arc::default();
        let one = |number: usize| {
            let (answers, is_over) = (answers.clone(), is_over.clone());
            std::thread::spawn(move || {
                let mut stream = connect((WEB, 80));
                while !is_over.load(Ordering::Relaxed) {
                    let version = match ask(&mut stream).who.as_str() {
                        "v1" => 0,
                        "v2" => 1,
                        other => panic!("{other} has answered"),
                    };
                    answers[number][version].fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        // A thread has the network of who starts it.
        let threads: Vec<_> = pods.pods[0].run(|| (0..CLIENTS).map(&one).collect());
        Self { answers, is_over, threads }
    }

    /// How often each version has answered each client.
    fn each(&self) -> Vec<[usize; 2]> {
        let of = |its: &[AtomicUsize; 2]| its.each_ref().map(|count| count.load(Ordering::Relaxed));
        self.answers.iter().map(of).collect()
    }

    /// How often each version has answered.
    fn answers(&self) -> [usize; 2] {
        self.each().iter().fold([0, 0], |all, its| [all[0] + its[0], all[1] + its[1]])
    }

    /// Waits until both versions together have answered so often again; how often each has.
    async fn count(&self, rig: &Rig, many: usize) -> [usize; 2] {
        let before = self.answers();
        let more = || {
            let now = self.answers();
            [now[0] - before[0], now[1] - before[1]]
        };
        let counted = async |_: &Rig| {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a request has failed");
            let more = more();
            (more[0] + more[1] >= many).then_some(more)
        };
        rig.until("the clients are answered", counted).await
    }

    /// Waits until one version alone answers each of the clients: what one of them has asked before may be answered late, however much the
    /// others are answered meanwhile.
    pub(crate) async fn until_only(&self, rig: &Rig, version: usize) {
        let began = Instant::now();
        loop {
            let before = self.each();
            let answered = async |_: &Rig| {
                assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a request has failed");
                let now = self.each();
                let sum = |its: &[usize; 2]| its[0] + its[1];
                let is_done = now.iter().zip(&before).all(|(now, before)| sum(now) >= sum(before) + 10);
                is_done.then_some(now)
            };
            let now = rig.until("each client is answered", answered).await;
            if now.iter().zip(&before).all(|(now, before)| now[1 - version] == before[1 - version]) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "the other version is asked yet");
        }
    }

    /// Waits until a version answers that has not.
    async fn until_also(&self, rig: &Rig, version: usize) {
        let before = self.answers()[version];
        let answers = async |_: &Rig| (self.answers()[version] > before).then_some(());
        rig.until("the other version answers, too", answers).await;
    }

    /// No request has failed.
    pub(crate) fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// Whether so many of all are what a weight in a hundred gives: five standard deviations, and the requests that were under way.
fn fits(counted: [usize; 2], weight: f64) -> bool {
    let (all, share) = ((counted[0] + counted[1]) as f64, weight / 100.0);
    (counted[0] as f64 - all * share).abs() <= 5.0 * (all * share * (1.0 - share)).sqrt() + CLIENTS as f64
}

#[tokio::test]
async fn a_split_is_kept_to_and_changed_while_requests_come() {
    let (mut rig, runtime) = cluster([100, 0]).await;
    let pods = served(&rig, &runtime).await;
    let clients = Clients::start(&pods);
    clients.until_only(&rig, 0).await;
    let counted = clients.count(&rig, COUNTED).await;
    assert_eq!(counted[1], 0, "100/0");
    objects::weigh(&rig, [75, 25]).await;
    clients.until_also(&rig, 1).await;
    let counted = clients.count(&rig, COUNTED).await;
    assert!(fits(counted, 75.0), "75/25: {counted:?}");
    objects::weigh(&rig, [0, 100]).await;
    clients.until_only(&rig, 1).await;
    let counted = clients.count(&rig, COUNTED).await;
    assert_eq!(counted[0], 0, "0/100");
    objects::weigh(&rig, [25, 75]).await;
    clients.until_also(&rig, 0).await;
    let counted = clients.count(&rig, COUNTED).await;
    assert!(fits(counted, 25.0), "25/75: {counted:?}");
    // Without a split all of the apex's endpoints are asked, and a split of nothing is none.
    objects::weigh(&rig, [100, 0]).await;
    clients.until_only(&rig, 0).await;
    objects::weigh(&rig, [0, 0]).await;
    clients.until_also(&rig, 1).await;
    objects::weigh(&rig, [0, 100]).await;
    clients.until_only(&rig, 1).await;
    objects::splits(&rig).delete("web", &Default::default()).await.unwrap();
    clients.until_also(&rig, 0).await;
    clients.until_also(&rig, 1).await;
    clients.end();
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
}

/// A request, and who answers it.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

/// The split of the shop goes by these groups from now on: by the first case it is seen that it does, before which the other version has answered it.
async fn goes_by(rig: &Rig, pods: &Pods, groups: &[&str], cases: &[Case<'_>]) {
    let matches: Vec<Value> =
        groups.iter().map(|name| json!({"kind": "HTTPRouteGroup", "name": name})).collect();
    let patch = Patch::Merge(json!({"spec": {"matches": matches}}));
    objects::splits(rig).patch("shop", &PatchParams::default(), &patch).await.unwrap();
    let who = |(method, target, headers, _): &Case<'_>| {
        pods.pods[0].run(|| ask_with(&mut connect((SHOP, 80)), method, target, headers).who)
    };
    let seen = async |_: &Rig| (who(&cases[0]) == cases[0].3).then_some(());
    rig.until(&format!("the split goes by {groups:?}"), seen).await;
    for case in cases {
        assert_eq!(who(case), case.3, "{groups:?}: {case:?}");
    }
}

/// The groups of requests.
async fn groups(rig: &Rig) {
    let kind = objects::resource("specs.smi-spec.io", "v1alpha4", "HTTPRouteGroup", "httproutegroups");
    let groups: Api<DynamicObject> = Api::namespaced_with(rig.client.clone(), "default", &kind);
    let cart = json!({"name": "all", "pathRegex": "/cart", "methods": ["POST"],
        "headers": {"user-agent": ".*Firefox.*"}});
    for (name, matches) in [
        ("paths", json!([{"name": "metrics", "pathRegex": "/metrics"}])),
        ("methods", json!([{"name": "read", "methods": ["GET"]}])),
        ("headers", json!([{"name": "new", "headers": {"x-version": "new.*"}}])),
        ("cart", json!([cart])),
    ] {
        let group: DynamicObject = serde_json::from_value(json!({"apiVersion": "specs.smi-spec.io/v1alpha4",
            "kind": "HTTPRouteGroup", "metadata": {"name": name}, "spec": {"matches": matches}}))
        .unwrap();
        groups.create(&PostParams::default(), &group).await.unwrap();
    }
    // As the suite has it: not in the specification.
    let group: DynamicObject = serde_json::from_value(json!({"apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup", "metadata": {"name": "outside"},
        "matches": [{"name": "echo", "pathRegex": "/echo", "methods": ["GET"]}]}))
    .unwrap();
    groups.create(&PostParams::default(), &group).await.unwrap();
}

#[tokio::test]
async fn requests_are_split_by_path_method_and_headers_and_others_go_to_the_apex() {
    let (mut rig, runtime) = cluster([1, 1]).await;
    let pods = served(&rig, &runtime).await;
    objects::service(&rig, "shop", SHOP, &[V1.0]).await;
    groups(&rig).await;
    let split: DynamicObject = serde_json::from_value(json!({"apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit", "metadata": {"name": "shop"},
        "spec": {"service": "shop", "backends": [{"service": "web-v2", "weight": 1}],
            "matches": [{"kind": "HTTPRouteGroup", "name": "none"}]}}))
    .unwrap();
    objects::splits(&rig).create(&PostParams::default(), &split).await.unwrap();
    let (new, old, other) = ([("x-version", "new-2")], [("x-version", "old")], [("x-version", "brand new")]);
    let (named, firefox) = ([("X-Version", "newest")], [("User-Agent", "a Firefox here")]);
    goes_by(
        &rig,
        &pods,
        &["paths"],
        &[
            ("GET", "/metrics", &[], "v2"),
            ("POST", "/metrics", &[], "v2"),
            ("GET", "/metrics/more", &[], "v2"),
            ("GET", "/metrics?of=all", &[], "v2"),
            ("GET", "/", &[], "v1"),
            ("GET", "/more/metrics", &[], "v1"),
            ("GET", "/?at=/metrics", &[], "v1"),
        ],
    )
    .await;
    goes_by(
        &rig,
        &pods,
        &["methods"],
        &[
            ("GET", "/", &[], "v2"),
            ("GET", "/metrics", &[], "v2"),
            ("POST", "/", &[], "v1"),
            ("DELETE", "/metrics", &[], "v1"),
        ],
    )
    .await;
    goes_by(
        &rig,
        &pods,
        &["headers"],
        &[
            ("GET", "/", &[], "v1"),
            ("GET", "/", &new, "v2"),
            ("POST", "/", &named, "v2"),
            ("GET", "/", &old, "v1"),
            ("GET", "/", &other, "v1"),
        ],
    )
    .await;
    // All that one match says must be so.
    goes_by(
        &rig,
        &pods,
        &["cart"],
        &[
            ("POST", "/cart", &firefox, "v2"),
            ("GET", "/cart", &firefox, "v1"),
            ("POST", "/", &firefox, "v1"),
            ("POST", "/cart", &[], "v1"),
            ("GET", "/", &new, "v1"),
        ],
    )
    .await;
    // Of several groups one is enough.
    goes_by(
        &rig,
        &pods,
        &["paths", "headers"],
        &[
            ("GET", "/metrics", &[], "v2"),
            ("GET", "/", &new, "v2"),
            ("POST", "/cart", &firefox, "v1"),
            ("GET", "/", &[], "v1"),
        ],
    )
    .await;
    goes_by(
        &rig,
        &pods,
        &["outside"],
        &[("GET", "/echo", &[], "v2"), ("POST", "/echo", &[], "v1"), ("GET", "/metrics", &[], "v1")],
    )
    .await;
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
}
