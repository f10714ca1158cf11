//! Runtime classes: what pods get of them.

use serde_json::{Value, json};

use crate::whole::{client, start, until};

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_the_overhead_and_the_nodes_of_their_class() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    until(&admin, "/api/v1/namespaces/default/serviceaccounts/default", 200).await;
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    let over = json!({
        "metadata": {"name": "over"}, "handler": "h", "overhead": {"podFixed": {"cpu": "100m", "memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"k": "v"}, "tolerations": [
            {"key": "t", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5},
        ]},
    });
    for class in [over, json!({"metadata": {"name": "plain"}, "handler": "h"})] {
        assert_eq!(admin.post(classes, &class).await.status, 201);
    }
    let asked = |more: Value| {
        let mut pod =
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}});
        for (field, value) in more.as_object().unwrap() {
            pod["spec"][field] = value.clone();
        }
        let admin = admin.clone();
        async move { admin.post("/api/v1/namespaces/default/pods?dryRun=All", &pod).await }
    };
    // As a kube-apiserver 1.36.2 answered.
    for (more, cause) in [
        (json!({"runtimeClassName": "nope"}), "pod rejected: RuntimeClass \"nope\" not found"),
        (
            json!({"runtimeClassName": "over", "nodeSelector": {"k": "w"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[k] = v; pod.spec.nodeSelector[k] = w",
        ),
        (
            json!({"runtimeClassName": "over", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "plain", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"preemptionPolicy": ""}),
            "the string value of PreemptionPolicy () must not be provided in pod spec; priority admission controller \
             computed PreemptLowerPriority from the given PriorityClass name",
        ),
        (
            json!({"serviceAccountName": "a/b"}),
            "error looking up service account default/a/b: invalid resource name \"a/b\": [may not contain '/']",
        ),
    ] {
        let refused = asked(more).await.refusal();
        assert_eq!(refused, (403, format!("pods \"p\" is forbidden: {cause}")));
    }
    let made = asked(json!({"runtimeClassName": "over", "nodeSelector": {"a": "b"}})).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let spec = made.json()["spec"].clone();
    assert_eq!(spec["overhead"], json!({"cpu": "100m", "memory": "64Mi"}));
    assert_eq!(spec["nodeSelector"], json!({"a": "b", "k": "v"}));
    let keys: Vec<&str> =
        spec["tolerations"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "t"]);
    assert_eq!(spec["tolerations"][0]["tolerationSeconds"], 300);
    let plain = asked(json!({"runtimeClassName": "plain"})).await.json();
    assert_eq!(plain["spec"].get("overhead"), None);
}
