//! Kubernetes' objects as the mesh's compiler takes them.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use smi::compile::{Pod, Service, ServiceKind, ServicePort, Slice, SliceEndpoint, SlicePort};
use smi::contract::specs::Transport;

/// The label by which a slice names its Service.
const OF_SERVICE: &str = "kubernetes.io/service-name";
/// The annotation of a pod that its kubelet has made, for a static one.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// What stands for the address of a Service that has none on purpose.
const HEADLESS: &str = "None";

/// A Service. Ports of SCTP are none of the mesh's.
pub(super) fn service(object: &v1::Service) -> Service {
    let spec = object.spec.clone().unwrap_or_default();
    let mut addresses: Vec<&str> = spec.cluster_ips.iter().flatten().map(String::as_str).collect();
    if addresses.is_empty() {
        addresses.extend(spec.cluster_ip.as_deref());
    }
    let kind = match (spec.type_.as_deref(), addresses.as_slice()) {
        (Some("ExternalName"), _) => ServiceKind::ExternalName,
        (_, [HEADLESS, ..]) => ServiceKind::Headless,
        (_, addresses) => {
            ServiceKind::ClusterIp(addresses.iter().filter_map(|text| text.parse().ok()).collect())
        }
    };
    let port = |port: &v1::ServicePort| {
        Some(ServicePort {
            name: port.name.clone().unwrap_or_default(),
            port: u16::try_from(port.port).ok()?,
            transport: transport(port.protocol.as_deref())?,
            app_protocol: port.app_protocol.clone(),
        })
    };
    Service { kind, ports: spec.ports.iter().flatten().filter_map(port).collect() }
}

/// A slice; one that names no Service is none of the mesh's.
pub(super) fn slice(object: &EndpointSlice) -> Option<Slice> {
    let service = object.labels().get(OF_SERVICE)?.clone();
    let ports = object.ports.iter().flatten().filter_map(|port| {
        Some(SlicePort {
            name: port.name.clone().unwrap_or_default(),
            port: u16::try_from(port.port?).ok()?,
            transport: transport(port.protocol.as_deref())?,
        })
    });
    let endpoints = object.endpoints.iter().flatten().filter_map(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // Not told is ready, and what is ready serves.
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
        Some(SliceEndpoint {
            address: endpoint.addresses.first()?.parse().ok()?,
            ready,
            serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(ready),
            pod: pod.and_then(|target| target.name.clone()),
            node: endpoint.node_name.clone(),
            zone: endpoint.zone.clone(),
        })
    });
    Some(Slice { service, ports: ports.collect(), endpoints: endpoints.collect() })
}

/// A pod; one that has ended is none. Neither is a static one: it has no service account, and that it is there, in whatever namespace and with
/// whatever labels, is the word of a node alone, which would be whoever it likes by that.
pub(super) fn pod(object: &v1::Pod) -> Option<Pod> {
    let (spec, status) = (object.spec.as_ref(), object.status.as_ref());
    let phase = status.and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) || object.annotations().contains_key(MIRROR) {
        return None;
    }
    let addresses = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
    Some(Pod {
        service_account: spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        labels: object.labels().clone(),
        addresses: addresses.filter_map(|address| address.ip.parse::<IpAddr>().ok()).collect(),
        node: spec.and_then(|spec| spec.node_name.clone()),
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or_default(),
    })
}

fn transport(protocol: Option<&str>) -> Option<Transport> {
    match protocol {
        None | Some("" | "TCP") => Some(Transport::Tcp),
        Some("UDP") => Some(Transport::Udp),
        Some(_) => None,
    }
}
