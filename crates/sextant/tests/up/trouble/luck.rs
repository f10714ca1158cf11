//! Rows of bad luck: what status, reason, event and message say of each, and what `sextant explain` says to do.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::{Value, json};

use super::super::Machine;

/// A pod, and what is told of it once it is in its trouble.
pub(super) struct Row {
    pub(super) pod: &'static str,
    pub(super) spec: Value,
    /// In its status: the place, as a JSON pointer, and what is found there.
    pub(super) status: &'static [(&'static str, &'static str)],
    /// Its events: the part of it that each is about, the reason and what the message has in it.
    pub(super) events: &'static [(&'static str, &'static str, &'static str)],
    /// What `sextant explain` says: why, and what to do.
    pub(super) explained: [&'static str; 2],
}

const APP: &str = "spec.containers{app}";
const WAITING: &str = "/containerStatuses/0/state/waiting/reason";
const WHY: &str = "/containerStatuses/0/state/waiting/message";
const UNSCHEDULED: (&str, &str) = ("/conditions/0/reason", "Unschedulable");

/// A container of the demo's image, with these fields.
pub(super) fn app(fields: Value) -> Value {
    let mut app =
        json!({"name": "app", "image": "registry.sextant.example/shop:1", "imagePullPolicy": "Never"});
    app.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
    app
}

pub(super) fn of(container: Value) -> Value {
    json!({"terminationGracePeriodSeconds": 0, "containers": [container]})
}

fn with_volume(source: Value) -> Value {
    let mut volume = json!({"name": "v"});
    volume.as_object_mut().unwrap().extend(source.as_object().cloned().unwrap());
    let container = app(json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
    json!({"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": [volume]})
}

impl Row {
    pub(super) fn pod(&self) -> String {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": self.pod}, "spec": self.spec})
            .to_string()
    }

    /// Whether status and events are as they should be.
    fn holds(&self, machine: &Machine) -> Result<(), String> {
        let object = |words: &[&str]| -> Value {
            serde_json::from_str(&machine.says(&[&["get"], words, &["-o", "json"]].concat())).unwrap()
        };
        let status = object(&["pod", self.pod])["status"].take();
        for (place, wanted) in self.status {
            let found = status.pointer(place).and_then(Value::as_str).unwrap_or_default();
            if !found.contains(wanted) {
                return Err(format!("{place} is {found:?}, and not {wanted:?}: {status}"));
            }
        }
        let events = object(&["events"])["items"].take();
        let of_pod = |event: &&Value| event["involvedObject"]["name"] == self.pod;
        let events: Vec<&Value> = events.as_array().unwrap().iter().filter(of_pod).collect();
        for (part, reason, message) in self.events {
            let is_told = events.iter().any(|event| {
                event["involvedObject"]["fieldPath"].as_str().unwrap_or_default() == *part
                    && event["reason"] == *reason
                    && event["message"].as_str().is_some_and(|text| text.contains(message))
            });
            if !is_told {
                return Err(format!("no event {reason} of {part:?} with {message:?}: {events:?}"));
            }
        }
        Ok(())
    }
}

/// Makes the pods, and waits until each is in its trouble and told of.
pub(super) fn run(machine: &Machine, rows: &[Row]) {
    let all = rows.iter().map(Row::pod).collect::<Vec<_>>().join("\n---\n");
    let file = machine.file("rows.yaml", &all);
    machine.says(&["apply", "-f", &file]);
    for row in rows {
        told(machine, row);
    }
    machine.says(&["delete", "-f", &file, "--grace-period", "0"]);
}

pub(super) fn told(machine: &Machine, row: &Row) {
    let begun = std::time::Instant::now();
    while let Err(why) = row.holds(machine) {
        assert!(begun.elapsed() < super::super::PATIENCE, "{}: {why}\n{}", row.pod, machine.all_words());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    machine.until(&["explain", row.pod], |said| row.explained.iter().all(|words| said.contains(words)));
}

/// A registry that has no luck itself: it answers so to whatever it is asked. Its address.
fn registry(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 4096];
            // A client that goes, or speaks TLS, is as good as one that does not.
            let _ = stream.read(&mut asked);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn images_that_cannot_be_had_are_told_and_explained() {
    let machine = Machine::new();
    machine.up(&["--node-name", "here"]);
    let answer = |code: &'static str| registry(code);
    let (broken, closed) = (
        answer("HTTP/1.1 500 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        answer("HTTP/1.1 403 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
    );
    let image = |image: String| of(json!({"name": "app", "image": image}));
    let mut secret = image("127.0.0.1:1/none:2".into());
    secret["imagePullSecrets"] = json!([{"name": "login"}]);
    let rows = [
        Row {
            pod: "down",
            spec: image("127.0.0.1:1/none:1".into()),
            status: &[("/phase", "Pending"), (WAITING, "ImagePullBackOff"), (WHY, "Back-off pulling image")],
            events: &[
                (APP, "Pulling", "Pulling image \"127.0.0.1:1/none:1\""),
                (APP, "Failed", "Failed to pull image \"127.0.0.1:1/none:1\": "),
                (APP, "Failed", "Error: ErrImagePull"),
                (APP, "BackOff", "Back-off pulling image \"127.0.0.1:1/none:1\""),
                (APP, "Failed", "Error: ImagePullBackOff"),
            ],
            explained: ["Connection refused", "`sextant registry explain 127.0.0.1:1/none:1`"],
        },
        Row {
            pod: "broken",
            spec: image(format!("{broken}/none:1")),
            status: &[("/phase", "Pending"), (WAITING, "ImagePullBackOff"), (WHY, "ErrImagePull: ")],
            events: &[(APP, "Failed", "500"), (APP, "Failed", "Error: ErrImagePull")],
            explained: ["500", "`sextant registry explain "],
        },
        Row {
            pod: "closed",
            spec: image(format!("{closed}/none:1")),
            status: &[("/phase", "Pending"), (WAITING, "ImagePullBackOff")],
            events: &[(APP, "Failed", "Failed to pull image")],
            explained: ["403", "imagePullSecrets of pod closed"],
        },
        Row {
            pod: "misspelt",
            spec: image("Library/Web:1".into()),
            status: &[
                ("/phase", "Pending"),
                (WAITING, "InvalidImageName"),
                (WHY, "couldn't parse image name"),
            ],
            events: &[
                (APP, "InspectFailed", "Failed to apply default image tag \"Library/Web:1\": couldn't parse"),
                (APP, "Failed", "Error: InvalidImageName"),
            ],
            explained: ["Library/Web:1", "correct the image's name"],
        },
        Row {
            pod: "never",
            spec: of(json!({"name": "app", "image": "lan/none:1", "imagePullPolicy": "Never"})),
            status: &[
                (WAITING, "ErrImageNeverPull"),
                (WHY, "Container image \"lan/none:1\" is not present with pull policy of Never"),
            ],
            events: &[(APP, "ErrImageNeverPull", "not present"), (APP, "Failed", "Error: ErrImageNeverPull")],
            explained: ["lan/none:1", "`sextant pull lan/none:1`"],
        },
        Row {
            pod: "secret",
            spec: secret,
            status: &[(WAITING, "ImagePullBackOff")],
            events: &[(
                "",
                "FailedToRetrieveImagePullSecret",
                "Unable to retrieve some image pull secrets (login); attempting to pull the image may not succeed.",
            )],
            explained: ["127.0.0.1:1/none:2", "sextant registry explain"],
        },
    ];
    run(&machine, &rows);
}

const OBJECTS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: far}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: far
  local: {path: /far}
  nodeAffinity:
    required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [elsewhere]}]}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: far}
spec: {storageClassName: far, volumeName: far, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

#[test]
fn volumes_that_are_missing_are_told_and_explained() {
    let machine = Machine::new();
    machine.says(&["demo", "--image"]);
    machine.up(&["--node-name", "here"]);
    machine.says(&["apply", "-f", &machine.file("objects.yaml", OBJECTS)]);
    let creating = &[("/phase", "Pending"), (WAITING, "ContainerCreating")];
    let key = json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "none"}}}]});
    let rows = [
        Row {
            pod: "map",
            spec: with_volume(json!({"configMap": {"name": "none"}})),
            status: creating,
            events: &[(
                "",
                "FailedMount",
                "MountVolume.SetUp failed for volume \"v\" : configmap \"none\" not found",
            )],
            explained: ["configmap \"none\" not found", "apply the object that the volume names"],
        },
        Row {
            pod: "secret",
            spec: with_volume(json!({"secret": {"secretName": "none"}})),
            status: creating,
            events: &[(
                "",
                "FailedMount",
                "MountVolume.SetUp failed for volume \"v\" : secret \"none\" not found",
            )],
            explained: ["secret \"none\" not found", "apply the object that the volume names"],
        },
        Row {
            pod: "item",
            spec: with_volume(
                json!({"configMap": {"name": "settings", "items": [{"key": "none", "path": "p"}]}}),
            ),
            status: creating,
            events: &[(
                "",
                "FailedMount",
                "MountVolume.SetUp failed for volume \"v\" : configmap references non-existent config key: none",
            )],
            explained: ["non-existent config key: none", "correct items of the volume"],
        },
        Row {
            pod: "host",
            spec: with_volume(json!({"hostPath": {"path": "/dev/null", "type": "Directory"}})),
            status: creating,
            events: &[(
                "",
                "FailedMount",
                "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: /dev/null is not a directory",
            )],
            explained: ["/dev/null is not a directory", "hostPath.type"],
        },
        Row {
            pod: "claim",
            spec: with_volume(json!({"persistentVolumeClaim": {"claimName": "none"}})),
            status: &[
                ("/phase", "Pending"),
                UNSCHEDULED,
                ("/conditions/0/message", "persistentvolumeclaim \"none\" not found"),
            ],
            events: &[("", "FailedScheduling", "persistentvolumeclaim \"none\" not found")],
            explained: ["its claim \"none\" is not there", "PersistentVolumeClaim"],
        },
        Row {
            pod: "far",
            spec: with_volume(json!({"persistentVolumeClaim": {"claimName": "far"}})),
            status: &[
                ("/phase", "Pending"),
                UNSCHEDULED,
                ("/conditions/0/message", "1 node(s) didn't match PersistentVolume's node affinity"),
            ],
            events: &[(
                "",
                "FailedScheduling",
                "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's",
            )],
            explained: ["PersistentVolume's node affinity", "its volume is on another node"],
        },
        Row {
            pod: "key",
            spec: of(app(key)),
            status: &[
                (WAITING, "CreateContainerConfigError"),
                (WHY, "couldn't find key none in ConfigMap default/settings"),
            ],
            events: &[(APP, "Failed", "Error: couldn't find key none in ConfigMap default/settings")],
            explained: ["couldn't find key none", "with that key"],
        },
    ];
    run(&machine, &rows);
}

/// What the API refuses, and what it says of it.
const REFUSED: [(&str, &str); 7] = [
    ("{containers: []}", "spec.containers: Required value"),
    (
        "{containers: [{name: a, image: b, imagee: c}]}",
        ".spec.containers[name=\"a\"].imagee: field not declared in schema",
    ),
    (
        "{containers: [{name: a, image: b, ports: [{containerPort: 70000}]}]}",
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    ),
    (
        "{restartPolicy: Sometimes, containers: [{name: a, image: b}]}",
        "spec.restartPolicy: Unsupported value: \"Sometimes\"",
    ),
    (
        "{containers: [{name: a, image: b, volumeMounts: [{name: v, mountPath: /v}]}]}",
        "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
    ),
    (
        "{containers: [{name: a, image: b, resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]}",
        "must be less than or equal to cpu limit",
    ),
    (
        "{containers: [{name: a, image: b}, {name: a, image: b}]}",
        ".spec.containers: duplicate entries for key [name=\"a\"]",
    ),
];

#[test]
fn bad_manifests_are_refused_with_the_field_and_others_explained() {
    let machine = Machine::new();
    machine.says(&["demo", "--image"]);
    machine.up(&["--node-name", "here"]);
    for (spec, words) in REFUSED {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: bad}}\nspec: {spec}\n");
        let refused = machine.refuses(&["apply", "-f", &machine.file("bad.yaml", &text)]);
        assert!(refused.contains(words), "{spec}: {refused}");
    }
    let mut hook =
        of(app(json!({"args": ["serve"], "lifecycle": {"postStart": {"exec": {"command": ["/nothing"]}}}})));
    hook["terminationGracePeriodSeconds"] = json!(1);
    let dead = json!({"args": ["serve"], "livenessProbe": {"tcpSocket": {"port": 81}, "periodSeconds": 1, "failureThreshold": 1}});
    let mut pinned = of(app(json!({"args": ["serve"]})));
    pinned["nodeSelector"] = json!({"disk": "fast"});
    let rows = [
        Row {
            pod: "root",
            spec: of(app(json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}))),
            status: &[
                ("/phase", "Pending"),
                (WAITING, "CreateContainerConfigError"),
                (WHY, "container's runAsUser breaks non-root policy (pod: \"root_default("),
            ],
            events: &[(APP, "Failed", "Error: container's runAsUser breaks non-root policy")],
            explained: ["non-root policy", "securityContext.runAsUser"],
        },
        Row {
            pod: "command",
            spec: of(app(json!({"command": ["/nothing"]}))),
            status: &[("/containerStatuses/0/lastState/terminated/reason", "StartError")],
            events: &[(APP, "Created", "Container created"), (APP, "Failed", "Error: ")],
            explained: ["/nothing", "whether its command is in the image"],
        },
        Row {
            pod: "loop",
            spec: of(app(json!({"args": ["nonsense"]}))),
            status: &[
                ("/phase", "Running"),
                (WAITING, "CrashLoopBackOff"),
                (WHY, "restarting failed container=app pod=loop_default("),
            ],
            events: &[
                (APP, "Started", "Container started"),
                (APP, "BackOff", "Back-off restarting failed container app in pod loop_default("),
            ],
            explained: ["ended with code 1", "--previous"],
        },
        Row {
            pod: "hook",
            spec: hook,
            status: &[(WAITING, "CrashLoopBackOff")],
            events: &[
                (APP, "FailedPostStartHook", "PostStartHook failed"),
                (APP, "Killing", "FailedPostStartHook"),
            ],
            explained: [
                "its hook after the start failed: PostStartHook failed",
                "correct lifecycle.postStart",
            ],
        },
        Row {
            pod: "dead",
            spec: of(app(dead)),
            status: &[(WAITING, "CrashLoopBackOff")],
            events: &[
                (APP, "Unhealthy", "Liveness probe failed: dial tcp "),
                (APP, "Unhealthy", ":81: connect: connection refused"),
                (APP, "Killing", "Container app failed liveness probe, will be restarted"),
            ],
            explained: [
                "its liveness probe failed: Liveness probe failed: dial tcp",
                "correct livenessProbe",
            ],
        },
        Row {
            pod: "pinned",
            spec: pinned,
            status: &[("/phase", "Pending"), UNSCHEDULED, ("/conditions/0/type", "PodScheduled")],
            events: &[("", "FailedScheduling", "1 node(s) didn't match Pod's node affinity/selector")],
            explained: ["node affinity/selector", "label the node"],
        },
    ];
    run(&machine, &rows);
}
