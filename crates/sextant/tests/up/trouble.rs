//! Bad manifests and bad luck: what is said, and what to do.

mod luck;
mod room;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::Machine;
use super::whole::client;

#[tokio::test]
async fn bad_files_are_told_with_their_place() {
    let machine = Machine::new();
    let bad = machine.file("bad.yaml", "a: [1\n");
    let refused = machine.ask(&["up", "-d", "--apply", &bad]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("bad.yaml, document 1"), "{refused:?}");
    assert!(machine.status().0.is_empty(), "nothing was started");
    machine.up(&["--node-name", "here"]);

    let several = machine.file(
        "several.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n---\napiVersion: none.example/v1\nkind: Thing\nmetadata: {name: a}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {name: odd}\ndata: {a: b}\nmore: 1\n",
    );
    let refused = machine.ask(&["apply", "-f", &several]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "configmap/good created\n");
    for words in [
        "Thing \"a\" (",
        "several.yaml, document 2): the server has no kind Thing in none.example/v1",
        "document 3): ",
        "more",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }

    // Somebody else's field.
    let mine = machine
        .file("mine.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\ndata: {a: mine}\n");
    let held = || {
        let told: Value = serde_json::from_str(&machine.says(&["get", "cm", "good", "-o", "json"])).unwrap();
        told["data"]["a"].clone()
    };
    let dry = ["apply", "-f", &mine, "--dry-run"];
    assert_eq!(machine.says(&dry), "configmap/good configured (dry run)\n");
    assert_eq!(held(), Value::Null);
    machine.says(&["apply", "-f", &mine]);
    assert_eq!((held(), machine.says(&dry)), ("mine".into(), "configmap/good unchanged (dry run)\n".into()));
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&machine).await);
    let theirs = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "theirs"}}));
    maps.patch("good", &PatchParams::apply("somebody").force(), &theirs).await.unwrap();
    let refused = machine.refuses(&["apply", "-f", &mine]);
    assert!(
        refused.contains("\"somebody\"") && refused.contains("(--force-conflicts takes these fields)"),
        "{refused}"
    );
    assert_eq!(held(), "theirs");
    assert_eq!(machine.says(&["apply", "-f", &mine, "--force-conflicts"]), "configmap/good configured\n");
    assert_eq!(held(), "mine");

    // Names that would mean all of a kind, or another place.
    let odd = machine.file("odd.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 'good?a=b'}\n");
    let place = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: 'default/configmaps?'}\n";
    let place = machine.file("place.yaml", place);
    let elsewhere = ["cm", "a", "-n", "default/configmaps?a=b"];
    for words in [
        &["cm", ""][..],
        &["cm", "good?"],
        &["cm/good?a=b"],
        &["-f", &odd],
        &elsewhere,
        &["cm", "good", "-n", ""],
        &["-f", &place, "--ignore-not-found"],
    ] {
        let refused = machine.refuses(&[&["delete"], words].concat());
        assert!(refused.contains("cannot use the name"), "{words:?}: {refused}");
    }
    assert!(machine.refuses(&["apply", "-f", &odd]).contains("cannot use the name"));
    assert_eq!(held(), "mine");
}

#[test]
fn pods_that_do_not_run_are_explained() {
    let machine = Machine::new();
    machine.says(&["demo", "--image"]);
    machine.up(&["--node-name", "here"]);
    machine.says(&["apply", "-f", &machine.file("pods.yaml", PODS)]);
    let expected = [
        ("missing", "ErrImageNeverPull", "sextant load"),
        ("big", "Insufficient cpu", "resources.requests"),
        ("loop", "ended with code 1", "--previous"),
        ("unset", "configmap \"settings\" not found", "apply the ConfigMap"),
        ("claimed", "its claim \"data\" is not there", "PersistentVolumeClaim"),
        ("deaf", "readiness probe has not succeeded", "readinessProbe"),
        ("other", "no scheduler has looked at it", "\"nobody\""),
    ];
    for (pod, why, todo) in expected {
        machine.until(&["explain", pod], |said| said.contains(why) && said.contains(todo));
    }
    let told: Value = serde_json::from_str(&machine.says(&["explain", "missing", "-o", "json"])).unwrap();
    let reasons = told["api"]["reasons"].as_array().unwrap();
    assert!(told["api"]["pod"] == "default/missing" && reasons.len() == 1, "{told}");
    assert!(machine.refuses(&["explain", "nobody", "-n", "default"]).contains("not found"));
    machine.says(&["delete", "-f", &machine.file("pods.yaml", PODS), "--grace-period", "0"]);
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: app, image: 'registry.sextant.example/none:1', imagePullPolicy: Never}]}
---
apiVersion: v1
kind: Pod
metadata: {name: big}
spec: {containers: [{name: app, image: 'registry.sextant.example/shop:1', imagePullPolicy: Never, resources: {requests: {cpu: '5000'}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: loop}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: 'registry.sextant.example/shop:1', imagePullPolicy: Never, args: [nonsense]}]
---
apiVersion: v1
kind: Pod
metadata: {name: unset}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: 'registry.sextant.example/shop:1', imagePullPolicy: Never, envFrom: [{configMapRef: {name: settings}}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: claimed}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: 'registry.sextant.example/shop:1', imagePullPolicy: Never}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
---
apiVersion: v1
kind: Pod
metadata: {name: deaf}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: app, image: 'registry.sextant.example/shop:1', imagePullPolicy: Never, readinessProbe: {tcpSocket: {port: 81}, periodSeconds: 1}}
---
apiVersion: v1
kind: Pod
metadata: {name: other}
spec: {schedulerName: nobody, containers: [{name: app, image: 'registry.sextant.example/shop:1'}]}
";
