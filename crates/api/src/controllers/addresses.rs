//! An IPAddress for each address that a service has, and the ServiceCIDR that they come from.

use super::beginning::{ensure, keep};
use crate::contract::{Object, Result};
use crate::registry::client::{Change, Client};
use crate::registry::set_condition;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

const API: &str = "networking.k8s.io/v1";
const KIND: &str = "ipaddresses.networking.k8s.io";
/// How often it is looked whether each address has its IPAddress: one may have been refused, or taken away.
const EVERY: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(30) };
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

/// By namespace and name of the service: what it has.
type Held = BTreeMap<(String, String), BTreeSet<IpAddr>>;

/// Follows services.
pub(super) async fn run(client: Client) {
    let Ok(target) = client.target("v1", "Service", "", "") else { return };
    let mut services = client.follow(target);
    let mut held = Held::new();
    // Before that not all services are known.
    let mut is_settled = false;
    let mut again = tokio::time::interval(EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refused = String::new();
    loop {
        let change = tokio::select! {
            change = services.next() => Some(change),
            _ = again.tick(), if is_settled => None,
        };
        let is_again = change.is_none();
        let outcome = match change {
            Some(Change::Applied(service)) => {
                let has = addresses(&service);
                let of = place(&service);
                let before = held.insert(of.clone(), has.clone()).unwrap_or_default();
                let given = give_all(&client, &of, &has).await;
                given.and(take(&client, &of, before.difference(&has)).await)
            }
            Some(Change::Gone(service)) => {
                let of = place(&service);
                let before = held.remove(&of).unwrap_or_default();
                take(&client, &of, before.iter()).await
            }
            Some(Change::Settled) => {
                is_settled = true;
                tidy(&client, &held).await
            }
            None => keep_all(&client, &held).await,
        };
        let told = outcome.err().map(|status| status.to_string()).unwrap_or_default();
        // What is tried again and again is told once.
        let is_news = !is_again || told != refused;
        if !told.is_empty() && is_news {
            eprintln!("sextant: cannot keep the addresses of services: {told}");
        }
        if is_again {
            refused = told;
        }
    }
}

/// Takes away what no service has, so that it is free, and gives again what is missing. What fails keeps nothing else from
/// it.
async fn keep_all(client: &Client, held: &Held) -> Result<()> {
    let mut outcome = tidy(client, held).await;
    for (of, addresses) in held {
        outcome = outcome.and(give_all(client, of, addresses).await);
    }
    outcome
}

async fn give_all(client: &Client, of: &(String, String), addresses: &BTreeSet<IpAddr>) -> Result<()> {
    let mut outcome = Ok(());
    for address in addresses {
        outcome = outcome.and(give(client, of, *address).await);
    }
    outcome
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
async fn give(client: &Client, (namespace, name): &(String, String), address: IpAddr) -> Result<()> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let object = json!({
        "apiVersion": API,
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "labels": {"ipaddress.kubernetes.io/ip-family": family, MANAGED.0: MANAGED.1},
        },
        "spec": {"parentRef": {
            "resource": "services", "namespace": namespace, "name": name,
        }},
    });
    ensure(client, "", object).await
}

/// Takes those away that a service had.
async fn take(
    client: &Client,
    (namespace, name): &(String, String),
    addresses: impl Iterator<Item = &IpAddr>,
) -> Result<()> {
    let mut outcome = Ok(());
    for address in addresses {
        outcome = outcome.and(match client.registry().peek(KIND, "", &address.to_string()) {
            Ok(Some(object)) if is_of(&object, namespace, name) => remove(client, &object).await,
            other => other.map(drop),
        });
    }
    outcome
}

/// Takes away what no service has.
async fn tidy(client: &Client, held: &Held) -> Result<()> {
    let mut outcome = Ok(());
    for object in client.registry().every(KIND, None)? {
        let Ok(address) = object.name().parse::<IpAddr>() else { continue };
        let is_ours = object.label(MANAGED.0) == Some(MANAGED.1);
        let parent = |field| object.text(&["spec", "parentRef", field]).to_owned();
        let of = (parent("namespace"), parent("name"));
        let is_held = parent("resource") == "services"
            && held.get(&of).is_some_and(|addresses| addresses.contains(&address));
        if is_ours && !is_held {
            outcome = outcome.and(remove(client, &object).await);
        }
    }
    outcome
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
