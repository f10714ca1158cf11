use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use kube::{Client, Error, ResourceExt as _};
use serde_json::{Value, json};

use crate::plan::cluster_ips;

/// What everybody calls it, and where it is.
const NAME: &str = "kube-dns";
const NAMESPACE: &str = "kube-system";
/// Who looks after its slices.
const KEEPER: &str = "services.sextant.dev";

/// Until a server is asked again that does not have the namespace yet, or does not answer.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// Has a Service `kube-dns` stand for the addresses where names are answered, so that people and charts find it. One that is there stays
/// as it is. It goes on until it is done, or refused.
pub async fn announce(client: Client, at: &[SocketAddr]) {
    let mut wait = FIRST;
    while let Err(error) = try_announce(&client, at).await {
        if let Error::Api(status) = &error
            && matches!(status.code, 400 | 403 | 422)
            && !status.message.contains("not found")
        {
            let addresses: Vec<String> = at.iter().map(|at| at.ip().to_string()).collect();
            eprintln!(
                "sextant services: warning: names are answered at {}, but there is no Service {NAMESPACE}/{NAME} that says so: {}",
                addresses.join(", "),
                status.message
            );
            return;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
}

async fn try_announce(client: &Client, at: &[SocketAddr]) -> Result<(), Error> {
    let api: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let (there, is_new) = match api.get_opt(NAME).await? {
        Some(there) => (there, false),
        None => {
            let new = serde_json::from_value(service(at)).map_err(Error::SerdeError)?;
            (api.create(&PostParams::default(), &new).await?, true)
        }
    };
    let has = there.spec.as_ref().map(cluster_ips).unwrap_or_default();
    if !at.iter().all(|at| has.contains(&at.ip())) {
        let has: Vec<String> = has.iter().map(ToString::to_string).collect();
        eprintln!(
            "sextant services: warning: Service {NAMESPACE}/{NAME} is at {}, and names are answered here elsewhere",
            has.join(", ")
        );
        return Ok(());
    }
    if !is_new && there.spec.as_ref().is_some_and(|spec| spec.selector.is_some()) {
        // Somebody's pods.
        return Ok(());
    }
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    for at in at {
        let new = serde_json::from_value(slice(&there, *at)).map_err(Error::SerdeError)?;
        match slices.create(&PostParams::default(), &new).await {
            Err(Error::Api(status)) if status.code == 409 => {}
            outcome => drop(outcome?),
        }
    }
    Ok(())
}

fn service(at: &[SocketAddr]) -> Value {
    let addresses: Vec<String> = at.iter().map(|at| at.ip().to_string()).collect();
    let families: Vec<&str> = at.iter().map(|at| family(*at)).collect();
    let port = at.first().map_or(53, SocketAddr::port);
    let policy = if at.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {
            "k8s-app": NAME, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "SextantDNS"}},
        "spec": {
            "clusterIP": addresses.first(), "clusterIPs": addresses, "ipFamilies": families, "ipFamilyPolicy": policy,
            "ports": [
                {"name": "dns", "port": port, "protocol": "UDP", "targetPort": port},
                {"name": "dns-tcp", "port": port, "protocol": "TCP", "targetPort": port},
            ],
        },
    })
}

/// That it is answered at its own address, without pods behind it.
fn slice(service: &Service, at: SocketAddr) -> Value {
    let port = at.port();
    json!({
        "metadata": {
            "name": format!("{NAME}-{}", family(at).to_lowercase()), "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": NAME, "endpointslice.kubernetes.io/managed-by": KEEPER},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": NAME, "uid": service.uid()}],
        },
        "addressType": family(at),
        "endpoints": [{"addresses": [at.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "dns", "port": port, "protocol": "UDP"}, {"name": "dns-tcp", "port": port, "protocol": "TCP"}],
    })
}

fn family(at: SocketAddr) -> &'static str {
    if at.is_ipv4() { "IPv4" } else { "IPv6" }
}
