//! What a client left out of a pod.

use super::image;
use super::resources::{is_of_pods, quantity};
use crate::contract::Object;
use crate::contract::quantity::Quantity;
use crate::kinds::base::{Defaults, Fields};
use crate::kinds::core::{both_forms, claim, resource_names};
use serde_json::{Map, Value};

const CONTAINERS: &[&str] = &["initContainers", "containers", "ephemeralContainers"];

/// Defaults of a pod, which templates do not get all of.
pub(super) fn pod(object: &mut Object) {
    let spec = object.make(&["spec"]);
    for field in ["containers", "initContainers"] {
        spec.each(field).for_each(requests_of_limits);
    }
    pod_resources(spec);
    spec.fill("enableServiceLinks", true);
    if spec.is("hostNetwork") {
        for field in ["containers", "initContainers"] {
            spec.each(field).for_each(host_ports);
        }
    }
    self::spec(spec);
    let status = object.make(&["status"]);
    both_forms(status, "podIP", "podIPs", Some("ip"));
    if let Some(amounts) = status.within("allocatedResources") {
        round_up(amounts);
    }
}

/// Defaults of a spec, in pods and templates.
pub fn spec(spec: &mut Map<String, Value>) {
    super::prepare::disabled(spec);
    spec.fill_text("dnsPolicy", "ClusterFirst");
    spec.fill_text("restartPolicy", "Always");
    spec.fill("securityContext", Map::new());
    spec.fill("terminationGracePeriodSeconds", 30);
    spec.fill_text("schedulerName", "default-scheduler");
    // The old name of the account is told beside the new one.
    let account = match (spec.text("serviceAccountName"), spec.text("serviceAccount")) {
        ("", old) => old.to_owned(),
        (new, _) => new.to_owned(),
    };
    if !account.is_empty() {
        spec.insert("serviceAccountName".to_owned(), account.as_str().into());
        spec.insert("serviceAccount".to_owned(), account.into());
    }
    spec.each("volumes").for_each(volume);
    for field in CONTAINERS {
        spec.each(field).for_each(container);
    }
    if let Some(overhead) = spec.within("overhead") {
        round_up(overhead);
    }
    if let Some(resources) = spec.within("resources") {
        amounts(resources);
    }
}

/// A limit without a request is a request too.
fn requests_of_limits(container: &mut Map<String, Value>) {
    let Some(resources) = container.within("resources") else { return };
    let Some(limits) = resources.map("limits").cloned() else { return };
    if let Some(requests) = resources.inside("requests") {
        for (name, limit) in limits {
            requests.entry(name).or_insert(limit);
        }
    }
    resources.drop_empty("requests");
}

/// Of a pod with resources of its own: what the containers say counts where it says nothing.
fn pod_resources(spec: &mut Map<String, Value>) {
    let Some(own) = spec.map("resources") else { return };
    let (has_limits, has_requests) = (
        own.map("limits").is_some_and(|map| !map.is_empty()),
        own.map("requests").is_some_and(|map| !map.is_empty()),
    );
    let requests = super::qos::sum(spec, "requests");
    let limits = super::qos::sum(spec, "limits");
    let Some(own) = spec.within("resources") else { return };
    if has_limits || has_requests {
        for (name, sum) in limits.iter().filter(|(name, _)| resource_names::is_huge_page(name)) {
            if !own.map("requests").has(name) {
                fill_amount(own, "limits", name, sum);
            }
        }
    }
    let Some(whole) = own.map("limits").filter(|map| !map.is_empty()).cloned() else { return };
    for (name, sum) in &requests {
        if is_of_pods(name) && resource_names::can_overcommit(name) {
            fill_amount(own, "requests", name, sum);
        }
    }
    for (name, limit) in whole.iter().filter(|(name, _)| is_of_pods(name)) {
        if let Some(limit) = quantity(limit) {
            fill_amount(own, "requests", name, &limit);
        }
    }
}

fn fill_amount(own: &mut Map<String, Value>, field: &str, name: &str, amount: &Quantity) {
    if let Some(list) = own.inside(field) {
        list.fill(name, amount.to_string());
    }
}

fn host_ports(container: &mut Map<String, Value>) {
    for port in container.each("ports") {
        if let (0, Some(own)) = (port.int("hostPort").unwrap_or(0), port.int("containerPort")) {
            port.insert("hostPort".to_owned(), own.into());
        }
    }
}

fn container(container: &mut Map<String, Value>) {
    let policy = image::pull_policy(container.text("image"));
    container.fill_text("imagePullPolicy", policy);
    container.fill_text("terminationMessagePath", "/dev/termination-log");
    container.fill_text("terminationMessagePolicy", "File");
    for port in container.each("ports") {
        port.fill_text("protocol", "TCP");
    }
    for variable in container.each("env") {
        let Some(from) = variable.within("valueFrom") else { continue };
        if let Some(field) = from.within("fieldRef") {
            field.fill_text("apiVersion", "v1");
        }
        if let Some(file) = from.within("fileKeyRef") {
            file.fill("optional", false);
        }
    }
    if let Some(resources) = container.inside("resources") {
        amounts(resources);
    }
    for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.within(field) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = container.within("lifecycle") {
        for field in ["postStart", "preStop"] {
            if let Some(hook) = lifecycle.within(field) {
                http_get(hook);
            }
        }
    }
}

fn amounts(resources: &mut Map<String, Value>) {
    for field in ["limits", "requests"] {
        if let Some(list) = resources.within(field) {
            round_up(list);
        }
    }
}

/// Amounts finer than a thousandth count as the next one.
pub(in crate::kinds::core) fn round_up(list: &mut Map<String, Value>) {
    for value in list.values_mut() {
        let Some(amount) = quantity(value) else { continue };
        let milli = amount.milli_value();
        // Only amounts below a billion can be finer; beyond, thousandths do not fit a number.
        if milli.abs() < 1_000_000_000_000 && Quantity::of_milli(milli, amount.form()) != amount {
            *value = Quantity::of_milli(milli, amount.form()).to_string().into();
        }
    }
}

fn probe(probe: &mut Map<String, Value>) {
    for (field, number) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if probe.int(field).unwrap_or(0) == 0 {
            probe.insert(field.to_owned(), number.into());
        }
    }
    http_get(probe);
    if let Some(grpc) = probe.within("grpc") {
        grpc.fill("service", "");
    }
}

fn http_get(handler: &mut Map<String, Value>) {
    if let Some(get) = handler.within("httpGet") {
        get.fill_text("path", "/");
        get.fill_text("scheme", "HTTP");
    }
}

fn volume(volume: &mut Map<String, Value>) {
    const MODES: &[&str] = &["secret", "configMap", "downwardAPI", "projected"];
    if !volume.iter().any(|(name, source)| name != "name" && !source.is_null()) {
        volume.insert("emptyDir".to_owned(), Map::new().into());
    }
    for field in MODES {
        if let Some(source) = volume.within(field) {
            source.fill("defaultMode", 0o644);
        }
    }
    if let Some(path) = volume.within("hostPath") {
        path.fill("type", "");
    }
    if let Some(source) = volume.within("downwardAPI") {
        downward(source);
    }
    if let Some(projected) = volume.within("projected") {
        for source in projected.each("sources") {
            if let Some(source) = source.within("downwardAPI") {
                downward(source);
            }
            if let Some(token) = source.within("serviceAccountToken") {
                token.fill("expirationSeconds", 3600);
            }
        }
    }
    if let Some(template) = volume.within("ephemeral").and_then(|source| source.within("volumeClaimTemplate"))
        && let Some(spec) = template.inside("spec")
    {
        claim::default_spec(spec);
    }
    if let Some(source) = volume.within("image") {
        let policy = image::pull_policy(source.text("reference"));
        source.fill_text("pullPolicy", policy);
    }
    disks(volume);
}

fn downward(source: &mut Map<String, Value>) {
    for file in source.each("items") {
        if let Some(field) = file.within("fieldRef") {
            field.fill_text("apiVersion", "v1");
        }
    }
}

/// Defaults of sources that are disks of others; persistent volumes have them too.
pub(in crate::kinds::core) fn disks(source: &mut Map<String, Value>) {
    const TEXTS: &[(&str, &[(&str, &str)])] = &[
        ("iscsi", &[("iscsiInterface", "default")]),
        ("rbd", &[("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")]),
        ("scaleIO", &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")]),
    ];
    for (kind, fields) in TEXTS {
        if let Some(disk) = source.within(kind) {
            fields.iter().for_each(|(field, text)| disk.fill_text(field, text));
        }
    }
    if let Some(disk) = source.within("azureDisk") {
        disk.fill("cachingMode", "ReadWrite");
        disk.fill("fsType", "ext4");
        disk.fill("readOnly", false);
        disk.fill("kind", "Shared");
    }
}
