//! `sextant mesh` beside `sextant api` and a CRI runtime: pods in network namespaces of their own go by a TrafficSplit while they are members and
//! it runs, and reach the Service as it is at all other times, whoever is killed.
#![allow(clippy::unwrap_used, reason = "a test")]

mod access;
#[path = "../../../mesh/tests/hbone/authority.rs"]
mod authority;
mod changes;
mod datagrams;
mod definitions;
mod early;
mod held;
mod kills;
#[path = "../../../mesh/tests/hbone/member.rs"]
mod member;
mod metrics;
mod objects;
mod people;
mod plane;
#[path = "../control/rig.rs"]
mod rig;
mod runtime;
mod secured;
mod security;
/// What `member` goes by.
mod site {
    pub(crate) use crate::rig::PATIENCE;
}
mod situations;
mod sources;

use std::cell::RefCell;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use kernel::netlink::{Protocol, Route, Socket};
use kernel::nft::{Family, tables};
use objects::WEB;
use rig::Rig;
use runtime::Runtime;
use testkit::netns::{Netns, addresses, change, index, join};
use testkit::whoami::{ask, connect, has_ended, serve};

/// Pods, and a place with a link to each where the backends are and the Service itself is answered for: what a node's Services do.
struct Pods {
    _far: Netns,
    pods: Vec<Netns>,
    pins: RefCell<Vec<PathBuf>>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        // The rig's folder goes after this.
        for pin in self.pins.take() {
            let done = kernel::namespace::unpin(&pin);
            assert!(done.is_ok() || std::thread::panicking(), "{done:?}");
        }
    }
}

impl Pods {
    fn new(count: u8) -> Self {
        let far = Netns::new();
        far.run(|| addresses("lo", &["10.55.0.3/32", "10.55.0.4/32", "10.96.1.1/32"]));
        for (who, at) in [("v1", "10.55.0.3:8080"), ("v2", "10.55.0.4:8080"), ("direct", "10.96.1.1:80")] {
            let listener = far.run(|| TcpListener::bind(at).unwrap());
            serve(who, listener);
        }
        let pods = (0..count).map(|number| {
            let pod = Netns::new();
            pod.run(|| {
                join("eth0", &far, (&format!("pod{number}"), None), &[&format!("10.55.{}.1/24", number + 1)]);
                addresses("eth0", &[&format!("10.55.{}.2/24", number + 1)]);
                let gateway = Some(format!("10.55.{}.1", number + 1).parse().unwrap());
                let link = Some(index("eth0"));
                change(|batch| {
                    batch.add_route(&Route { link, gateway, ..Route::to("0.0.0.0/0".parse().unwrap()) });
                });
            });
            pod
        });
        let pods = pods.collect();
        Self { _far: far, pods, pins: RefCell::default() }
    }

    /// Pins a pod's namespace at a path of the rig, as a runtime does.
    fn pin(&self, pod: usize, rig: &Rig) -> PathBuf {
        let path = rig.path(&format!("netns-{pod}"));
        let namespace = format!("/proc/self/fd/{}", self.pods[pod].as_fd().as_raw_fd());
        kernel::namespace::pin(Path::new(&namespace), &path).unwrap();
        self.pins.borrow_mut().push(path.clone());
        path
    }

    /// Who answers a pod over a new connection.
    fn asks(&self, pod: usize) -> String {
        self.pods[pod].run(|| ask(&mut connect((WEB, 80))).who)
    }

    /// The tables in a pod.
    fn tables(&self, pod: usize) -> Vec<String> {
        self.pods[pod].run(|| tables(&mut Socket::open(Protocol::Netfilter).unwrap(), Family::Inet).unwrap())
    }
}

async fn until(rig: &Rig, what: &str, is: impl Fn() -> bool) {
    rig.until(what, async |_| is().then_some(())).await;
}

/// An API server with a Service and a split, a runtime, and `sextant mesh`.
async fn cluster(weights: [u32; 2]) -> (Rig, Runtime) {
    cluster_with(weights, &[]).await
}

/// The same, with more arguments of `sextant mesh`.
async fn cluster_with(weights: [u32; 2], more: &[&str]) -> (Rig, Runtime) {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    objects::services(&rig, weights).await;
    let socket = rig.path("cri.sock");
    let runtime = Runtime::start(&socket);
    let args = ["mesh", "--node", "node-1", "--cri", socket.to_str().unwrap()];
    rig.spawn("mesh", &[&args, more].concat());
    rig.words_have("mesh", "Services and routes are known").await;
    (rig, runtime)
}

#[tokio::test]
async fn members_go_by_a_split_and_others_are_not_touched() {
    let (mut rig, runtime) = cluster([1, 0]).await;
    let pods = Pods::new(2);
    objects::pod(&rig, "member", true).await;
    objects::pod(&rig, "other", false).await;
    let path = pods.pin(0, &rig);
    runtime.add("s0", "member", &path);
    runtime.add("s1", "other", &pods.pin(1, &rig));
    rig.words_have("mesh", "serves pod default/member").await;
    assert_eq!((pods.asks(0), pods.asks(1)), ("v1".into(), "direct".into()));
    assert_eq!((pods.tables(0).len(), pods.tables(1).len()), (2, 0));
    // A change holds on connections that are open, too.
    let mut open = pods.pods[0].run(|| connect((WEB, 80)));
    assert_eq!(ask(&mut open).who, "v1");
    objects::weigh(&rig, [0, 1]).await;
    rig.until("all goes to v2", async |_| (pods.asks(0) == "v2").then_some(())).await;
    assert_eq!(ask(&mut open).who, "v2");
    // Labels take pods in and out while they run.
    objects::label(&rig, "other", true).await;
    until(&rig, "the other is served", || pods.asks(1) == "v2").await;
    objects::label(&rig, "member", false).await;
    until(&rig, "the member is not served", || pods.asks(0) == "direct").await;
    assert_eq!(ask(&mut open).who, "v2");
    assert_eq!(pods.tables(0).len(), 1, "what keeps the open connection");
    drop(open);
    until(&rig, "nothing is left in the pod", || pods.tables(0).is_empty()).await;
    // A pod whose sandbox is another now.
    objects::label(&rig, "member", true).await;
    until(&rig, "the member is served again", || pods.asks(0) == "v2").await;
    runtime.add("s2", "member", &path);
    runtime.remove("s0");
    until(&rig, "the new sandbox is served", || {
        rig.words("mesh").matches("serves pod default/member\n").count() == 3
    })
    .await;
    assert_eq!(pods.asks(0), "v2");
    // Its end takes all of it along.
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
    assert_eq!((pods.asks(0), pods.asks(1)), ("direct".into(), "direct".into()));
    assert_eq!((pods.tables(0), pods.tables(1)), (vec![], vec![]));
}

#[tokio::test]
async fn a_kill_leaves_pods_on_their_own_way_and_the_next_one_serves_them() {
    let (mut rig, runtime) = cluster([0, 1]).await;
    let pods = Pods::new(1);
    objects::pod(&rig, "member", true).await;
    runtime.add("s0", "member", &pods.pin(0, &rig));
    for round in 1..=10 {
        until(&rig, "the pod is served", || pods.asks(0) == "v2").await;
        let mut open = pods.pods[0].run(|| connect((WEB, 80)));
        assert_eq!(ask(&mut open).who, "v2");
        rig.kill("mesh");
        // No rule leads to who is not there, from the first connection on, and who was served is told that it is over.
        assert_eq!(pods.asks(0), "direct", "round {round}");
        assert!(has_ended(&mut open), "round {round}");
        assert_eq!(pods.tables(0).len(), 1);
        rig.again("mesh");
    }
    until(&rig, "the pod is served", || pods.asks(0) == "v2").await;
    // What a killed one has left goes with the next command of the instance.
    rig.kill("mesh");
    rig.spawn("images", &["images"]);
    assert_eq!(rig.wait("images").await, Some(0), "{}", rig.words("images"));
    assert_eq!(pods.tables(0), Vec::<String>::new());
    // Two of an instance would undo each other's work.
    rig.again("mesh");
    until(&rig, "the pod is served", || pods.asks(0) == "v2").await;
    let socket = rig.path("cri.sock");
    rig.spawn("second", &["mesh", "--node", "node-1", "--cri", socket.to_str().unwrap()]);
    assert_eq!(rig.wait("second").await, Some(1));
    assert!(rig.words("second").contains("another `sextant mesh`"), "{}", rig.words("second"));
    assert_eq!(pods.asks(0), "v2");
    assert_eq!(rig.end("mesh"), Some(0));
    assert_eq!(pods.tables(0), Vec::<String>::new());
}

#[tokio::test]
async fn changes_hold_while_the_runtime_does_not_answer() {
    let (mut rig, runtime) = cluster([1, 0]).await;
    let pods = Pods::new(1);
    objects::pod(&rig, "member", true).await;
    runtime.add("s0", "member", &pods.pin(0, &rig));
    until(&rig, "the pod is served", || pods.asks(0) == "v1").await;
    runtime.hang(true);
    let (mut weights, mut rounds) = ([0, 1], 0);
    // A call that it does not answer is given up after a while, and made again: a change that has waited for that is no change meanwhile.
    loop {
        let before = runtime.unanswered();
        until(&rig, "the runtime is asked", || runtime.unanswered() > before).await;
        let asked = runtime.unanswered();
        objects::weigh(&rig, weights).await;
        let who = if weights == [1, 0] { "v1" } else { "v2" };
        until(&rig, "the change holds", || pods.asks(0) == who).await;
        if runtime.unanswered() == asked {
            break;
        }
        weights.reverse();
        rounds += 1;
        assert!(rounds < 10, "each change has waited for the runtime");
    }
    // Who is no member any more need not be known to the runtime.
    objects::label(&rig, "member", false).await;
    until(&rig, "the pod goes its own way", || pods.asks(0) == "direct").await;
    runtime.hang(false);
    objects::label(&rig, "member", true).await;
    until(&rig, "the pod is served again", || pods.asks(0) != "direct").await;
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
    assert_eq!(pods.tables(0), Vec::<String>::new());
}

#[tokio::test]
async fn objects_of_a_kind_that_is_served_no_more_are_gone() {
    let (mut rig, runtime) = cluster([1, 0]).await;
    let pods = Pods::new(1);
    objects::pod(&rig, "member", true).await;
    runtime.add("s0", "member", &pods.pin(0, &rig));
    until(&rig, "the pod is served", || pods.asks(0) == "v1").await;
    objects::serve_splits(&rig, false).await;
    // Without the split the Service has the endpoints of both.
    until(&rig, "the split is gone", || pods.asks(0) == "v2").await;
    objects::serve_splits(&rig, true).await;
    until(&rig, "the split is there again", || (0..20).all(|_| pods.asks(0) == "v1")).await;
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
}

/// Whether a child process has ended, though nobody has waited for it.
fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'))
}

#[tokio::test]
async fn a_kill_between_any_two_steps_leaves_nothing_that_the_next_command_does_not_take_back() {
    let (mut rig, runtime) = cluster([0, 1]).await;
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
    let pods = Pods::new(1);
    objects::pod(&rig, "member", true).await;
    runtime.add("s0", "member", &pods.pin(0, &rig));
    let served = |rig: &Rig| rig.words("mesh").matches("serves pod default/member\n").count();
    let mut step = 0;
    loop {
        let before = served(&rig);
        rig.env("SEXTANT_CRASH_AT", &step.to_string());
        rig.again("mesh");
        let pid = rig.pid("mesh");
        let come = async |rig: &Rig| (served(rig) > before || is_dead(pid)).then_some(());
        rig.until("the pod is served, or its server is dead", come).await;
        // What it does as it ends are steps, too.
        let code = rig.end("mesh");
        assert_eq!(pods.asks(0), "direct", "step {step}");
        rig.env("SEXTANT_CRASH_AT", "1000000");
        rig.spawn("images", &["images"]);
        assert_eq!(rig.wait("images").await, Some(0), "{}", rig.words("images"));
        assert_eq!(pods.tables(0), Vec::<String>::new(), "step {step}");
        if code == Some(0) {
            break;
        }
        step += 1;
    }
    assert!(step > 3, "a record and its inverse are more than {step} steps");
}
