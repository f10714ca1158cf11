use serde_json::Value;

use super::{Sheet, conditions, or_none};
use crate::objects::{age, list, number, text};

/// What a person asks of a pod: where it is, what its containers do, and what they are given.
pub(super) fn describe(sheet: &mut Sheet, pod: &Value) {
    let node = text(pod, "/spec/nodeName");
    let at = text(pod, "/status/hostIP");
    sheet.field("Node", &if at.is_empty() { or_none(node) } else { format!("{node}/{at}") });
    let started = text(pod, "/status/startTime");
    sheet.maybe("Start Time", started);
    let phase = if text(pod, "/metadata/deletionTimestamp").is_empty() {
        text(pod, "/status/phase")
    } else {
        "Terminating"
    };
    sheet.field("Status", phase);
    sheet.maybe("Reason", text(pod, "/status/reason"));
    sheet.maybe("Message", text(pod, "/status/message"));
    let ips: Vec<String> =
        list(pod, "/status/podIPs").iter().map(|one| text(one, "/ip").to_owned()).collect();
    sheet.values("IPs", &ips);
    sheet.field("Service Account", &or_none(text(pod, "/spec/serviceAccountName")));
    sheet.maybe("Priority Class", text(pod, "/spec/priorityClassName"));
    sheet.field("QoS Class", &or_none(text(pod, "/status/qosClass")));
    containers(sheet, "Init Containers", pod, "/spec/initContainers", "/status/initContainerStatuses");
    containers(sheet, "Containers", pod, "/spec/containers", "/status/containerStatuses");
    containers(
        sheet,
        "Ephemeral Containers",
        pod,
        "/spec/ephemeralContainers",
        "/status/ephemeralContainerStatuses",
    );
    conditions(sheet, pod);
    volumes(sheet, pod);
    sheet.pairs("Node-Selectors", pod.pointer("/spec/nodeSelector"), "=");
    let tolerations: Vec<String> = list(pod, "/spec/tolerations").iter().map(toleration).collect();
    sheet.values("Tolerations", &tolerations);
}

fn containers(sheet: &mut Sheet, label: &str, pod: &Value, place: &str, statuses: &str) {
    let all = list(pod, place);
    if all.is_empty() {
        return;
    }
    sheet.part(label, |sheet| {
        for one in all {
            let name = text(one, "/name");
            let status = list(pod, statuses).iter().find(|status| text(status, "/name") == name);
            sheet.part(name, |sheet| container(sheet, one, status.unwrap_or(&Value::Null)));
        }
    });
}

fn container(sheet: &mut Sheet, one: &Value, status: &Value) {
    sheet.field("Image", text(one, "/image"));
    sheet.maybe("Image ID", text(status, "/imageID"));
    sheet.maybe("Container ID", text(status, "/containerID"));
    let ports: Vec<String> = list(one, "/ports")
        .iter()
        .map(|port| format!("{}/{}", number(port, "/containerPort"), or(text(port, "/protocol"), "TCP")))
        .collect();
    if !ports.is_empty() {
        sheet.field("Ports", &ports.join(", "));
    }
    for (label, place) in [("Command", "/command"), ("Args", "/args")] {
        let words: Vec<String> =
            list(one, place).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        if !words.is_empty() {
            sheet.values(label, &words);
        }
    }
    sheet.field("State", &state(status.get("state").unwrap_or(&Value::Null)));
    if status.get("lastState").is_some_and(|state| state.as_object().is_some_and(|map| !map.is_empty())) {
        sheet.field("Last State", &state(&status["lastState"]));
    }
    sheet.field("Ready", if status.get("ready") == Some(&Value::Bool(true)) { "True" } else { "False" });
    sheet.field("Restarts", &number(status, "/restartCount").to_string());
    for (label, place) in [("Limits", "/resources/limits"), ("Requests", "/resources/requests")] {
        if one.pointer(place).is_some() {
            sheet.pairs(label, one.pointer(place), ": ");
        }
    }
    for (label, place) in
        [("Liveness", "/livenessProbe"), ("Readiness", "/readinessProbe"), ("Startup", "/startupProbe")]
    {
        if let Some(probe) = one.pointer(place) {
            sheet.field(label, &self::probe(probe));
        }
    }
    let variables: Vec<String> = list(one, "/env").iter().map(variable).collect();
    if !variables.is_empty() {
        sheet.values("Environment", &variables);
    }
    let mounts: Vec<String> = list(one, "/volumeMounts")
        .iter()
        .map(|mount| {
            let mode = if mount.get("readOnly") == Some(&Value::Bool(true)) { "ro" } else { "rw" };
            format!("{} from {} ({mode})", text(mount, "/mountPath"), text(mount, "/name"))
        })
        .collect();
    sheet.values("Mounts", &mounts);
}

fn or<'t>(text: &'t str, other: &'t str) -> &'t str {
    if text.is_empty() { other } else { text }
}

/// `Running since 5m`, `Waiting: ImagePullBackOff: ...`
fn state(state: &Value) -> String {
    let said = |place: &str| {
        let part = |field: &str| text(state, &format!("{place}/{field}")).to_owned();
        let told: Vec<String> =
            [part("reason"), part("message")].into_iter().filter(|t| !t.is_empty()).collect();
        if told.is_empty() { String::new() } else { format!(": {}", told.join(": ")) }
    };
    if state.get("running").is_some() {
        return format!("Running (for {})", age(text(state, "/running/startedAt")));
    }
    if state.get("terminated").is_some() {
        let code = number(state, "/terminated/exitCode");
        let when = age(text(state, "/terminated/finishedAt"));
        return format!("Terminated (code {code}, {when} ago){}", said("/terminated"));
    }
    format!("Waiting{}", said("/waiting"))
}

fn probe(probe: &Value) -> String {
    let how = if let Some(get) = probe.get("httpGet") {
        format!("http-get {}:{}{}", or(text(get, "/scheme"), "HTTP"), get["port"], text(get, "/path"))
    } else if let Some(socket) = probe.get("tcpSocket") {
        format!("tcp-socket :{}", socket["port"])
    } else if probe.get("exec").is_some() {
        let words: Vec<&str> = list(probe, "/exec/command").iter().filter_map(Value::as_str).collect();
        format!("exec [{}]", words.join(" "))
    } else {
        "grpc".into()
    };
    let part = |field: &str| number(probe, &format!("/{field}"));
    format!(
        "{how} delay={}s timeout={}s period={}s #success={} #failure={}",
        part("initialDelaySeconds"),
        part("timeoutSeconds"),
        part("periodSeconds"),
        part("successThreshold"),
        part("failureThreshold")
    )
}

fn variable(one: &Value) -> String {
    let name = text(one, "/name");
    let from = |place: &str, key: &str| {
        let source = one.pointer(&format!("/valueFrom/{place}"))?;
        Some(format!("{name}: <{} of {place} {}>", text(source, key), text(source, "/name")))
    };
    from("configMapKeyRef", "/key")
        .or_else(|| from("secretKeyRef", "/key"))
        .or_else(|| Some(format!("{name}: <{}>", one.pointer("/valueFrom/fieldRef/fieldPath")?.as_str()?)))
        .or_else(|| {
            Some(format!("{name}: <{}>", one.pointer("/valueFrom/resourceFieldRef/resource")?.as_str()?))
        })
        .unwrap_or_else(|| format!("{name}: {}", text(one, "/value")))
}

fn volumes(sheet: &mut Sheet, pod: &Value) {
    let all = list(pod, "/spec/volumes");
    if all.is_empty() {
        return;
    }
    sheet.part("Volumes", |sheet| {
        for one in all {
            sheet.part(text(one, "/name"), |sheet| {
                for (key, below) in one.as_object().into_iter().flatten().filter(|(key, _)| *key != "name") {
                    sheet.field("Type", key);
                    sheet.tree(below);
                }
            });
        }
    });
}

fn toleration(one: &Value) -> String {
    let (key, value) = (text(one, "/key"), text(one, "/value"));
    let mut told = key.to_owned();
    if !value.is_empty() {
        told += &format!("={value}");
    }
    if !text(one, "/effect").is_empty() {
        told += &format!(":{}", text(one, "/effect"));
    }
    if text(one, "/operator") == "Exists" {
        told += " op=Exists";
    }
    match one.get("tolerationSeconds").and_then(Value::as_i64) {
        Some(seconds) => format!("{told} for {seconds}s"),
        None => told,
    }
}
