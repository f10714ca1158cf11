use std::net::SocketAddr;

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::Protocol;

/// An address and port behind a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name of the Service's port that leads here; empty where it has none.
    pub port_name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// Where it is.
    pub target: SocketAddr,
    /// It takes connections.
    pub ready: bool,
    /// It would take connections, were it not about to end.
    pub serving: bool,
    /// It is on this node.
    pub local: bool,
}

/// Those in some slices, as the node called `node` sees them.
pub fn endpoints<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>, node: &str) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for slice in slices {
        for port in slice.ports.iter().flatten() {
            let number = port.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            let (Some(number), Some(protocol)) = (number, Protocol::of(port.protocol.as_deref())) else {
                continue;
            };
            for endpoint in slice.endpoints.iter().flatten() {
                let conditions = endpoint.conditions.as_ref();
                // Not said means ready, and a ready one serves.
                let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
                let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
                let local = endpoint.node_name.as_deref() == Some(node);
                // The addresses of one endpoint are the same thing: the first is used, as everywhere.
                let Some(address) = endpoint.addresses.first().and_then(|text| text.parse().ok()) else {
                    continue;
                };
                found.push(Endpoint {
                    port_name: port.name.clone().unwrap_or_default(),
                    protocol,
                    target: SocketAddr::new(address, number),
                    ready,
                    serving,
                    local,
                });
            }
        }
    }
    found
}
