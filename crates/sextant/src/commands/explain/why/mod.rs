//! Why a pod of the API does not run, and what to do: from its status, its events, its claims and its node.

mod containers;

use serde_json::Value;

use crate::objects::{age, asked_to_end, condition, list, text};

/// What else is known of a pod.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// What happened to it, oldest first.
    pub(super) events: Vec<Value>,
    /// The claims of its volumes by name; none for one that is not there.
    pub(super) claims: Vec<(String, Option<Claim>)>,
    /// Its node; none where there is no such node.
    pub(super) node: Option<Value>,
    /// All nodes, where it has none.
    pub(super) nodes: Vec<Value>,
}

/// A claim, and the last that happened to it.
#[derive(Debug, Default)]
pub(super) struct Claim {
    pub(super) object: Value,
    pub(super) last: String,
}

/// One reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) what: String,
    /// What to do; may be empty.
    pub(super) todo: String,
}

fn reason(what: impl Into<String>, todo: impl Into<String>) -> Reason {
    Reason { what: what.into(), todo: todo.into() }
}

/// One line of how it is.
pub(super) fn state(pod: &Value) -> String {
    let name = format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"));
    let node = match text(pod, "/spec/nodeName") {
        "" => "on no node".to_owned(),
        node => format!("on node {node}"),
    };
    let since = age(text(pod, "/metadata/creationTimestamp"));
    let phase = text(pod, "/status/phase");
    let how = match phase {
        _ if !text(pod, "/metadata/deletionTimestamp").is_empty() => "is ending".into(),
        "Running" if is_true(pod, "Ready") => "runs and is ready".into(),
        "Running" => "runs and is not ready".into(),
        "Succeeded" => "has ended well".into(),
        "Failed" => "has failed".into(),
        "" => "is not looked at yet".into(),
        phase => format!("is {}", phase.to_lowercase()),
    };
    format!("pod {name} {how}, {node}, {since} old")
}

fn is_true(pod: &Value, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|one| text(one, "/status") == "True")
}

/// All of them; none where it runs and is ready, or has ended well.
pub(super) fn reasons(pod: &Value, facts: &Facts) -> Vec<Reason> {
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        return vec![ending(pod)];
    }
    match text(pod, "/status/phase") {
        "Succeeded" => return Vec::new(),
        "Failed" => return failed(pod),
        _ => {}
    }
    if text(pod, "/spec/nodeName").is_empty() {
        return unscheduled(pod, facts);
    }
    let mut all: Vec<Reason> = containers::reasons(pod, facts);
    if !is_true(pod, "Ready") && all.is_empty() {
        all.extend(before_containers(pod, facts));
    }
    for gate in list(pod, "/spec/readinessGates").iter().map(|gate| text(gate, "/conditionType")) {
        if !is_true(pod, gate) {
            all.push(reason(
                format!("the readiness gate {gate} is not true"),
                "see whether the controller runs that sets this condition",
            ));
        }
    }
    all
}

fn ending(pod: &Value) -> Reason {
    let asked = asked_to_end(pod);
    let finalizers: Vec<&str> = list(pod, "/metadata/finalizers").iter().filter_map(Value::as_str).collect();
    if finalizers.is_empty() {
        let (name, namespace) = (text(pod, "/metadata/name"), text(pod, "/metadata/namespace"));
        return reason(
            format!("it was deleted, and its containers have to end (asked for {asked} ago)"),
            format!("wait, or `sextant delete pod {name} -n {namespace} --force` where its node is gone"),
        );
    }
    reason(
        format!("it was deleted, and waits for {}", finalizers.join(", ")),
        "see whether the controller runs that takes this finalizer away",
    )
}

fn failed(pod: &Value) -> Vec<Reason> {
    let (why, message) = (text(pod, "/status/reason"), text(pod, "/status/message"));
    let mut all = Vec::new();
    if !why.is_empty() {
        let todo = match why {
            "Evicted" if message.contains("EmptyDir volume") => {
                "have it write less, or give the volume more: emptyDir.sizeLimit"
            }
            "Evicted" if message.contains("ephemeral") => {
                "have it write less, or give it more: resources.limits.ephemeral-storage"
            }
            "Evicted" => "free what the node lacks (disk, memory), or have the pod ask for less",
            "NodePorts" => {
                "another pod has the host port: take another, or none (a Service reaches pods without)"
            }
            "NodeAffinity" => "label the node, or change the pod's nodeSelector or affinity",
            _ if why.starts_with("OutOf") => {
                "have the pod ask for less, or end others; without spec.nodeName a scheduler looks for room"
            }
            "DeadlineExceeded" => "give it more time: spec.activeDeadlineSeconds",
            _ => "",
        };
        all.push(reason(format!("{why}: {message}"), todo));
    }
    all.extend(containers::ends(pod));
    all
}

/// What a message of the scheduler has in it, and what to do then.
const SCHEDULER: [(&str, &str); 11] = [
    (
        "Insufficient",
        "have the pod ask for less (resources.requests), or end others: `sextant describe node` lists who asks for what",
    ),
    (
        "untolerated taint",
        "have the pod tolerate the taint, or take it from the node: `sextant describe node`",
    ),
    (
        "node affinity/selector",
        "label the node, or change the pod's nodeSelector or affinity: `sextant get nodes -o yaml`",
    ),
    ("were unschedulable", "open the node again: spec.unschedulable of the node is true"),
    ("free ports", "another pod has the host port: take another, or none (a Service reaches pods without)"),
    ("Too many pods", "end other pods: the node takes no more"),
    ("anti-affinity", "change the pod's podAntiAffinity, or end the pod it keeps away from"),
    (
        "PersistentVolume's node affinity",
        "its volume is on another node (`sextant get pv -o yaml`: nodeAffinity): have the pod run there, or take another claim",
    ),
    (
        "persistent volumes to bind",
        "make a PersistentVolume that its claim fits, or name a storageClassName that makes volumes (`sextant get storageclasses`)",
    ),
    (
        "enough free storage",
        "have the claim ask for less, or make room where its storage class has its volumes",
    ),
    ("no nodes available", "a node has to register: see whether the agent runs (`sextant status`)"),
];

fn unscheduled(pod: &Value, facts: &Facts) -> Vec<Reason> {
    let gates: Vec<&str> =
        list(pod, "/spec/schedulingGates").iter().map(|gate| text(gate, "/name")).collect();
    if !gates.is_empty() {
        return vec![reason(
            format!("it is held back by the gate {}", gates.join(", ")),
            "whoever put the gate there takes it away (spec.schedulingGates)",
        )];
    }
    let mut all = claims(pod, facts);
    let said = condition(pod, "PodScheduled").map(|one| text(one, "/message")).unwrap_or_default();
    match said {
        "" if all.is_empty() => {
            let wanted = text(pod, "/spec/schedulerName");
            let todo = match wanted {
                "" | "default-scheduler" => "see whether the scheduler runs: `sextant status`".to_owned(),
                other => {
                    format!("its schedulerName is {other:?}: that one has to run, or leave the field out")
                }
            };
            all.push(reason("no scheduler has looked at it", todo));
        }
        "" => {}
        // What is wrong with a claim is told better by the claim.
        said if !all.is_empty() && said.to_lowercase().contains("persistentvolumeclaim") => {}
        said => {
            let found = SCHEDULER.iter().filter(|(mark, _)| said.contains(mark)).map(|(_, todo)| *todo);
            let mut found: Vec<String> = found.map(str::to_owned).collect();
            if said.contains("untolerated taint") {
                found.splice(..0, facts.nodes.iter().flat_map(shortages));
            }
            all.push(reason(format!("no node takes it: {said}"), found.join("; ")));
        }
    }
    all
}

/// What a node is short of, as its taints say.
fn shortages(node: &Value) -> Vec<String> {
    let name = text(node, "/metadata/name");
    let keys = list(node, "/spec/taints").iter().map(|taint| text(taint, "/key"));
    let lacks =
        keys.filter_map(|key| match key.strip_prefix("node.kubernetes.io/")?.strip_suffix("-pressure")? {
            "pid" => Some("process ids"),
            "memory" => Some("memory"),
            "disk" => Some("disk"),
            _ => None,
        });
    lacks
        .map(|what| format!("node {name} is short of {what}: free some, and the taint goes by itself"))
        .collect()
}

/// Claims that keep it waiting.
fn claims(pod: &Value, facts: &Facts) -> Vec<Reason> {
    let namespace = text(pod, "/metadata/namespace");
    let mut all = Vec::new();
    for (name, claim) in &facts.claims {
        let Some(claim) = claim else {
            all.push(reason(
                format!("its claim {name:?} is not there"),
                "apply a PersistentVolumeClaim of that name",
            ));
            continue;
        };
        if text(&claim.object, "/status/phase") == "Bound" {
            continue;
        }
        let class = text(&claim.object, "/spec/storageClassName");
        let (what, todo) = match (class, claim.last.as_str()) {
            ("", "") => (
                format!("its claim {name:?} is bound to no volume, and names no storage class"),
                "give it a storageClassName (`sextant get storageclasses`), or make a PersistentVolume for it".to_owned(),
            ),
            (_, last) => (
                format!("its claim {name:?} is bound to no volume{}", after(last)),
                format!("`sextant describe pvc {name} -n {namespace}`; does the provisioner of storage class {class:?} run?"),
            ),
        };
        all.push(reason(what, todo));
    }
    all
}

fn after(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {}", text.trim()) }
}

/// The last event with one of these reasons.
fn last(facts: &Facts, reasons: &[&str]) -> String {
    let found = facts.events.iter().rev().find(|event| reasons.contains(&text(event, "/reason")));
    found.map(|event| text(event, "/message").to_owned()).unwrap_or_default()
}

/// It has a node, and no container that says anything.
fn before_containers(pod: &Value, facts: &Facts) -> Vec<Reason> {
    let mut all = claims(pod, facts);
    let mount = last(facts, &["FailedMount"]);
    for (wanted, todo) in [
        ("FailedMount", unmounted(&mount)),
        ("FailedAttachVolume", "see whether the volume is used elsewhere: `sextant get volumeattachments`"),
        ("FailedCreatePodSandBox", unmade(&last(facts, &["FailedCreatePodSandBox"]))),
    ] {
        let said = last(facts, &[wanted]);
        if !said.is_empty() {
            all.push(reason(said, todo));
        }
    }
    if !all.is_empty() {
        return all;
    }
    let node = text(pod, "/spec/nodeName");
    let Some(object) = &facts.node else {
        return vec![reason(
            format!("its node {node:?} is not there"),
            "delete the pod, or have a node of that name register (`sextant up --node-name`)",
        )];
    };
    if !is_true(object, "Ready") {
        let said = condition(object, "Ready").map(|one| text(one, "/message")).unwrap_or_default();
        return vec![reason(
            format!("its node {node} is not ready{}", after(said)),
            "see whether agent and node run: `sextant status`",
        )];
    }
    if text(pod, "/status/startTime").is_empty() {
        return vec![reason(
            format!("node {node} has not begun with it"),
            "see whether the agent runs: `sextant status`",
        )];
    }
    vec![reason("it is being made", String::new())]
}

/// What to do about a sandbox that cannot be made.
fn unmade(said: &str) -> &'static str {
    if said.contains("host port") {
        "take another hostPort, or none (a Service reaches pods without), or end who has it"
    } else {
        "see the node's log (`sextant status` names it) and its networks"
    }
}

/// What to do about a volume that cannot be mounted.
fn unmounted(said: &str) -> &'static str {
    const KNOWN: [(&str, &str); 5] = [
        ("hostPath type check", "make the path on the node, or correct hostPath.path and hostPath.type"),
        ("non-existent", "put the key into the object, or correct items of the volume"),
        ("registered CSI drivers", "see whether the driver runs on the node: `sextant get csinodes -o yaml`"),
        ("no volume plugin matched", "take another kind of volume: the agent has none of this kind"),
        ("not found", "apply the object that the volume names, in the pod's namespace, or mark it optional"),
    ];
    let found = KNOWN.iter().find(|(mark, _)| said.contains(mark));
    found.map_or("`sextant describe pod` has all events", |(_, todo)| todo)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(node: &str, status: Value) -> Value {
        json!({"kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"nodeName": node}, "status": status})
    }

    fn told(pod: &Value, facts: &Facts) -> String {
        let all: Vec<String> =
            reasons(pod, facts).iter().map(|one| format!("{} -> {}", one.what, one.todo)).collect();
        all.join("\n")
    }

    fn waiting(reason: &str, message: &str) -> Value {
        pod(
            "here",
            json!({"phase": "Pending", "containerStatuses": [
            {"name": "app", "image": "lan/app:1", "restartCount": 3, "state": {"waiting": {"reason": reason, "message": message}},
             "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}),
        )
    }

    #[test]
    fn who_is_bound_nowhere_is_told_why() {
        let said = "0/1 nodes are available: 1 Insufficient cpu.";
        let full = pod(
            "",
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": said}]}),
        );
        let text = told(&full, &Facts::default());
        assert!(text.contains(said) && text.contains("resources.requests"), "{text}");
        assert!(told(&pod("", json!({})), &Facts::default()).contains("sextant status"));
        let claims = vec![
            ("data".to_owned(), None),
            (
                "more".to_owned(),
                Some(Claim {
                    object: json!({"spec": {"storageClassName": "fast"}}),
                    last: "no driver".into(),
                }),
            ),
        ];
        let text = told(&pod("", json!({})), &Facts { claims, ..Facts::default() });
        assert!(
            text.contains("\"data\" is not there")
                && text.contains("no driver")
                && text.contains("pvc more -n shop`")
                && text.contains("\"fast\""),
            "{text}"
        );
    }

    #[test]
    fn an_image_that_is_missing_is_told_with_its_cause() {
        let said = "Failed to pull image \"lan/app:1\": no route to host";
        let facts = Facts { events: vec![json!({"reason": "Failed", "message": said})], ..Facts::default() };
        let text = told(&waiting("ImagePullBackOff", "Back-off pulling image"), &facts);
        assert!(text.contains(said) && text.contains("sextant registry explain lan/app:1"), "{text}");
        assert!(told(&waiting("ErrImageNeverPull", ""), &facts).contains("sextant load"));
        assert!(told(&waiting("ErrImagePull", "401 Unauthorized"), &facts).contains("imagePullSecrets"));
    }

    #[test]
    fn a_loop_and_a_probe_are_told_with_what_to_look_at() {
        let text = told(&waiting("CrashLoopBackOff", "back-off 10s"), &Facts::default());
        assert!(text.contains("ended with code 3, 3 times already") && text.contains("--previous"), "{text}");
        let runs = pod(
            "here",
            json!({"phase": "Running", "containerStatuses": [{"name": "app", "ready": false, "started": true, "state": {"running": {}}}]}),
        );
        let facts = Facts {
            events: vec![json!({"reason": "Unhealthy", "message": "Readiness probe failed: 503"})],
            ..Facts::default()
        };
        let text = told(&runs, &facts);
        assert!(text.contains("readiness probe has not succeeded: Readiness probe failed: 503"), "{text}");
        assert!(text.contains("`sextant logs pod/web -c app --namespace shop`"), "{text}");
        let ready = pod(
            "here",
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                                       "containerStatuses": [{"name": "app", "ready": true, "state": {"running": {}}}]}),
        );
        assert_eq!(told(&ready, &Facts::default()), "");
        assert!(state(&ready).starts_with("pod shop/web runs and is ready, on node here"));
    }

    #[test]
    fn a_container_that_the_agent_ended_again_and_again_is_told_with_the_cause() {
        let end = |finished: &str| {
            let terminated =
                json!({"exitCode": 0, "startedAt": "2026-01-01T00:00:10Z", "finishedAt": finished});
            pod(
                "here",
                json!({"phase": "Running", "containerStatuses": [{"name": "app", "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": terminated}}]}),
            )
        };
        let event = |reason: &str, message: &str| {
            let path = json!({"fieldPath": "spec.containers{app}"});
            json!({"reason": reason, "message": message, "eventTime": "2026-01-01T00:00:10.1Z", "involvedObject": path,
                "series": {"count": 3, "lastObservedTime": "2026-01-01T00:00:12.345678Z"}})
        };
        let told_of = |why: &str, said: Value, finished: &str| {
            let facts = Facts { events: vec![said, event("Killing", why)], ..Facts::default() };
            told(&end(finished), &facts)
        };
        let hook = event("FailedPostStartHook", "PostStartHook failed");
        let text = told_of("FailedPostStartHook", hook.clone(), "2026-01-01T00:00:13Z");
        assert!(
            text.contains("was ended, as its hook after the start failed: PostStartHook failed, 3 times"),
            "{text}"
        );
        assert!(text.contains("correct lifecycle.postStart of container app"), "{text}");
        let probe = event("Unhealthy", "Liveness probe failed: refused");
        let text =
            told_of("Container app failed liveness probe, will be restarted", probe, "2026-01-01T00:00:12Z");
        assert!(text.contains("its liveness probe failed: Liveness probe failed: refused"), "{text}");
        // It ended by itself the last time.
        assert!(told_of("FailedPostStartHook", hook, "2026-01-01T00:00:11Z").contains("ended with code 0"));
    }

    #[test]
    fn what_comes_before_containers_is_told() {
        let pending = pod("here", json!({"phase": "Pending", "startTime": "2026-01-01T00:00:00Z"}));
        let node = Some(json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
        let event = json!({"reason": "FailedMount", "message": "MountVolume.SetUp failed: configmap \"x\" not found"});
        let facts = Facts { events: vec![event], node: node.clone(), ..Facts::default() };
        assert!(told(&pending, &facts).contains("configmap \"x\" not found"));
        assert!(told(&pending, &Facts::default()).contains("is not there"));
        assert_eq!(told(&pending, &Facts { node, ..Facts::default() }), "it is being made -> ");
    }
}
