//! What pods use, as the agent's server and the API tell it.

use serde_json::{Value, json};

use crate::Test;
use crate::rig::{NODE, Rig, container, with};

pub(crate) const TESTS: &[Test] = &[
    ("what_pods_use_is_told_to_monitors", |rig| Box::pin(monitors(rig))),
    ("the_api_of_metrics_is_served_through_the_api_server", |rig| Box::pin(api(rig))),
];

async fn monitors(rig: &Rig) {
    let mounts = json!({"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]});
    let main = with(
        container("main", &["write", "/cache/file", "text", "then", "say", "up", "then", "sleep"]),
        mounts,
    );
    let init = container("init", &["say", "done"]);
    let volumes = json!([{"name": "cache", "emptyDir": {}}]);
    rig.pod("used", json!({"initContainers": [init], "containers": [main], "volumes": volumes})).await;
    rig.ready("used").await;
    rig.log_has("used", "main", "up").await;
    let client = rig.agents_server().await;
    let ask = async |path: &str| {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        client.request_text(request).await.unwrap()
    };
    let summary: Value = serde_json::from_str(&ask("/stats/summary").await).unwrap();
    let node = &summary["node"];
    assert_eq!(node["nodeName"], NODE);
    for number in [
        &node["memory"]["workingSetBytes"],
        &node["fs"]["capacityBytes"],
        &node["runtime"]["imageFs"]["usedBytes"],
    ] {
        assert!(number.as_u64().is_some_and(|number| number > 0), "{node}");
    }
    let pods = summary["pods"].as_array().unwrap();
    let pod = pods.iter().find(|pod| pod["podRef"]["name"] == "used").unwrap();
    // One that has ended uses nothing.
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1, "{pod}");
    assert_eq!(pod["containers"][0]["name"], "main");
    assert!(pod["containers"][0]["memory"]["workingSetBytes"].as_u64().unwrap() > 0, "{pod}");
    assert_eq!(
        (&pod["volume"][0]["name"], &pod["volume"][0]["inodesUsed"]),
        (&json!("cache"), &json!(1)),
        "{pod}"
    );
    let text = ask("/metrics/resource").await;
    let of = "{container=\"main\",namespace=\"default\",pod=\"used\"}";
    for name in ["container_cpu_usage_seconds_total", "container_memory_working_set_bytes"] {
        assert!(text.contains(&format!("\n{name}{of} ")), "{text}");
        assert!(!text.contains(&format!("{name}{{container=\"init\"")), "{text}");
    }
    assert!(
        text.contains("\nnode_cpu_usage_seconds_total ") && text.ends_with("resource_scrape_error 0\n"),
        "{text}"
    );
    let text = ask("/metrics/cadvisor").await;
    assert!(text.contains("# TYPE container_cpu_usage_seconds_total counter\n"), "{text}");
}

async fn api(rig: &Rig) {
    rig.kill("agent");
    rig.agent_with(&["--offer-metrics"]);
    let main = container("main", &["tick", "/never"]);
    let init = container("init", &["say", "done"]);
    rig.pod("busy", json!({"initContainers": [init], "containers": [main]})).await;
    rig.pod("idle", json!({"containers": [container("main", &["sleep"])]})).await;
    rig.ready("busy").await;
    rig.ready("idle").await;
    let ask = async |path: &str| {
        let path = format!("/apis/metrics.k8s.io/v1beta1/{path}");
        rig.client.request::<Value>(http::Request::get(path).body(Vec::new()).unwrap()).await
    };
    let nodes = rig.until("the API server hands requests on", async || ask("nodes").await.ok()).await;
    assert_eq!(
        (&nodes["kind"], &nodes["items"][0]["metadata"]["name"]),
        (&json!("NodeMetricsList"), &json!(NODE))
    );
    let pods = ask("namespaces/default/pods").await.unwrap();
    assert_eq!(pods["items"].as_array().unwrap().len(), 2, "{pods}");
    let busy = ask("namespaces/default/pods/busy").await.unwrap();
    assert_eq!(busy["containers"].as_array().unwrap().len(), 1, "{busy}");
    let usage = &busy["containers"][0]["usage"];
    let number =
        |text: &Value, unit: &str| text.as_str().unwrap().trim_end_matches(unit).parse::<u64>().unwrap();
    assert!(number(&usage["cpu"], "n") > 0 && number(&usage["memory"], "Ki") > 0, "{busy}");
    let missing = ask("namespaces/default/pods/none").await.unwrap_err();
    assert!(matches!(&missing, kube::Error::Api(status) if status.code == 404), "{missing}");
    rig.kill("agent");
    rig.agent();
}
