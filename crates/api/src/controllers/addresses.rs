//! An IPAddress for each address that a service has, and the ServiceCIDR that they come from.

use super::beginning::{ensure, keep};
use crate::contract::{Object, Result};
use crate::registry::client::{Change, Client};
use crate::registry::set_condition;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const API: &str = "networking.k8s.io/v1";
const KIND: &str = "ipaddresses.networking.k8s.io";
/// Says that an IPAddress is one of the server's own.
const MANAGED: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");

/// Says which addresses services get.
pub(super) async fn ranges(client: &Client) -> Result<()> {
    let object = json!({
        "apiVersion": API,
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": client.registry().service_ranges()},
    });
    keep(client, "", object, &["spec", "cidrs"]).await?;
    let target = client.target(API, "ServiceCIDR", "", "kubernetes")?;
    let ready = |live: &Object| {
        let mut changed = live.clone();
        let message = "Kubernetes Service CIDR is ready";
        set_condition(
            &mut changed,
            json!({"type": "Ready", "status": "True", "reason": "", "message": message}),
        );
        Ok(changed)
    };
    client.change(&target, ready).await.map(drop)
}

/// Follows services.
pub(super) async fn run(client: Client) {
    let Ok(target) = client.target("v1", "Service", "", "") else { return };
    let mut services = client.follow(target);
    // By namespace and name of the service: what it has.
    let mut held: BTreeMap<(String, String), BTreeSet<IpAddr>> = BTreeMap::new();
    loop {
        let outcome = match services.next().await {
            Change::Applied(service) => {
                let has = addresses(&service);
                let before = held.insert(place(&service), has.clone()).unwrap_or_default();
                let mut outcome = Ok(());
                for address in &has {
                    outcome = outcome.and(give(&client, &service, *address).await);
                }
                outcome.and(take(&client, &service, before.difference(&has)).await)
            }
            Change::Gone(service) => {
                let before = held.remove(&place(&service)).unwrap_or_default();
                take(&client, &service, before.iter()).await
            }
            Change::Settled => tidy(&client, &held).await,
        };
        if let Err(status) = outcome {
            eprintln!("sextant: cannot keep the addresses of services: {status}");
        }
    }
}

fn place(service: &Object) -> (String, String) {
    (service.namespace().to_owned(), service.name().to_owned())
}

/// The addresses that a service has.
fn addresses(service: &Object) -> BTreeSet<IpAddr> {
    let list = service.at(&["spec", "clusterIPs"]).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|address| address.as_str()?.parse().ok()).collect()
}

/// Makes the IPAddress of a service's address.
async fn give(client: &Client, service: &Object, address: IpAddr) -> Result<()> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let object = json!({
        "apiVersion": API,
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "labels": {"ipaddress.kubernetes.io/ip-family": family, MANAGED.0: MANAGED.1},
        },
        "spec": {"parentRef": {
            "resource": "services", "namespace": service.namespace(), "name": service.name(),
        }},
    });
    ensure(client, "", object).await
}

/// Takes those away that a service had.
async fn take(client: &Client, service: &Object, addresses: impl Iterator<Item = &IpAddr>) -> Result<()> {
    for address in addresses {
        let Some(object) = client.registry().peek(KIND, "", &address.to_string())? else { continue };
        if is_of(&object, service.namespace(), service.name()) {
            remove(client, &object).await?;
        }
    }
    Ok(())
}

/// Takes away what no service has.
async fn tidy(client: &Client, held: &BTreeMap<(String, String), BTreeSet<IpAddr>>) -> Result<()> {
    for object in client.registry().every(KIND, None)? {
        let Ok(address) = object.name().parse::<IpAddr>() else { continue };
        let is_ours = object.label(MANAGED.0) == Some(MANAGED.1);
        let is_held = held.iter().any(|((namespace, name), addresses)| {
            addresses.contains(&address) && is_of(&object, namespace, name)
        });
        if is_ours && !is_held {
            remove(client, &object).await?;
        }
    }
    Ok(())
}

fn is_of(object: &Object, namespace: &str, name: &str) -> bool {
    let parent = |field| object.text(&["spec", "parentRef", field]);
    parent("resource") == "services" && parent("namespace") == namespace && parent("name") == name
}

async fn remove(client: &Client, object: &Object) -> Result<()> {
    let target = client.target(API, "IPAddress", "", object.name())?;
    match client.delete_uid(&target, object.uid()).await {
        // Somebody else was faster.
        Err(status) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    }
}
