//! What pods come to that were taken down.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use std::time::Instant;

use super::whole::{IMAGE, client, make_image};
use super::{Machine, PATIENCE};

#[tokio::test]
async fn a_pod_that_was_taken_down_was_started_again_once() {
    let machine = Machine::new();
    make_image(&machine);
    machine.up(&["--node-name", "here"]);
    let container = json!({"name": "web", "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["/bin/sextant-demo-app", "serve"]});
    let pod = json!({"metadata": {"name": "web"}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client(&machine).await);
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let mut ids = Vec::new();
    for count in 0..3 {
        if count > 0 {
            machine.says(&["down"]);
            machine.up(&["--node-name", "here"]);
        }
        let pods: Api<Pod> = Api::default_namespaced(client(&machine).await);
        let begun = Instant::now();
        let told = loop {
            let pod = pods.get("web").await.unwrap();
            let told = pod.status.and_then(|status| status.container_statuses?.into_iter().next());
            match told {
                Some(told) if told.ready && !ids.contains(&told.container_id) => break told,
                told => assert!(begun.elapsed() < PATIENCE, "{told:?}\n{}", machine.all_words()),
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert_eq!(told.restart_count, count, "{told:?}");
        ids.push(told.container_id);
    }
}
