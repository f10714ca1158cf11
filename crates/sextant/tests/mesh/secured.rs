//! Members of two nodes that follow one control plane: they prove who they are to each other, and an author of objects says who may ask what.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kernel::netlink::{Kind, NewLink, Protocol, Route, SetLink, Socket};
use kernel::nft::{Family, tables};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testkit::netns::{Netns, addresses, change, index, join};
use testkit::whoami::{Answer, ask, connect, serve};

use crate::objects::{self, WEB, resource};
use crate::rig::Rig;
use crate::runtime::Runtime;
use crate::until;

/// Pods, the account of each being its name, their nodes and addresses.
pub(crate) const CLIENT: (&str, &str, &str) = ("client", "node-1", "10.55.0.2");
pub(crate) const OTHER: (&str, &str, &str) = ("other", "node-1", "10.55.0.4");
pub(crate) const SERVER: (&str, &str, &str) = ("server", "node-2", "10.55.0.3");
/// Where the server listens.
pub(crate) const PORT: u16 = 8080;

/// The pods at a bridge, which has an address that is no pod's.
pub(crate) struct Site {
    pub(crate) wire: Netns,
    pub(crate) client: Netns,
    pub(crate) other: Netns,
    pub(crate) server: Netns,
}

impl Site {
    pub(crate) fn new() -> Self {
        let [wire, client, other, server] = std::array::from_fn(|_| Netns::new());
        wire.run(|| {
            let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
            change(|batch| batch.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) }));
            addresses("br0", &["10.55.0.1/24"]);
            for ((name, _, address), pod) in [(CLIENT, &client), (OTHER, &other), (SERVER, &server)] {
                join(name, pod, ("eth0", None), &[&format!("{address}/24")]);
                let bridge = index("br0");
                change(|batch| batch.set_link(&SetLink::named(name).master(bridge)));
            }
        });
        for pod in [&client, &other] {
            // As a pod's default route says.
            pod.run(|| {
                let services = "10.96.0.0/16".parse().unwrap();
                let route = Route { link: Some(index("eth0")), ..Route::to(services) };
                change(|batch| batch.add_route(&route));
            });
        }
        serve("server", server.run(|| TcpListener::bind((SERVER.2, PORT)).unwrap()));
        Self { wire, client, other, server }
    }

    /// The tables in the server's pod.
    pub(crate) fn tables(&self) -> Vec<String> {
        self.server.run(|| tables(&mut Socket::open(Protocol::Netfilter).unwrap(), Family::Inet).unwrap())
    }

    /// Whether somebody who is no member is let into the server's pod.
    pub(crate) fn lets_in_strangers(&self) -> bool {
        !self.is_closed() && get(&self.wire, (SERVER.2, PORT), "/allowed") == Some(200)
    }

    /// Whether somebody who is no member is told that nobody listens there.
    fn is_closed(&self) -> bool {
        let refused = self.wire.run(|| TcpStream::connect((SERVER.2, PORT)).err());
        refused.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }
}

/// The status that a GET over a connection of its own is answered with; `None` where that ends without an answer.
pub(crate) fn get(from: &Netns, to: (&str, u16), path: &str) -> Option<u16> {
    request(from, to, &format!("GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"))
}

/// The same of any request.
pub(crate) fn request(from: &Netns, to: (&str, u16), text: &str) -> Option<u16> {
    from.run(|| answer(&mut connect(to), text))
}

/// The same over a connection that is there.
pub(crate) fn answer(stream: &mut TcpStream, text: &str) -> Option<u16> {
    stream.write_all(text.as_bytes()).ok()?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).ok()?;
    std::str::from_utf8(&start[9..]).ok()?.parse().ok()
}

/// A member of its own account, which has a sandbox.
pub(crate) async fn member(
    rig: &Rig,
    runtime: &Runtime,
    (name, node, address): (&str, &str, &str),
    pod: &Netns,
) {
    rig.make_here::<ServiceAccount>(json!({"metadata": {"name": name}})).await;
    let labels = json!({"mesh.sextant.dev/member": "true"});
    let spec = json!({"nodeName": node, "serviceAccountName": name,
        "containers": [{"name": "main", "image": "main"}]});
    rig.make_here::<Pod>(json!({"metadata": {"name": name, "labels": labels}, "spec": spec})).await;
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
    let pods = rig.objects_of::<Pod>("");
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let path = rig.path(&format!("netns-{name}"));
    let namespace = format!("/proc/self/fd/{}", pod.as_fd().as_raw_fd());
    kernel::namespace::pin(Path::new(&namespace), &path).unwrap();
    runtime.add(name, name, &path);
}

pub(crate) fn api(rig: &Rig, (group, version, kind, plural): (&str, &str, &str, &str)) -> Api<DynamicObject> {
    Api::namespaced_with(rig.client.clone(), "default", &resource(group, version, kind, plural))
}

pub(crate) fn targets(rig: &Rig) -> Api<DynamicObject> {
    api(rig, ("access.smi-spec.io", "v1alpha3", "TrafficTarget", "traffictargets"))
}

/// The client alone may ask the server, and only what begins with /allowed.
pub(crate) async fn allow(rig: &Rig) {
    let groups = api(rig, ("specs.smi-spec.io", "v1alpha4", "HTTPRouteGroup", "httproutegroups"));
    let group = json!({"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
        "metadata": {"name": "allowed"},
        "spec": {"matches": [{"name": "get", "pathRegex": "/allowed", "methods": ["GET"]}]}});
    let target = json!({"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": {"name": "server"},
        "spec": {"destination": account(SERVER.0), "sources": [account(CLIENT.0)],
            "rules": [{"kind": "HTTPRouteGroup", "name": "allowed"}]}});
    for (api, object) in [(groups, group), (targets(rig), target)] {
        make(rig, &api, object).await;
    }
}

/// A service account, as a TrafficTarget names it.
pub(crate) fn account(name: &str) -> Value {
    json!({"kind": "ServiceAccount", "name": name, "namespace": "default"})
}

/// Makes an object of SMI.
pub(crate) async fn make(rig: &Rig, api: &Api<DynamicObject>, object: Value) {
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    // A definition is served a moment after it was made.
    let make = async |_: &Rig| api.create(&PostParams::default(), &object).await.ok();
    rig.until("an object of SMI can be made", make).await;
}

/// What a node says of itself; `name` is used once.
async fn status(rig: &mut Rig, run: &'static str, name: &str) -> Value {
    told(rig, run, name, &["mesh", "status", "-o", "json"]).await
}

pub(crate) async fn told(rig: &mut Rig, run: &'static str, name: &str, args: &[&str]) -> Value {
    rig.spawn_in(run, name, args);
    assert_eq!(rig.wait(name).await, Some(0), "{}", rig.words(name));
    serde_json::from_str(&rig.words(name)).unwrap_or_else(|error| panic!("{error}: {}", rig.words(name)))
}

/// Members that are served on their nodes, as process `node-1` and `node-2`, of an API server and a control plane. The server is Service `web`.
pub(crate) async fn served() -> (Rig, Site) {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    objects::service(&rig, "web", WEB, &[SERVER.2]).await;
    let (cri, at) = (rig.path("cri.sock"), format!("unix:{}", rig.path("mesh.sock").display()));
    let (runtime, site) = (Runtime::start(&cri), Site::new());
    for (one, pod) in [(CLIENT, &site.client), (OTHER, &site.other), (SERVER, &site.server)] {
        member(&rig, &runtime, one, pod).await;
    }
    rig.control(&["--mesh", &at]);
    for (run, node) in [("run", "node-1"), ("run-2", "node-2")] {
        let (cri, log) = (cri.to_str().unwrap(), rig.path(&format!("{node}.log")));
        let log = log.to_str().unwrap();
        let args = ["mesh", "--node", node, "--cri", cri, "--control", &at, "--access-log", log];
        rig.spawn_in(run, node, &args);
    }
    for (name, node, _) in [CLIENT, OTHER, SERVER] {
        rig.words_have(node, &format!("serves pod default/{name}\n")).await;
    }
    (rig, site)
}

#[tokio::test]
async fn who_may_ask_what_is_said_by_objects_and_known_by_certificates() {
    let (mut rig, site) = served().await;
    // Nothing says that somebody may not. Who is asked sees who has asked.
    let seen = site.client.run(|| ask(&mut connect((WEB, 80))));
    assert_eq!(seen, Answer { who: "server".into(), peer: CLIENT.2.into() });
    assert_eq!(get(&site.other, (WEB, 80), "/any"), Some(200));
    assert!(site.lets_in_strangers());
    let before = status(&mut rig, "run-2", "status-before").await;
    let count =
        |state: &Value, name: &str| state[name].as_u64().unwrap_or_else(|| panic!("{name} in {state:#}"));
    assert!(count(&before, "visitsSecured") >= 2, "{before:#}");
    assert!(count(&before, "visits") > count(&before, "visitsSecured"), "{before:#}");
    assert_eq!((count(&before, "refused"), &before["identities"]), (0, &true.into()), "{before:#}");
    let identity = "spiffe://cluster.local/ns/default/sa/server";
    assert_eq!(before["pods"][0]["identity"], identity, "{before:#}");
    assert!(before["pods"][0]["certified"].is_u64(), "{before:#}");
    let client = status(&mut rig, "run", "status-client").await;
    assert!(count(&client, "hboneConnections") >= 2, "{client:#}");

    // One account may, another may not, and who has none is nobody.
    allow(&rig).await;
    until(&rig, "the other is refused", || get(&site.other, (WEB, 80), "/allowed") == Some(403)).await;
    until(&rig, "the client is let in", || get(&site.client, (WEB, 80), "/allowed") == Some(200)).await;
    assert_eq!(get(&site.client, (WEB, 80), "/any"), Some(403));
    assert_eq!(get(&site.client, (WEB, 80), "/allowed/../any"), Some(403));
    assert_eq!(get(&site.other, (WEB, 80), "/allowed"), Some(403));
    assert!(!site.lets_in_strangers());
    rig.words_have("node-2", "pod default/server is closed to others").await;
    let after = status(&mut rig, "run-2", "status-after").await;
    assert!(count(&after, "refused") >= 4, "{after:#}");
    let args = ["mesh", "why", "default/client", "web", "--path", "/allowed", "-o", "json"];
    let why = told(&mut rig, "run", "why", &args).await;
    assert_eq!(why["endpoints"][0]["isSecured"], true, "{why:#}");

    // While nobody is there who could tell, nobody is let in, whatever else is done on the node.
    rig.kill("node-2");
    assert!(site.is_closed());
    rig.spawn_in("run-2", "images", &["images"]);
    assert_eq!(rig.wait("images").await, Some(0), "{}", rig.words("images"));
    assert!(site.is_closed());
    assert_eq!(get(&site.client, (WEB, 80), "/allowed"), Some(503));
    rig.again("node-2");
    until(&rig, "the client is let in again", || get(&site.client, (WEB, 80), "/allowed") == Some(200)).await;
    assert_eq!(get(&site.other, (WEB, 80), "/allowed"), Some(403));

    // Without the object it is as before.
    targets(&rig).delete("server", &DeleteParams::default()).await.unwrap();
    until(&rig, "the other is let in", || get(&site.other, (WEB, 80), "/any") == Some(200)).await;
    rig.words_have("node-2", "pod default/server is open to others").await;
    assert!(site.lets_in_strangers());
    // And nothing is left of it.
    for node in ["node-2", "node-1"] {
        assert_eq!(rig.end(node), Some(0), "{}", rig.words(node));
    }
    assert_eq!(site.tables(), Vec::<String>::new());
    // Whom policies have refused is told.
    let log = std::fs::read_to_string(rig.path("node-2.log")).unwrap();
    // A kill may have cut one.
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut refused = lines.filter(|line| line["reason"] == "denied" && line["direction"] == "inbound");
    let other = "spiffe://cluster.local/ns/default/sa/other";
    assert!(refused.any(|line| line["peer"] == other && line["pod"] == "default/server"), "{log}");
    assert!(site.lets_in_strangers());
}

#[tokio::test]
async fn a_pod_to_which_not_everybody_may_come_is_closed_until_it_has_a_certificate() {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    // Nobody can sign with this.
    let secrets = rig.objects_of::<Secret>("kube-system");
    let broken =
        json!({"metadata": {"name": "sextant-mesh-ca"}, "stringData": {"ca.crt": "none", "ca.key": "none"}});
    let broken: Secret = serde_json::from_value(broken).unwrap();
    secrets.create(&PostParams::default(), &broken).await.unwrap();
    let (cri, at) = (rig.path("cri.sock"), format!("unix:{}", rig.path("mesh.sock").display()));
    let (runtime, site) = (Runtime::start(&cri), Site::new());
    for (one, pod) in [(CLIENT, &site.client), (SERVER, &site.server)] {
        member(&rig, &runtime, one, pod).await;
    }
    rig.control(&["--mesh", &at]);
    for (run, node) in [("run", "node-1"), ("run-2", "node-2")] {
        let args = ["mesh", "--node", node, "--cri", cri.to_str().unwrap(), "--control", &at];
        rig.spawn_in(run, node, &args);
        rig.words_have(node, "Services and routes are known").await;
    }
    // Whoever may come, does.
    assert!(site.lets_in_strangers());
    for _ in 0..2 {
        allow(&rig).await;
        until(&rig, "nobody is let in", || site.is_closed()).await;
        rig.words_have("node-2", "pod default/server is closed to others until it can be served").await;
        targets(&rig).delete("server", &DeleteParams::default()).await.unwrap();
        until(&rig, "everybody is let in", || site.lets_in_strangers()).await;
        until(&rig, "nothing is left in the pod", || site.tables().is_empty()).await;
        let groups = api(&rig, ("specs.smi-spec.io", "v1alpha4", "HTTPRouteGroup", "httproutegroups"));
        groups.delete("allowed", &DeleteParams::default()).await.unwrap();
    }
    // Nor while nobody is there.
    allow(&rig).await;
    until(&rig, "nobody is let in", || site.is_closed()).await;
    rig.kill("node-2");
    assert!(site.is_closed());
    rig.again("node-2");
    // The next authority can sign.
    secrets.delete("sextant-mesh-ca", &DeleteParams::default()).await.unwrap();
    for (node, name) in [("node-1", CLIENT.0), ("node-2", SERVER.0)] {
        rig.words_have(node, &format!("serves pod default/{name}\n")).await;
    }
    let to = (SERVER.2, PORT);
    until(&rig, "the client is let in", || get(&site.client, to, "/allowed") == Some(200)).await;
    assert_eq!(get(&site.client, to, "/any"), Some(403));
    assert!(!site.lets_in_strangers());
    for node in ["node-2", "node-1"] {
        assert_eq!(rig.end(node), Some(0), "{}", rig.words(node));
    }
    assert_eq!(site.tables(), Vec::<String>::new());
    assert!(site.lets_in_strangers());
}

#[tokio::test]
async fn a_pod_that_has_left_while_nobody_was_there_is_open_though_a_member_has_no_sandbox_yet() {
    let (mut rig, site) = served().await;
    allow(&rig).await;
    until(&rig, "strangers are not let in", || !site.lets_in_strangers()).await;
    rig.words_have("node-2", "pod default/server is closed to others").await;
    rig.kill("node-2");
    assert!(site.is_closed());
    // It waits for a volume, say, and not everybody may come to it.
    let labels = json!({"mesh.sextant.dev/member": "true"});
    let spec = json!({"nodeName": SERVER.1, "serviceAccountName": SERVER.0,
        "containers": [{"name": "main", "image": "main"}]});
    rig.make_here::<Pod>(json!({"metadata": {"name": "waiting", "labels": labels}, "spec": spec})).await;
    objects::label(&rig, SERVER.0, false).await;
    rig.again("node-2");
    until(&rig, "everybody is let in", || site.lets_in_strangers()).await;
    until(&rig, "nothing is left in the pod", || site.tables().is_empty()).await;
    for node in ["node-2", "node-1"] {
        assert_eq!(rig.end(node), Some(0), "{}", rig.words(node));
    }
}
