//! What clients send that mean no good, beside those that do: the others go on.

use std::sync::Arc;
use std::time::Duration;

use api::auth::{Access, Attributes, Authorizer, Decision};
use api::resource::Asker;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::rig::{CONFIG_MAPS, Rig, config_map};

/// No test should hang where the server does.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(300), work).await.expect("the server does not answer")
}

/// A request whose body stays away.
async fn begun(client: &Client, query: &str, length: usize, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(client.address).await.unwrap();
    let head = format!(
        "POST {CONFIG_MAPS}{query} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_that_do_not_come_keep_no_other_away() {
    let rig = Rig::start().await;
    let mut slow = Vec::new();
    for _ in 0..300 {
        slow.push(begun(&rig.client, "", 3 << 20, b"{").await);
    }
    in_time(async {
        for number in 0..20 {
            let made = rig.client.post(CONFIG_MAPS, &config_map(&format!("n{number}"), "1")).await;
            assert_eq!(made.status, 201, "{}", made.text());
        }
    })
    .await;
    drop(slow);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_as_long_as_the_request_may_take() {
    let rig = Rig::start().await;
    let mut slow = begun(&rig.client, "?timeout=1s", 1000, b"{\"kind\":").await;
    let mut answer = [0; 12];
    in_time(slow.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 504");
}

/// Each costs, or did, far more than its size.
fn bodies() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let many = |count: usize, item: &dyn Fn(usize) -> String| {
        (0..count).map(item).collect::<Vec<_>>().join(",").into_bytes()
    };
    let within =
        |before: &str, items: Vec<u8>, after: &str| [before.as_bytes(), &items, after.as_bytes()].concat();
    let owners = many(20_000, &|number| format!("{{\"uid\":\"{number}\"}}"));
    let finalizers = many(50_000, &|number| format!("\"a.b/c{number}\""));
    let keys = many(60_000, &|number| format!("\"!{number}\":\"\""));
    let unknown = many(40_000, &|number| format!("\"u{number}\":1"));
    // A ConfigMap whose metadata has 100,000 empty managedFields and more.
    let mut metadata = Vec::new();
    (0..90_000).for_each(|_| metadata.extend_from_slice(&[17 << 3 | 2 | 0x80, 1, 0]));
    let field = |number: u8, bytes: &[u8]| {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        [out, bytes.to_vec()].concat()
    };
    let kind = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
    let protobuf = [b"k8s\0".to_vec(), field(1, &kind), field(2, &field(1, &metadata))].concat();
    let json = "application/json";
    vec![
        ("POST", json, within("{\"metadata\":{\"name\":\"o\",\"ownerReferences\":[", owners, "]}}")),
        ("POST", json, within("{\"metadata\":{\"name\":\"f\",\"finalizers\":[", finalizers.clone(), "]}}")),
        ("POST", json, within("{\"metadata\":{\"name\":\"k\"},\"data\":{", keys, "}}")),
        ("POST", json, within("{\"metadata\":{\"name\":\"u\"},", unknown, "}")),
        ("POST", json, format!("[{}{{}}]", "{\"a\":1},".repeat(300_000)).into_bytes()),
        ("POST", "application/vnd.kubernetes.protobuf", protobuf),
        (
            "PATCH",
            "application/strategic-merge-patch+json",
            within("{\"metadata\":{\"$setElementOrder/finalizers\":[],\"finalizers\":[", finalizers, "]}}"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_cost_much_end_and_nobody_else_waits_for_them() {
    let rig = Rig::start().await;
    rig.client.post(CONFIG_MAPS, &config_map("there", "1")).await;
    let version = rig.client.get(CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].clone();
    let version = version.as_str().unwrap();
    let mut watch = rig.client.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}")).await;
    let hostile: Vec<_> = bodies()
        .into_iter()
        .map(|(method, kind, body)| {
            let client = rig.client.with("content-type", kind);
            let path = if method == "POST" { CONFIG_MAPS.to_owned() } else { format!("{CONFIG_MAPS}/there") };
            let path = format!("{path}?dryRun=All");
            tokio::spawn(async move {
                let answer = client.send(method.parse().unwrap(), &path, body).await;
                (answer.status.as_u16(), answer.body.len())
            })
        })
        .collect();
    in_time(async {
        for number in 0..30 {
            let name = format!("n{number}");
            assert_eq!(rig.client.post(CONFIG_MAPS, &config_map(&name, "1")).await.status, 201);
            assert_eq!(watch.next().await.unwrap()["object"]["metadata"]["name"], name);
        }
        let mut codes = Vec::new();
        for request in hostile {
            let (code, length) = request.await.unwrap();
            assert!(length < 4 << 20, "{code}: {length} bytes");
            codes.push(code);
        }
        assert_eq!(codes, [422, 201, 422, 201, 413, 422, 200]);
    })
    .await;
}

/// Panics where it is asked about a path, and allows everything else.
struct Panics;

impl Authorizer for Panics {
    fn authorize(&self, _: &Asker, attributes: &Attributes) -> Decision {
        match attributes {
            Attributes::Path { path, .. } if path == "/panic" => panic!("as it was asked to"),
            _ => Decision::Allow(String::new()),
        }
    }
}

#[tokio::test]
async fn a_panic_is_the_end_of_its_request_alone() {
    let access = Access { authorizer: Arc::new(Panics), ..Access::trusting(Asker::default()) };
    let rig = Rig::with(access, None).await;
    let mut watch = rig.client.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    let broken = rig.client.get("/panic").await;
    assert_eq!(broken.status, 500);
    assert_eq!(broken.json()["kind"], "Status");
    rig.client.post(CONFIG_MAPS, &config_map("a", "1")).await;
    assert_eq!(watch.next().await.unwrap()["object"]["metadata"]["name"], "a");
}

#[tokio::test]
async fn objects_that_kubernetes_does_not_keep_are_not_kept() {
    let rig = Rig::start().await;
    let definition = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    });
    let things = "/apis/example.com/v1/namespaces/default/things";
    let _controllers = api::controllers::Controllers::start(&rig.registry, Default::default()).await.unwrap();
    let made = rig.client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await;
    assert_eq!(made.status, 201, "{}", made.text());
    in_time(async {
        while rig.client.get(things).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let thing = |size: usize| -> Value {
        let metadata = json!({"name": format!("t{size}")});
        json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": metadata, "fill": "x".repeat(size)})
    };
    assert_eq!(rig.client.post(things, &thing(1 << 20)).await.status, 201);
    let refused = rig.client.post(things, &thing(3 << 19)).await;
    assert_eq!(refused.refusal(), (500, "etcdserver: request is too large".to_owned()));
    let gone = rig.client.send(Method::GET, &format!("{things}/t{}", 3 << 19), "").await;
    assert_eq!(gone.status, 404);
}
