//! Fields of a pod and of its containers' resources, as `fieldRef` and `resourceFieldRef` name them.

use std::collections::BTreeMap;

use client::quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What the node knows of the pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here<'a> {
    /// The node's name.
    pub(crate) node: &'a str,
    /// The node's address.
    pub(crate) host: &'a str,
    /// The pod's addresses.
    pub(crate) addresses: &'a [String],
    /// What a container without a limit may take: CPUs in thousandths.
    pub(crate) cpus: i64,
    /// The same of memory, in bytes.
    pub(crate) memory: i64,
}

/// A field's value.
///
/// # Errors
/// There is no such field.
pub(crate) fn field(pod: &Pod, path: &str, here: &Here<'_>) -> Result<String, String> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let is_on_host = spec.and_then(|spec| spec.host_network) == Some(true);
    let own = std::slice::from_ref(&here.host);
    let addresses: Vec<&str> = match here.addresses {
        [] if is_on_host => own.to_vec(),
        all => all.iter().map(String::as_str).collect(),
    };
    let of = |text: Option<&String>| text.cloned().unwrap_or_default();
    Ok(match path {
        "metadata.name" => of(meta.name.as_ref()),
        "metadata.namespace" => of(meta.namespace.as_ref()),
        "metadata.uid" => of(meta.uid.as_ref()),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => here.node.to_owned(),
        "spec.serviceAccountName" => of(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.hostIP" | "status.hostIPs" => here.host.to_owned(),
        "status.podIP" => addresses.first().copied().unwrap_or_default().to_owned(),
        "status.podIPs" => addresses.join(","),
        path => {
            let of_map = |map: Option<&BTreeMap<String, String>>, kind: &str| {
                let key = path.strip_prefix(kind)?.strip_prefix("['")?.strip_suffix("']")?;
                Some(of(map.and_then(|map| map.get(key))))
            };
            of_map(meta.labels.as_ref(), "metadata.labels")
                .or_else(|| of_map(meta.annotations.as_ref(), "metadata.annotations"))
                .ok_or_else(|| format!("unsupported fieldPath: {path}"))?
        }
    })
}

/// A map as a file: a line of `key="value"` for each.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let line = |(key, value): (&String, &String)| format!("{key}={value:?}");
    map.into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
}

/// The container of this name.
pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.find(|container| container.name == name)
}

/// A resource's amount in units of `divisor`, a part of one counted whole.
///
/// # Errors
/// There is no such resource, or the divisor is none.
pub(crate) fn resource(
    container: &Container,
    name: &str,
    divisor: Option<&Quantity>,
    here: &Here<'_>,
) -> Result<String, String> {
    let resources = container.resources.as_ref();
    let (kind, of) = name.split_once('.').unwrap_or_default();
    let map = match kind {
        "limits" => resources.and_then(|one| one.limits.as_ref()),
        "requests" => resources.and_then(|one| one.requests.as_ref()),
        _ => return Err(format!("unsupported container resource : {name}")),
    };
    let asked = map.and_then(|map| map.get(of));
    let in_thousandths = of == "cpu";
    let amount = |quantity: &Quantity| {
        if in_thousandths { quantity::thousandths(quantity) } else { quantity::bytes(quantity) }
    };
    let value = match asked.and_then(amount) {
        Some(value) => value,
        None if kind == "limits" && of == "cpu" => here.cpus,
        None if kind == "limits" && of == "memory" => here.memory,
        None => 0,
    };
    let whole = if in_thousandths { 1000 } else { 1 };
    let divisor = divisor.and_then(amount).filter(|divisor| *divisor > 0).unwrap_or(whole);
    Ok((value / divisor + i64::from(value % divisor != 0)).to_string())
}
