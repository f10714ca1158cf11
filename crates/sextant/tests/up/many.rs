//! Commands that change several objects, before an API server alone.

use std::io::pipe;
use std::process::Output;

use serde_json::Value;

use super::{Machine, lone};

/// Two of each; pods would have these annotations.
fn several(notes: &str) -> String {
    let one = |name: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\n\
             spec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}, annotations: {{{notes}}}}}\n    \
             spec: {{containers: [{{name: c, image: none}}]}}\n"
        )
    };
    format!("{}---\n{}", one("first"), one("second"))
}

/// Two kinds of a group of the test's own, with an object of each: of racks there may be several.
const KINDS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: racks.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: racks, singular: rack, kind: Rack}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer}}}
          status: {type: object, properties: {seen: {type: integer}}}
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.seen}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: rooms.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: rooms, singular: room, kind: Room}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
---
apiVersion: example.com/v1
kind: Rack
metadata: {name: left}
spec: {size: 1}
---
apiVersion: example.com/v1
kind: Room
metadata: {name: left}
spec: {size: 1}
";

#[test]
fn what_changes_several_objects_changes_all_of_them_whoever_reads() {
    let machine = Machine::new();
    let _api = lone::api(&machine);
    let file = machine.file("several.yaml", &several(""));
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    // Nobody reads what was done; nor, where that is said, what failed.
    let unread = |said: &str, reads_errors: bool| -> Output {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let said = words(said);
        let mut command = machine.command(&said.iter().map(String::as_str).collect::<Vec<_>>());
        if !reads_errors {
            command.stderr(writer.try_clone().unwrap());
        }
        command.stdout(writer).output().unwrap()
    };
    let done = |said: &str| {
        let ended = unread(said, true);
        assert!(ended.status.success() && ended.stderr.is_empty(), "{said}: {ended:?}");
    };
    let deployments = || -> Vec<Value> {
        let list: Value = serde_json::from_str(&machine.says(&["get", "deploy", "-o", "json"])).unwrap();
        list["items"].as_array().unwrap().clone()
    };
    let have = |number: i32| {
        let all = deployments();
        assert!(
            all.len() == 2 && all.iter().all(|one| one["spec"]["replicas"] == number),
            "{number}: {all:?}"
        );
    };

    done(&format!("apply -f {file}"));
    let maps = machine.says(&["get", "cm", "-o", "name"]);
    assert!(maps.contains("configmap/first\n") && maps.contains("configmap/second\n"), "{maps}");
    have(1);
    done("scale deploy/first deploy/second --replicas 3");
    have(3);
    done("rollout restart deploy/first deploy/second");
    let stamp = "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt";
    assert!(deployments().iter().all(|one| one.pointer(stamp).is_some()), "{:?}", deployments());
    // One that fails is told to whoever reads that, and the others are done.
    let scale = "scale deploy/first deploy/nobody deploy/second --replicas";
    let ended = unread(&format!("{scale} 4"), true);
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.starts_with("sextant: cannot scale deployment.apps/nobody: "), "{told}");
    have(4);
    assert_eq!(unread(&format!("{scale} 5"), false).status.code(), Some(1));
    have(5);
    done(&format!("delete -f {file}"));
    assert!(deployments().is_empty());
    let maps = machine.says(&["get", "cm", "-o", "name"]);
    assert!(!maps.contains("first") && !maps.contains("second"), "{maps}");

    // What the server warns of holds nothing up either.
    let notes = "scheduler.alpha.kubernetes.io/critical-pod: ''";
    let apply = format!("apply -f {}", machine.file("warned.yaml", &several(notes)));
    assert_eq!(unread(&apply, false).status.code(), Some(0));
    have(1);
    done(&format!("delete -f {file}"));
    let warned = unread(&apply, true);
    let told = String::from_utf8_lossy(&warned.stderr);
    assert!(warned.status.success() && told.matches("sextant: warning: ").count() == 2, "{told}");
}

#[test]
fn custom_resources_that_have_a_number_are_scaled() {
    let machine = Machine::new();
    let _api = lone::api(&machine);
    machine.says(&["apply", "-f", &machine.file("kinds.yaml", KINDS)]);
    let size = |of: &str| {
        let one: Value = serde_json::from_str(&machine.says(&["get", of, "-o", "json"])).unwrap();
        one["spec"]["size"].clone()
    };
    assert_eq!(
        machine.says(&["scale", "rack/left", "--replicas", "4", "--current-replicas", "1"]),
        "rack.example.com/left scaled\n"
    );
    assert_eq!(size("rack/left"), 4);
    let refused = machine.refuses(&["scale", "racks", "left", "--replicas", "2", "--current-replicas", "1"]);
    assert!(refused.contains("cannot scale rack.example.com/left: it is to have 4 replicas"), "{refused}");
    let refused = machine.refuses(&["scale", "room/left", "--replicas", "2"]);
    assert!(refused.contains("cannot scale room.example.com/left: "), "{refused}");
    assert_eq!((size("rack/left"), size("room/left")), (4.into(), 1.into()));
}
