//! The pods behind a Service: under which addresses and ports, and in which state.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use crate::workloads::pods;

/// A pod as an endpoint.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The pod.
    pub(super) pod: Arc<Pod>,
    /// Its address of the family.
    pub(super) address: String,
    /// The ports of the Service there, as JSON: by them endpoints are grouped.
    pub(super) ports: Vec<Value>,
    /// It is to be sent requests.
    pub(super) ready: bool,
    /// It would answer.
    pub(super) serving: bool,
    /// It is being deleted.
    pub(super) terminating: bool,
    /// Its own name within the Service.
    pub(super) hostname: Option<String>,
}

/// Whether endpoints are to be found for a Service: it says which pods they are.
pub(super) fn selects(service: &Service, labels: &BTreeMap<String, String>) -> bool {
    let Some(spec) = &service.spec else { return false };
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty());
    spec.type_.as_deref() != Some("ExternalName")
        && selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Whether a Service has no address of its own.
pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

/// The families of addresses of a Service.
pub(super) fn families(service: &Service) -> Vec<String> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    if families.is_empty() { vec!["IPv4".into()] } else { families }
}

/// The members of a Service among pods, for one family.
pub(super) fn members(service: &Service, all: &[Arc<Pod>], family: &str) -> Vec<Member> {
    let spec = service.spec.clone().unwrap_or_default();
    let all_ready = spec.publish_not_ready_addresses.unwrap_or_default();
    let of = |pod: &Arc<Pod>| {
        let address = address(pod, family).filter(|_| !pods::is_over(pod))?;
        let (serving, terminating) = (pods::is_ready(pod), pods::is_going(pod));
        let pod_spec = pod.spec.as_ref()?;
        let is_named = pod_spec.subdomain.as_deref() == Some(&service.name_any());
        Some(Member {
            pod: pod.clone(),
            address,
            ports: spec.ports.iter().flatten().filter_map(|port| port_of(pod, port)).collect(),
            ready: all_ready || serving && !terminating,
            serving,
            terminating,
            hostname: pod_spec.hostname.clone().filter(|_| is_named),
        })
    };
    let is_its = |pod: &&Arc<Pod>| pod.namespace() == service.namespace() && selects(service, pod.labels());
    all.iter().filter(is_its).filter_map(of).collect()
}

fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
    let mut all = all.chain(status.pod_ip.as_deref());
    let is_of = |address: &str| match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    };
    all.find(|address| is_of(address)).map(str::to_owned)
}

/// A port of a Service as the pod has it; a named one that the pod has not is none.
fn port_of(pod: &Pod, port: &ServicePort) -> Option<Value> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => named(pod, name, protocol)?,
    };
    let mut told =
        json!({"name": port.name.as_deref().unwrap_or_default(), "port": number, "protocol": protocol});
    if let Some(app) = &port.app_protocol {
        told["appProtocol"] = json!(app);
    }
    Some(told)
}

fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let mut its = all.filter(|port| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    });
    its.next().map(|port| port.container_port)
}

/// What an endpoint is of.
pub(super) fn target(pod: &Pod) -> Value {
    json!({"kind": "Pod", "namespace": pod.namespace(), "name": pod.name_any(), "uid": pod.uid()})
}
