//! Datagrams to a pod that a TrafficTarget guards: by UDPRoutes, whoever is there to look after it.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::json;
use testkit::netns::Netns;

use crate::objects;
use crate::rig::Rig;
use crate::runtime::Runtime;
use crate::secured::{CLIENT, OTHER, SERVER, Site, api, member, targets, told};
use crate::until;

/// What the UDPRoute names, and what it does not.
const PORT: u16 = 5300;
const ELSEWHERE: u16 = 5301;

/// A socket of the server's pod.
struct Server {
    socket: UdpSocket,
    sent: AtomicUsize,
}

impl Server {
    fn new(site: &Site, port: u16) -> Self {
        let socket = site.server.run(|| UdpSocket::bind((SERVER.2, port)).unwrap());
        socket.set_nonblocking(true).unwrap();
        Self { socket, sent: AtomicUsize::new(0) }
    }

    /// Sends from somewhere, and says whether it has come. What is on its way is given some time; what comes later is taken for what it is: of before.
    fn hears(&self, from: &Netns) -> bool {
        let to = self.socket.local_addr().unwrap();
        let text = self.sent.fetch_add(1, Ordering::Relaxed).to_string();
        from.run(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(text.as_bytes(), to).unwrap());
        let mut came = [0; 16];
        for _ in 0..10 {
            while let Ok(count) = self.socket.recv(&mut came) {
                if came[..count] == *text.as_bytes() {
                    return true;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

/// The client's account may send to the server's, at one port.
async fn allow(rig: &Rig) {
    let routes = api(rig, ("specs.smi-spec.io", "v1alpha4", "UDPRoute", "udproutes"));
    let route = json!({"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "UDPRoute",
        "metadata": {"name": "dns"}, "spec": {"matches": {"ports": [PORT]}}});
    let account = |name: &str| json!({"kind": "ServiceAccount", "name": name, "namespace": "default"});
    let target = json!({"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": {"name": "server"},
        "spec": {"destination": account(SERVER.0), "sources": [account(CLIENT.0)],
            "rules": [{"kind": "UDPRoute", "name": "dns"}]}});
    for (api, object) in [(routes, route), (targets(rig), target)] {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        // A definition is served a moment after it was made.
        let make = async |_: &Rig| api.create(&PostParams::default(), &object).await.ok();
        rig.until("an object of SMI can be made", make).await;
    }
}

/// How many datagrams to the server were let in by policies and how many dropped, as its node tells; `name` is used once.
async fn counted(rig: &mut Rig, name: &str) -> [u64; 2] {
    let status = told(rig, "run-2", name, &["mesh", "status", "-o", "json"]).await;
    let pod = &status["pods"][0];
    let packets = ["datagramsAdmitted", "datagramsDropped"].map(|of| pod[of]["packets"].as_u64());
    packets.map(|count| count.unwrap_or_else(|| panic!("nothing is counted: {status:#}")))
}

#[tokio::test]
async fn who_may_send_is_said_by_objects_and_goes_by_addresses() {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    let (cri, at) = (rig.path("cri.sock"), format!("unix:{}", rig.path("mesh.sock").display()));
    let (runtime, site) = (Runtime::start(&cri), Site::new());
    for (one, pod) in [(CLIENT, &site.client), (OTHER, &site.other), (SERVER, &site.server)] {
        member(&rig, &runtime, one, pod).await;
    }
    rig.control(&["--mesh", &at]);
    for (run, node) in [("run", "node-1"), ("run-2", "node-2")] {
        rig.spawn_in(run, node, &["mesh", "--node", node, "--cri", cri.to_str().unwrap(), "--control", &at]);
    }
    for (name, node, _) in [CLIENT, OTHER, SERVER] {
        rig.words_have(node, &format!("serves pod default/{name}\n")).await;
    }
    let (server, elsewhere) = (Server::new(&site, PORT), Server::new(&site, ELSEWHERE));
    // The wire is nobody's pod.
    let hears_all = || server.hears(&site.client) && server.hears(&site.other) && server.hears(&site.wire);
    until(&rig, "everybody is heard", hears_all).await;

    allow(&rig).await;
    // On a machine that does much else somebody may be heard late: who is not to be heard never is.
    let is_heard = || server.hears(&site.client);
    let is_alone =
        || !server.hears(&site.other) && !server.hears(&site.wire) && !elsewhere.hears(&site.client);
    until(&rig, "the client alone is heard, at one port", || is_heard() && is_alone()).await;
    rig.words_have("node-2", "pod default/server takes datagrams from those alone who may send them").await;
    let (to, beside) = (format!("{}:{PORT}", SERVER.2), format!("{}:{ELSEWHERE}", SERVER.2));
    for (name, source, to, outcome) in [
        ("why-client", "default/client", &to, "answered"),
        ("why-other", "default/other", &to, "refused"),
        ("why-elsewhere", "default/client", &beside, "refused"),
    ] {
        let args = ["mesh", "why", "--udp", source, to.as_str(), "-o", "json"];
        let why = told(&mut rig, "run-2", name, &args).await;
        assert_eq!(why["outcome"], outcome, "{why:#}");
    }

    assert!(is_alone());
    let [admitted, dropped] = counted(&mut rig, "status-before").await;
    assert!(admitted >= 1 && dropped >= 3, "{admitted} {dropped}");

    // Nobody is there, and it stays so; others' commands leave it alone. Then somebody is, and nothing was open in between.
    rig.kill("node-2");
    until(&rig, "the client is heard without it", is_heard).await;
    assert!(is_alone());
    rig.spawn_in("run-2", "images", &["images"]);
    assert_eq!(rig.wait("images").await, Some(0), "{}", rig.words("images"));
    until(&rig, "the client is heard after a command", is_heard).await;
    assert!(is_alone());
    rig.again("node-2");
    let serves = || {
        assert!(!server.hears(&site.other));
        rig.words("node-2").matches("serves pod default/server\n").count() > 1
    };
    until(&rig, "the server is served again", serves).await;
    until(&rig, "the client is heard again", is_heard).await;
    assert!(is_alone());
    // What was counted goes on, and what nobody was there for is counted, too.
    let [admitted_since, dropped_since] = counted(&mut rig, "status-after").await;
    assert!(admitted_since >= admitted + 3, "{admitted_since} of {admitted}");
    assert!(dropped_since >= dropped + 9, "{dropped_since} of {dropped}");

    // Another account is named, and then is not.
    let more = json!({"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
        "metadata": {"name": "more"},
        "spec": {"destination": {"kind": "ServiceAccount", "name": SERVER.0, "namespace": "default"},
            "sources": [{"kind": "ServiceAccount", "name": OTHER.0, "namespace": "default"}],
            "rules": [{"kind": "UDPRoute", "name": "dns"}]}});
    let more: DynamicObject = serde_json::from_value(more).unwrap();
    targets(&rig).create(&PostParams::default(), &more).await.unwrap();
    until(&rig, "the other is heard, too", || server.hears(&site.other)).await;
    until(&rig, "the client is heard beside it", is_heard).await;
    assert!(!server.hears(&site.wire));
    targets(&rig).delete("more", &DeleteParams::default()).await.unwrap();
    until(&rig, "the other is not heard any more", || !server.hears(&site.other)).await;

    // Without the object it is as before, and at the end nothing is left.
    targets(&rig).delete("server", &DeleteParams::default()).await.unwrap();
    until(&rig, "everybody is heard", || server.hears(&site.wire) && elsewhere.hears(&site.other)).await;
    rig.words_have("node-2", "pod default/server takes datagrams from anybody").await;
    for node in ["node-2", "node-1"] {
        assert_eq!(rig.end(node), Some(0), "{}", rig.words(node));
    }
    assert_eq!(site.tables(), Vec::<String>::new());
}
