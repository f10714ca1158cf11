//! What the public suite of SMI's conformance tries of access, with its bugs mended, and what else TrafficTargets say: who is named is closed, and open to
//! what one of them allows, by service account, port, path, method and header.

use std::io::Write as _;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use testkit::whoami::{connect, has_ended};

use crate::objects::WEB;
use crate::rig::Rig;
use crate::secured::{CLIENT, OTHER, PORT, SERVER, Site, account, api, make, request, served, targets};
use crate::until;

/// Who asks what, and the status of the answer.
#[derive(Debug, Clone, Copy)]
struct Case {
    who: &'static str,
    method: &'static str,
    path: &'static str,
    header: &'static str,
    status: u16,
}

/// The client or the other asks for a path.
const fn gets(who: &'static str, path: &'static str, status: u16) -> Case {
    Case { who, method: "GET", path, header: "", status }
}

impl Case {
    const fn by(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// With one line of a head more.
    const fn with(self, header: &'static str) -> Self {
        Self { header, ..self }
    }

    /// What the Service answers; none where there is no answer of the server's, and no refusal.
    fn answer(&self, site: &Site) -> Option<u16> {
        let from = if self.who == CLIENT.0 { &site.client } else { &site.other };
        let text = format!("{} {} HTTP/1.1\r\nHost: web\r\n{}\r\n", self.method, self.path, self.header);
        request(from, (WEB, 80), &text).filter(|status| matches!(status, 200 | 403))
    }
}

/// Waits until the first case is so, which was not so before; then all are. A connection that has ended with what held before is no answer.
async fn are(rig: &Rig, site: &Site, what: &str, cases: &[Case]) {
    until(rig, what, || cases[0].answer(site) == Some(cases[0].status)).await;
    for case in cases {
        let status = rig.until(&format!("{what}: {case:?}"), async |_| case.answer(site)).await;
        assert_eq!(status, case.status, "{what}: {case:?}");
    }
}

/// What a TrafficTarget of the server says from now on.
async fn says(rig: &Rig, name: &str, sources: Value, rules: Value) {
    let api = targets(rig);
    let spec = json!({"destination": account(SERVER.0), "sources": sources, "rules": rules});
    if api.get_opt(name).await.ok().flatten().is_some() {
        let patch = Patch::Merge(json!({"spec": spec}));
        api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    } else {
        let target = json!({"apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
            "metadata": {"name": name}, "spec": spec});
        make(rig, &api, target).await;
    }
}

/// The client, by these rules.
async fn allows(rig: &Rig, rules: Value) {
    says(rig, "server", json!([account(CLIENT.0)]), rules).await;
}

/// A TCPRoute of these ports.
async fn ports(rig: &Rig, name: &str, ports: &[u16]) {
    let routes = api(rig, ("specs.smi-spec.io", "v1alpha4", "TCPRoute", "tcproutes"));
    let route = json!({"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "TCPRoute",
        "metadata": {"name": name}, "spec": {"matches": {"ports": ports}}});
    make(rig, &routes, route).await;
}

/// An HTTPRouteGroup.
async fn group(rig: &Rig, name: &str, matches: Value) {
    let groups = api(rig, ("specs.smi-spec.io", "v1alpha4", "HTTPRouteGroup", "httproutegroups"));
    let group = json!({"apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
        "metadata": {"name": name}, "spec": {"matches": matches}});
    make(rig, &groups, group).await;
}

fn route(name: &str) -> Value {
    json!({"kind": "TCPRoute", "name": name})
}

fn requests(name: &str) -> Value {
    json!({"kind": "HTTPRouteGroup", "name": name})
}

async fn end(rig: &mut Rig) {
    for node in ["node-2", "node-1"] {
        assert_eq!(rig.end(node), Some(0), "{}", rig.words(node));
    }
}

#[tokio::test]
async fn connections_are_allowed_by_account_and_port() {
    let (mut rig, site) = served().await;
    ports(&rig, "any", &[]).await;
    ports(&rig, "here", &[PORT]).await;
    ports(&rig, "elsewhere", &[PORT + 1]).await;
    let (client, other) = (CLIENT.0, OTHER.0);
    let (allowed, refused) = (gets(client, "/", 200), gets(client, "/", 403));
    let refuses_other = gets(other, "/", 403);

    are(&rig, &site, "nobody says anything", &[allowed, gets(other, "/", 200)]).await;
    assert!(site.lets_in_strangers());
    allows(&rig, json!([])).await;
    are(&rig, &site, "a target that allows nothing", &[refused, refuses_other]).await;
    assert!(!site.lets_in_strangers());
    allows(&rig, json!([route("any")])).await;
    are(&rig, &site, "any port", &[allowed, refuses_other, gets(client, "/any", 200).by("POST")]).await;
    assert!(!site.lets_in_strangers());
    // The same without a Service: what is refused there is reset.
    let at_pod = |from| request(from, (SERVER.2, PORT), "GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!((at_pod(&site.client), at_pod(&site.other)), (Some(200), None));
    allows(&rig, json!([route("elsewhere")])).await;
    are(&rig, &site, "another port", &[refused, refuses_other]).await;
    allows(&rig, json!([route("elsewhere"), route("here")])).await;
    are(&rig, &site, "this port, too", &[allowed, refuses_other]).await;
    allows(&rig, json!([route("nowhere")])).await;
    are(&rig, &site, "a route that does not exist", &[refused, refuses_other]).await;
    allows(&rig, json!([route("here")])).await;
    are(&rig, &site, "this port", &[allowed, refuses_other]).await;
    let namesake = json!({"kind": "ServiceAccount", "name": client, "namespace": "elsewhere"});
    says(&rig, "server", json!([namesake]), json!([route("any")])).await;
    are(&rig, &site, "an account of another namespace", &[refused, refuses_other]).await;
    says(&rig, "server", json!([account(other)]), json!([route("any")])).await;
    are(&rig, &site, "the other", &[gets(other, "/", 200), refused]).await;
    says(&rig, "more", json!([account(client)]), json!([route("here")])).await;
    are(&rig, &site, "one target for each", &[allowed, gets(other, "/", 200)]).await;

    // The suite takes the target away and finds the callers refused; here nobody is named by then, and who is not is open.
    targets(&rig).delete("server", &DeleteParams::default()).await.unwrap();
    are(&rig, &site, "one target less", &[refuses_other, allowed]).await;
    targets(&rig).delete("more", &DeleteParams::default()).await.unwrap();
    are(&rig, &site, "nobody says anything any more", &[gets(other, "/", 200), allowed]).await;
    until(&rig, "strangers are let in", || site.lets_in_strangers()).await;
    end(&mut rig).await;
}

#[tokio::test]
async fn requests_are_allowed_by_path_method_and_header() {
    let (mut rig, site) = served().await;
    ports(&rig, "here", &[PORT]).await;
    ports(&rig, "elsewhere", &[PORT + 1]).await;
    group(&rig, "metrics", json!([{"name": "metrics", "pathRegex": "/metrics"}])).await;
    group(&rig, "read", json!([{"name": "read", "methods": ["GET"]}])).await;
    group(&rig, "admin", json!([{"name": "admin", "headers": {"x-role": "admin"}}])).await;
    let both = json!([{"name": "a", "pathRegex": "/a"}, {"name": "b", "pathRegex": "/b"}]);
    group(&rig, "both", both).await;
    let (client, other) = (CLIENT.0, OTHER.0);
    let gets = |path, status| gets(client, path, status);

    allows(&rig, json!([requests("metrics")])).await;
    let cases = [
        gets("/", 403),
        gets("/metrics", 200),
        gets("/metrics", 200).by("POST"),
        gets("/metrics?of=all", 200),
        gets("/metrics/../other", 403),
        gets("/other/../metrics", 200),
        gets("/?at=/metrics", 403),
        gets("/%6detrics", 200),
        Case { who: other, ..gets("/metrics", 403) },
    ];
    are(&rig, &site, "a path", &cases).await;
    // What is no request is none that is allowed.
    let mut mute = site.client.run(|| connect((SERVER.2, PORT)));
    mute.write_all(b"\x16\x03\x01 no request\r\n\r\n").unwrap();
    assert!(has_ended(&mut mute));
    assert!(!site.lets_in_strangers());
    allows(&rig, json!([requests("read")])).await;
    let cases = [
        gets("/", 200),
        gets("/metrics", 200),
        gets("/", 403).by("POST"),
        gets("/metrics", 403).by("DELETE"),
    ];
    are(&rig, &site, "a method", &cases).await;
    allows(&rig, json!([requests("admin")])).await;
    let cases = [
        gets("/", 403),
        gets("/", 200).with("x-role: admin\r\n"),
        gets("/", 200).by("POST").with("X-Role: admin\r\n"),
        gets("/", 403).with("x-role: administrator\r\n"),
        gets("/", 403).with("x-roles: admin\r\n"),
    ];
    are(&rig, &site, "a header", &cases).await;
    allows(&rig, json!([requests("both")])).await;
    are(&rig, &site, "each match of a group", &[gets("/a", 200), gets("/b", 200), gets("/", 403)]).await;
    let mut one = requests("both");
    one["matches"] = json!(["a"]);
    allows(&rig, json!([one])).await;
    are(&rig, &site, "one match of a group", &[gets("/b", 403), gets("/a", 200), gets("/", 403)]).await;
    allows(&rig, json!([requests("metrics"), requests("read")])).await;
    let cases = [gets("/b", 200), gets("/metrics", 200).by("POST"), gets("/b", 403).by("POST")];
    are(&rig, &site, "two groups", &cases).await;
    allows(&rig, json!([requests("metrics"), route("here")])).await;
    are(&rig, &site, "requests on a port", &[gets("/b", 403), gets("/metrics", 200)]).await;
    allows(&rig, json!([requests("metrics"), route("elsewhere")])).await;
    are(&rig, &site, "requests on another port", &[gets("/metrics", 403), gets("/", 403)]).await;
    end(&mut rig).await;
}
