//! `sextant control --mesh` with nodes that follow it: what it tells, whom it believes, what it signs, and what authors of objects are told.

use std::collections::BTreeMap;

use grpc::Code;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, Service, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use meshwire::caller::Client;
use meshwire::contract::v1::{FollowRequest, SignRequest};
use meshwire::contract::{Gathered, Gathering};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::{Pods, until};
use crate::objects::{self, resource};
use crate::people::said;
use crate::rig::Rig;
use crate::runtime::Runtime;

const DEFAULT: &str = "spiffe://cluster.local/ns/default/sa/default";

fn socket(rig: &Rig) -> String {
    format!("unix:{}", rig.path("mesh.sock").display())
}

#[tokio::test]
async fn a_node_follows_a_control_plane_and_goes_on_while_it_is_away() {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    objects::services(&rig, [1, 0]).await;
    let (cri, at) = (rig.path("cri.sock"), socket(&rig));
    let runtime = Runtime::start(&cri);
    let pods = Pods::new(1);
    objects::pod(&rig, "member", true).await;
    runtime.add("s0", "member", &pods.pin(0, &rig));
    // A node that begins before the control plane is there.
    rig.spawn("mesh", &["mesh", "--node", "node-1", "--cri", cri.to_str().unwrap(), "--control", &at]);
    rig.words_have("mesh", "cannot follow the control plane").await;
    assert_eq!(pods.asks(0), "direct");
    rig.control(&["--mesh", &at]);
    rig.words_have("mesh", "serves pod default/member").await;
    assert_eq!(pods.asks(0), "v1");
    rig.words_have("mesh", &format!("has a certificate for {DEFAULT}")).await;
    // People are told whom it follows, and ask it as any other.
    let status = said(&mut rig, "status", &["mesh", "status"]).await;
    assert!(status.contains("the control plane at ") && status.contains("default/member"), "{status}");
    objects::weigh(&rig, [0, 1]).await;
    until(&rig, "all goes to v2", || pods.asks(0) == "v2").await;
    // It is away: what was known goes on, and what changes meanwhile comes when it is back.
    rig.kill("control");
    objects::weigh(&rig, [1, 0]).await;
    let told = |rig: &Rig| rig.words("mesh").matches("goes on with what it knows").count();
    rig.until("the node knows that it is away", async |rig| (told(rig) > 0).then_some(())).await;
    assert_eq!(pods.asks(0), "v2");
    rig.again("control");
    until(&rig, "all goes to v1", || pods.asks(0) == "v1").await;
    let follows = |rig: &Rig| rig.words("mesh").matches("mesh: follows the control plane\n").count();
    assert_eq!(follows(&rig), 2, "{}", rig.words("mesh"));
    assert_eq!(
        rig.words("mesh").matches("serves pod default/member\n").count(),
        1,
        "it was served all the time"
    );
    // The authority is the one from before.
    assert_eq!(rig.words("control").matches("has made the mesh's certificate authority").count(), 1);
    // Who is no member any more needs no certificate.
    objects::label(&rig, "member", false).await;
    rig.words_have("mesh", &format!("needs no certificate for {DEFAULT}")).await;
    until(&rig, "the pod goes its own way", || pods.asks(0) == "direct").await;
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
    // Nobody has seen a key.
    assert!(!format!("{}{}", rig.words("mesh"), rig.words("control")).contains("PRIVATE"));
}

/// A token of a service account of `kube-system` for a pod.
async fn token(rig: &Rig, account: &str, pod: Option<&str>, audience: &str) -> String {
    let bound = pod.map(|name| json!({"apiVersion": "v1", "kind": "Pod", "name": name}));
    let request: TokenRequest =
        serde_json::from_value(json!({"spec": {"audiences": [audience], "boundObjectRef": bound}})).unwrap();
    let accounts = rig.objects_of::<ServiceAccount>("kube-system");
    let made = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
    made.status.unwrap().token.unwrap()
}

async fn make_in_system<K>(rig: &Rig, object: Value)
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::Serialize
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    rig.objects_of::<K>("kube-system").create(&PostParams::default(), &object).await.unwrap();
}

/// The certificates that are to be trusted, in PEM.
async fn trusted(rig: &Rig) -> Option<String> {
    let map = rig.objects_of::<ConfigMap>("kube-system").get_opt("sextant-mesh-roots").await.unwrap()?;
    map.data?.remove("roots.pem")
}

/// Everything that a node is told at first.
async fn whole(client: &Client, node: &str, token: &str) -> Result<Gathered, Code> {
    let request = FollowRequest { node: node.into(), token: token.into() };
    let mut updates = client.follow(request).await.map_err(|error| error.code())?;
    let mut gathering = Gathering::default();
    loop {
        let update = updates.next().await.map_err(|error| error.code())?.unwrap();
        if let Some(gathered) = gathering.take(update).unwrap() {
            return Ok(gathered);
        }
    }
}

#[tokio::test]
async fn nodes_show_tokens_over_tls_and_get_what_is_theirs() {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    objects::services(&rig, [1, 1]).await;
    for node in ["node-1", "node-2"] {
        rig.make::<Node>(json!({"metadata": {"name": node}})).await;
    }
    for account in ["sextant-mesh", "other"] {
        make_in_system::<ServiceAccount>(&rig, json!({"metadata": {"name": account}})).await;
    }
    for (name, account) in [("proxy", "sextant-mesh"), ("web", "other")] {
        let spec = json!({"nodeName": "node-1", "serviceAccountName": account, "containers": [{"name": "main", "image": "main"}]});
        make_in_system::<Pod>(&rig, json!({"metadata": {"name": name}, "spec": spec})).await;
    }
    objects::pod(&rig, "member", true).await;
    rig.control(&["--mesh", "127.0.0.1:0"]);
    let says = async |rig: &Rig| {
        let words = rig.words("control");
        let (_, rest) = words.split_once("nodes call at https://")?;
        Some(rest.split_once('\n')?.0.to_owned())
    };
    let address = rig.until("the control plane listens", says).await;
    let pem = rig.until("the roots are told", trusted).await;
    let roots: Vec<Vec<u8>> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(|one| one.unwrap().to_vec()).collect();
    assert_eq!(roots.len(), 1);
    let connect = async |_: &Rig| Client::connect_tls(&address, &roots).await.ok();
    let client = rig.until("the control plane has a certificate", connect).await;
    // Who is signed by others is not the control plane.
    let mut stranger = CertificateParams::default();
    stranger.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let stranger = stranger.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert!(Client::connect_tls(&address, &[stranger]).await.is_err());
    let (ours, audience) = ("sextant-mesh", "mesh.sextant.dev");
    let good = token(&rig, ours, Some("proxy"), audience).await;
    // Whose token it is not.
    let api = token(&rig, ours, Some("proxy"), "https://kubernetes.default.svc").await;
    let others = token(&rig, "other", Some("web"), audience).await;
    let unbound = token(&rig, ours, None, audience).await;
    for (node, token, code) in [
        ("node-1", "", Code::Unauthenticated),
        ("node-1", "nobody's", Code::Unauthenticated),
        ("node-1", api.as_str(), Code::Unauthenticated),
        ("node-1", others.as_str(), Code::PermissionDenied),
        ("node-1", unbound.as_str(), Code::PermissionDenied),
        ("node-2", good.as_str(), Code::PermissionDenied),
        ("", good.as_str(), Code::InvalidArgument),
    ] {
        assert_eq!(whole(&client, node, token).await.err(), Some(code), "{node} {token}");
    }
    let told = rig.until("the node is told", async |_| whole(&client, "node-1", &good).await.ok()).await;
    assert!(told.whole && told.delta.removed.is_empty());
    let keys: Vec<String> = told.delta.set.iter().map(|entry| entry.key.to_string()).collect();
    assert!(
        keys.contains(&"workload default/member".into())
            && keys.contains(&"frontend default/web:80/tcp".into()),
        "{keys:?}"
    );
    assert_eq!(told.roots, Some(roots.clone()));
    // It signs for members of the node, and for nobody else there is.
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let sign = async |identity: &str, csr_der: &[u8]| {
        let (node, token) = ("node-1".into(), good.clone());
        client.sign(SignRequest { node, token, identity: identity.into(), csr_der: csr_der.to_vec() }).await
    };
    let signed = sign(DEFAULT, &csr).await.unwrap();
    assert_eq!((signed.chain_der.len(), &signed.roots_der), (1, &roots));
    for (identity, csr, code) in [
        ("spiffe://cluster.local/ns/default/sa/other", &csr[..], Code::PermissionDenied),
        // It is there, on this node, and no member.
        ("spiffe://cluster.local/ns/kube-system/sa/other", &csr[..], Code::PermissionDenied),
        (DEFAULT, &csr[..csr.len() - 1], Code::InvalidArgument),
    ] {
        assert_eq!(sign(identity, csr).await.unwrap_err().code(), code, "{identity}");
    }
    // Without the Secret nothing that was signed is worth anything any more, and all is made anew.
    let secrets = rig.objects_of::<Secret>("kube-system");
    secrets.delete("sextant-mesh-ca", &DeleteParams::default()).await.unwrap();
    let other = async |rig: &Rig| trusted(rig).await.filter(|now| *now != pem);
    rig.until("there are other roots", other).await;
}

fn routes(rig: &Rig) -> Api<DynamicObject> {
    let kind = resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
    Api::namespaced_with(rig.client.clone(), "default", &kind)
}

/// Gateway API's HTTPRoute, as far as a server has to know it.
async fn define_routes(rig: &Rig) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let kind =
        resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    let definitions: Api<DynamicObject> = Api::all_with(rig.client.clone(), &kind);
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "httproutes.gateway.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
        "spec": {"group": "gateway.networking.k8s.io", "scope": "Namespaced",
            "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute", "listKind": "HTTPRouteList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]}});
    definitions.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
}

/// The conditions of our part of a route's status, by their types: status, reason and generation.
type Conditions = BTreeMap<String, (String, String, i64)>;

async fn conditions(rig: &Rig, name: &str) -> Option<(Conditions, usize)> {
    let route = routes(rig).get(name).await.unwrap();
    let parents = route.data["status"]["parents"].as_array()?.clone();
    let ours = parents.iter().find(|entry| entry["controllerName"] == "mesh.sextant.dev/controller")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let conditions = ours["conditions"].as_array()?.iter().map(|one| {
        let generation = one["observedGeneration"].as_i64().unwrap();
        (text(&one["type"]), (text(&one["status"]), text(&one["reason"]), generation))
    });
    Some((conditions.collect(), parents.len()))
}

#[tokio::test]
async fn authors_are_told_what_is_wrong_and_when_it_is_not_any_more() {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    define_routes(&rig).await;
    objects::services(&rig, [1, 1]).await;
    let ports = json!([{"name": "http", "port": 81}]);
    rig.make_here::<Service>(json!({"metadata": {"name": "elsewhere"}, "spec": {"ports": ports}})).await;
    rig.control(&["--mesh", &socket(&rig)]);
    objects::split(&rig, json!([{"service": "web-v1", "weight": 1}, {"service": "elsewhere", "weight": 1}]))
        .await;
    rig.event("web", "PortMismatch", "elsewhere has no port 80").await;
    objects::split(&rig, json!([{"service": "web-v1", "weight": 1}, {"service": "nowhere", "weight": 1}]))
        .await;
    rig.event("web", "NotFound", "spec.backends[1].service: nowhere").await;
    objects::split(&rig, json!([{"service": "web-v1", "weight": 1}])).await;
    rig.event("web", "Resolved", "Nothing is wrong").await;
    // A route of a Service, beside somebody else's part of its status.
    let api = routes(&rig);
    let backends = |name: &str| json!([{"backendRefs": [{"name": name, "port": 80}]}]);
    let parent = json!({"group": "", "kind": "Service", "name": "web", "port": 80});
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"},
        "spec": {"parentRefs": [parent, {"name": "gateway"}], "rules": backends("web-v1")}});
    let route: DynamicObject = serde_json::from_value(route).unwrap();
    rig.until("a route can be made", async |_| api.create(&PostParams::default(), &route).await.ok()).await;
    let theirs = async |_: &Rig| {
        let route = api.get("web").await.ok()?;
        let mut parents = route.data["status"]["parents"].as_array().cloned().unwrap_or_default();
        parents.push(json!({"parentRef": {"name": "gateway"}, "controllerName": "example.com/gateway", "conditions": []}));
        let version = route.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "status": {"parents": parents}});
        api.patch_status("web", &PatchParams::default(), &Patch::Merge(patch)).await.ok()
    };
    rig.until("their part is written", theirs).await;
    let is = async |rig: &Rig, kind: &str, wanted: (&str, &str, i64)| {
        let (conditions, parents) = conditions(rig, "web").await?;
        let (status, reason, generation) = conditions.get(kind)?;
        (parents == 2 && (status.as_str(), reason.as_str(), *generation) == wanted).then_some(())
    };
    rig.until("the route is accepted", async |rig| is(rig, "Accepted", ("True", "Accepted", 1)).await).await;
    rig.until("its backends are there", async |rig| {
        is(rig, "ResolvedRefs", ("True", "ResolvedRefs", 1)).await
    })
    .await;
    // It goes before the split on its port.
    rig.event("web", "Conflicted", "").await;
    let patch = Patch::Merge(json!({"spec": {"rules": backends("nowhere")}}));
    api.patch("web", &PatchParams::default(), &patch).await.unwrap();
    let missing = ("False", "BackendNotFound", 2);
    rig.until("a backend is missing", async |rig| is(rig, "ResolvedRefs", missing).await).await;
    rig.until("it is accepted as it is now", async |rig| is(rig, "Accepted", ("True", "Accepted", 2)).await)
        .await;
    // What is so is not written again, by another process neither.
    let version = async || api.get("web").await.unwrap().metadata.resource_version;
    let before = version().await;
    assert_eq!(rig.end("control"), Some(0), "{}", rig.words("control"));
    rig.again("control");
    let split = json!({"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": {"name": "later"},
        "spec": {"service": "nowhere", "backends": [{"service": "web-v1", "weight": 1}]}});
    let split: DynamicObject = serde_json::from_value(split).unwrap();
    objects::splits(&rig).create(&PostParams::default(), &split).await.unwrap();
    rig.event("later", "NotFound", "nowhere").await;
    assert_eq!(version().await, before);
}
