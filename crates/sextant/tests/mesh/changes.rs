//! Changes in a cluster of a thousand Services, while requests come.

use futures_util::StreamExt as _;
use futures_util::stream;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::objects::{self, V1};
use crate::rig::Rig;
use crate::runtime::Runtime;
use crate::situations::Clients;
use crate::{Pods, until};

/// Services, and how many of them come to one split.
const SERVICES: usize = 1000;
const SPLIT: usize = 10;
/// How often it is changed.
const CHANGES: usize = 20;
/// Requests to the API server at once.
const AT_ONCE: usize = 8;

/// A split of another Service than that which clients ask for.
fn split(number: usize, weights: [usize; 2]) -> Value {
    let (apex, version) = (format!("many-{number}"), format!("many-{}", number + 1));
    json!({"apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": {"name": apex},
        "spec": {"service": apex, "backends": [{"service": apex, "weight": weights[0]},
            {"service": version, "weight": weights[1]}]}})
}

/// A thousand Services, and a hundred splits of them.
async fn many(rig: &Rig) {
    let service = |number: usize| async move {
        let (name, address) =
            (format!("many-{number}"), format!("10.96.{}.{}", 16 + number / 250, 1 + number % 250));
        objects::service(rig, &name, &address, &[V1.0]).await;
    };
    stream::iter(0..SERVICES).for_each_concurrent(AT_ONCE, service).await;
    for number in (0..SERVICES).step_by(SPLIT) {
        let object: DynamicObject = serde_json::from_value(split(number, [1, 1])).unwrap();
        objects::splits(rig).create(&PostParams::default(), &object).await.unwrap();
    }
}

#[tokio::test]
async fn changes_among_a_thousand_services_reach_clients_and_no_request_fails() {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    objects::services(&rig, [1, 0]).await;
    many(&rig).await;
    let (cri, at) = (rig.path("cri.sock"), format!("unix:{}", rig.path("mesh.sock").display()));
    let runtime = Runtime::start(&cri);
    rig.control(&["--mesh", &at]);
    rig.spawn("mesh", &["mesh", "--node", "node-1", "--cri", cri.to_str().unwrap(), "--control", &at]);
    let pods = Pods::new(1);
    objects::pod(&rig, "member", true).await;
    runtime.add("s0", "member", &pods.pin(0, &rig));
    rig.words_have("mesh", "serves pod default/member").await;
    until(&rig, "the split holds", || pods.asks(0) == "v1").await;
    let clients = Clients::start(&pods);
    let mut version = 0;
    clients.until_only(&rig, version).await;
    for change in 1..=CHANGES {
        // Something else changes at the same time.
        let number = change * SPLIT;
        let patch = Patch::Merge(split(number, [change, 1]));
        objects::splits(&rig)
            .patch(&format!("many-{number}"), &PatchParams::default(), &patch)
            .await
            .unwrap();
        version = 1 - version;
        objects::weigh(&rig, if version == 0 { [1, 0] } else { [0, 1] }).await;
        clients.until_only(&rig, version).await;
    }
    clients.end();
    for name in ["mesh", "control"] {
        assert_eq!(rig.end(name), Some(0), "{}", rig.words(name));
    }
    assert_eq!(pods.tables(0), Vec::<String>::new());
}
