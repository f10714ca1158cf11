//! Where the server is, for those who ask its service: the Endpoints and the EndpointSlice `kubernetes`.

use super::Settings;
use super::beginning::keep;
use crate::contract::Result;
use crate::registry::client::Client;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

const NAME: &str = "kubernetes";
/// How often it is looked whether they are true.
const EVERY: Duration = Duration::from_secs(10);

/// Keeps them true, for ever.
pub(super) async fn run(client: Client, settings: Settings) {
    let mut refused = String::new();
    loop {
        if let Err(status) = settle(&client, &settings).await {
            let text = status.to_string();
            if text != refused {
                eprintln!("sextant: cannot say where the server is: {text}");
                refused = text;
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Writes where the server is. One that listens on loopback alone is nowhere for pods, and neither object is there.
async fn settle(client: &Client, settings: &Settings) -> Result<()> {
    let Some(address) = settings.address.and_then(reached) else {
        for (version, kind) in [("v1", "Endpoints"), ("discovery.k8s.io/v1", "EndpointSlice")] {
            let target = client.target(version, kind, "default", NAME)?;
            if let Some(old) = client.registry().peek(&target.resource.stored_as, "default", NAME)? {
                client.delete_uid(&target, old.uid()).await?;
            }
        }
        return Ok(());
    };
    let port = json!({"name": "https", "port": settings.port(), "protocol": "TCP"});
    let endpoints = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": NAME,
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{"addresses": [{"ip": address.to_string()}], "ports": [port]}],
    });
    keep(client, "default", endpoints, &["subsets"]).await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": NAME,
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": NAME},
        },
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
        "ports": [port],
    });
    let target = client.target("discovery.k8s.io/v1", "EndpointSlice", "default", NAME)?;
    let old = client.registry().peek(&target.resource.stored_as, "default", NAME)?;
    // The family of a slice is for ever.
    if let Some(old) = old.filter(|old| old.0.get("addressType") != slice.get("addressType")) {
        client.delete_uid(&target, old.uid()).await?;
    }
    keep(client, "default", slice.clone(), &["endpoints"]).await?;
    keep(client, "default", slice, &["ports"]).await
}

/// The address at which others reach a server that listens on `address`; none where they do not.
fn reached(address: IpAddr) -> Option<IpAddr> {
    let address = if address.is_unspecified() { outward(address.is_ipv4())? } else { address };
    (!address.is_loopback()).then_some(address)
}

/// The address from which this machine would speak to others. Nothing is sent.
fn outward(is_four: bool) -> Option<IpAddr> {
    // Addresses of documentation: they are nobody's.
    let (own, other) = if is_four {
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::from([192, 0, 2, 1]))
    } else {
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]))
    };
    let socket = UdpSocket::bind((own, 0)).ok()?;
    socket.connect((other, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_loopback_is_reached_by_nobody_else() {
        assert_eq!(reached(IpAddr::from([127, 0, 0, 1])), None);
        assert_eq!(reached(IpAddr::from([10, 1, 2, 3])), Some(IpAddr::from([10, 1, 2, 3])));
    }
}
