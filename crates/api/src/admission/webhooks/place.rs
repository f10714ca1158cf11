//! Where a webhook is: a URL, or a service of this server.

use crate::contract::Object;
use crate::registry::Registry;
use http::Uri;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// Where a webhook is.
pub(super) struct Place {
    /// As messages and the request line have it.
    pub(super) url: Uri,
    /// The name in its certificate.
    pub(super) server: String,
    /// Where it is reached; of a service that is not there, why not.
    pub(super) address: Result<(String, u16), String>,
}

/// Where the webhook with this `clientConfig` is; how long it has is told it in the query.
pub(super) fn place(registry: &Registry, client: &Value, timeout: Duration) -> Result<Place, String> {
    let query = format!("timeout={}s", timeout.as_secs());
    if let Some(text) = client.get("url").and_then(Value::as_str) {
        let text = text.split('#').next().unwrap_or_default();
        let join = if text.contains('?') { '&' } else { '?' };
        let url: Uri = format!("{text}{join}{query}")
            .parse()
            .map_err(|error| format!("its url {text:?} is none: {error}"))?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if url.scheme_str() != Some("https") || host.is_empty() {
            return Err(format!("its url {text:?} is no https URL"));
        }
        let port = url.port_u16().unwrap_or(443);
        return Ok(Place { url, server: host.clone(), address: Ok((host, port)) });
    }
    let Some(service) = client.get("service") else {
        return Err("its configuration names neither url nor service".to_owned());
    };
    let text = |field: &str| service.get(field).and_then(Value::as_str).unwrap_or_default();
    let (name, namespace) = (text("name"), text("namespace"));
    let port = service.get("port").and_then(Value::as_u64).unwrap_or(443);
    let server = format!("{name}.{namespace}.svc");
    let path = text("path").trim_start_matches('/');
    let url = format!("https://{server}:{port}/{path}?{query}");
    let url = url.parse().map_err(|error| format!("its service makes no URL: {error}"))?;
    Ok(Place { url, server, address: of_service(registry, namespace, name, port) })
}

/// Where a service is: at one of its endpoints, else at its own address.
fn of_service(registry: &Registry, namespace: &str, name: &str, port: u64) -> Result<(String, u16), String> {
    let found = registry.peek("services", namespace, name).map_err(|status| status.message)?;
    let service = found.ok_or_else(|| format!("service {name:?} not found"))?;
    let own_port = u16::try_from(port).map_err(|_| format!("port {port} is none"))?;
    if service.text(&["spec", "type"]) == "ExternalName" {
        return Ok((service.text(&["spec", "externalName"]).to_owned(), own_port));
    }
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).into_iter().flatten();
    let asked = ports.into_iter().find(|entry| entry["port"] == port);
    let asked = asked.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = asked.get("name").and_then(Value::as_str).unwrap_or_default();
    let slices = registry.every("endpointslices.discovery.k8s.io", Some(namespace));
    let slices = slices.map_err(|status| status.message)?;
    let of_this = |slice: &&Object| slice.label("kubernetes.io/service-name") == Some(name);
    if let Some(found) = slices.iter().filter(of_this).find_map(|slice| of_slice(slice, port_name)) {
        return Ok(found);
    }
    let endpoints = registry.peek("endpoints", namespace, name).map_err(|status| status.message)?;
    if let Some(found) = endpoints.as_ref().and_then(|endpoints| of_endpoints(endpoints, port_name)) {
        return Ok(found);
    }
    let own = service.text(&["spec", "clusterIP"]);
    match own.parse::<IpAddr>() {
        Ok(_) => Ok((own.to_owned(), own_port)),
        Err(_) => Err(format!("no endpoints available for service {name:?}")),
    }
}

/// The number of the port with a name.
fn numbered(ports: Option<&Value>, name: &str) -> Option<u16> {
    let ports = ports.and_then(Value::as_array)?;
    let named = |entry: &&Value| entry.get("name").and_then(Value::as_str).unwrap_or_default() == name;
    ports.iter().find(named)?.get("port")?.as_u64().and_then(|port| u16::try_from(port).ok())
}

fn of_slice(slice: &Object, port: &str) -> Option<(String, u16)> {
    let port = numbered(slice.0.get("ports"), port)?;
    let endpoints = slice.0.get("endpoints").and_then(Value::as_array)?;
    let mut ready = endpoints.iter().filter(|endpoint| endpoint["conditions"]["ready"] != false);
    let address = ready.find_map(|endpoint| endpoint["addresses"][0].as_str())?;
    Some((address.to_owned(), port))
}

fn of_endpoints(endpoints: &Object, port: &str) -> Option<(String, u16)> {
    let subsets = endpoints.0.get("subsets").and_then(Value::as_array)?;
    subsets.iter().find_map(|subset| {
        let address = subset["addresses"][0]["ip"].as_str()?;
        Some((address.to_owned(), numbered(subset.get("ports"), port)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn a_service_is_at_its_first_ready_endpoint() {
        let slice = object(json!({
            "ports": [{"name": "metrics", "port": 9}, {"name": "https", "port": 8443}],
            "endpoints": [
                {"addresses": ["192.0.2.1"], "conditions": {"ready": false}},
                {"addresses": ["192.0.2.2"], "conditions": {"ready": true}},
            ],
        }));
        assert_eq!(of_slice(&slice, "https"), Some(("192.0.2.2".to_owned(), 8443)));
        assert_eq!(of_slice(&slice, "other"), None);
        let endpoints = object(json!({"subsets": [
            {"notReadyAddresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 1}]},
            {"addresses": [{"ip": "192.0.2.3"}], "ports": [{"port": 8443}]},
        ]}));
        assert_eq!(of_endpoints(&endpoints, ""), Some(("192.0.2.3".to_owned(), 8443)));
        assert_eq!(of_endpoints(&object(json!({})), ""), None);
    }
}
