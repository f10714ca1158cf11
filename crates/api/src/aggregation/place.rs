//! Where a service is that serves a group version.

use serde_json::Value;

use crate::contract::{Object, Status};
use crate::kinds::base::Fields;
use crate::registry::Registry;

/// The service of an APIService, and by what it is believed to be it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) trust: Trust,
}

/// By what a service proves that it is the one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// A certificate of one of these authorities (PEM in base64).
    Bundle(String),
    /// A certificate that this machine trusts.
    System,
    /// Nothing (`insecureSkipTLSVerify`).
    Blind,
}

/// How a service is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Why a service cannot be asked, as the condition `Available` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// `False` or `Unknown`.
    pub(crate) status: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Place {
    /// The service that an APIService names; none of one that this server is to serve itself.
    pub(crate) fn of(object: &Object) -> Option<Place> {
        let spec = object.at(&["spec"])?.as_object()?;
        let service = spec.map("service")?;
        let bundle = spec.text("caBundle");
        let trust = match (spec.is("insecureSkipTLSVerify"), bundle) {
            (true, _) => Trust::Blind,
            (false, "") => Trust::System,
            (false, bundle) => Trust::Bundle(bundle.to_owned()),
        };
        Some(Place {
            namespace: service.text("namespace").to_owned(),
            name: service.text("name").to_owned(),
            port: service.int("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(443),
            trust,
        })
    }

    pub(super) fn is_same_service(&self, other: &Place) -> bool {
        self.namespace == other.namespace && self.name == other.name && self.port == other.port
    }

    /// The name in its certificate.
    pub(crate) fn server(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// Finds it: one of its endpoints, for nothing here makes cluster addresses lead anywhere.
    pub(crate) fn find(&self, registry: &Registry) -> Result<Found, Unavailable> {
        let (name, namespace) = (&self.name, &self.namespace);
        let unknown = |reason, status: Status| Unavailable {
            status: "Unknown",
            reason,
            message: format!("service/{name} in {namespace:?} cannot be checked due to: {status}"),
        };
        let no = |reason, message| Unavailable { status: "False", reason, message };
        let service = registry.peek("services", namespace, name);
        let Some(service) = service.map_err(|status| unknown("ServiceAccessError", status))? else {
            let message = format!("service/{name} in {namespace:?} is not present");
            return Err(no("ServiceNotFound", message));
        };
        if service.text(&["spec", "type"]) == "ExternalName" {
            let host = service.text(&["spec", "externalName"]).to_owned();
            return Ok(Found { host, port: self.port });
        }
        let ports = service.at(&["spec"]).and_then(Value::as_object).list("ports");
        let Some(port) = ports.iter().find(|port| port["port"] == self.port) else {
            let message = format!("service/{name} in {namespace:?} is not listening on port {}", self.port);
            return Err(no("ServicePortError", message));
        };
        let port_name = port["name"].as_str().unwrap_or_default();
        let slices = slices(registry, namespace, name);
        let slices = slices.map_err(|status| unknown("EndpointsAccessError", status))?;
        if slices.is_empty() {
            let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
            return Err(no("EndpointsNotFound", message));
        }
        slices.iter().find_map(|slice| ready(slice, port_name)).ok_or_else(|| {
            let message = format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            );
            no("MissingEndpoints", message)
        })
    }
}

/// The slices of a service, and as one its Endpoints where somebody has made these and nobody makes slices of them.
fn slices(registry: &Registry, namespace: &str, name: &str) -> Result<Vec<Object>, Status> {
    let mut slices = registry.every("endpointslices.discovery.k8s.io", Some(namespace))?;
    slices.retain(|slice| slice.label("kubernetes.io/service-name") == Some(name));
    if slices.is_empty()
        && let Some(endpoints) = registry.peek("endpoints", namespace, name)?
    {
        slices.extend(endpoints.0.list("subsets").iter().filter_map(of_subset));
    }
    Ok(slices)
}

/// A subset of Endpoints as a slice.
fn of_subset(subset: &Value) -> Option<Object> {
    let addresses = subset["addresses"].as_array()?;
    let addresses = addresses.iter().map(|address| serde_json::json!({"addresses": [address["ip"]]}));
    let addresses: Vec<Value> = addresses.collect();
    Object::from_value(serde_json::json!({"endpoints": addresses, "ports": subset["ports"]}))
}

/// The first endpoint of a slice that is ready, at its port of that name.
fn ready(slice: &Object, port_name: &str) -> Option<Found> {
    let ports = slice.0.list("ports").iter();
    let mut named = ports.filter(|port| port["name"].as_str().unwrap_or_default() == port_name);
    let port = named.find_map(|port| u16::try_from(port["port"].as_u64()?).ok())?;
    let mut endpoints = slice.0.list("endpoints").iter().filter(|one| one["conditions"]["ready"] != false);
    let host = endpoints.find_map(|one| one["addresses"][0].as_str())?;
    Some(Found { host: host.to_owned(), port })
}
