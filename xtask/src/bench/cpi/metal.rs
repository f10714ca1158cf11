//! Machines without a cloud: how soon a client reaches a new Service by an address that a node answers for, and how soon it is served
//! again when that node is cut off.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::super::Meter;
use super::super::api::client::Connection;
use super::super::api::side::{API, kubeconfig, serve, sextant, spawn, wait};
use super::audit::MARK;
use super::lan::{BEHIND, Lan, NODES, behind};
use crate::Result;

/// How many services are made one after the other. The first finds processes that have done nothing yet, and does not count.
const SERVICES: u8 = 20;
/// How often the node that answers is cut off.
const CUTS: usize = 3;
/// The first service's address of the pool; the others have those behind it.
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 65);
const POOL: &str = "pools: [{name: lan, addresses: [192.0.2.64/27]}]\n";
/// After this, nodes that can hear each other have, and each address is where it stays.
const SETTLED: Duration = Duration::from_secs(2);

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

/// One round, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Metal {
    /// From a Service's creation until the client was served.
    pub(super) reached: Vec<f64>,
    /// From the cut until the client was served by the other node.
    pub(super) taken: Vec<f64>,
}

pub(super) async fn round(program: &Path, meter: &Meter) -> Result<Metal> {
    // What is held here ends in the other order: first the programs, at last their folder.
    let place = meter.folder()?;
    let place = place.path();
    let (_api, endpoint, _) = serve(program, meter, place, &[]).await?;
    let lan = Lan::new(API)?;
    let file = place.join("cloud.yaml");
    std::fs::write(&file, POOL)?;
    let mut client = endpoint.connect().await?;
    let mut programs = Vec::new();
    for node in NODES {
        let name = format!("node-{node}");
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        post(&mut client, "/api/v1/nodes", &object).await?;
        let mut services = Command::new(program);
        services.arg("--data-dir").arg(place.join("data"));
        // Each node is an instance of its own.
        services.arg("--run-dir").arg(place.join(format!("run-{node}")));
        services.args(["services", "--node", &name, "--no-dns", "--announce"]).arg(&file);
        services.arg("--kubeconfig").arg(kubeconfig(place));
        programs.push(lan.start(node, meter, services, &place.join(format!("{name}.log")))?);
    }
    let mut control = sextant(program, place);
    control.args(["control", "--cloud-provider", "metal", "--cloud-config"]).arg(&file);
    control.arg("--kubeconfig").arg(kubeconfig(place));
    programs.push(spawn(meter, control, &place.join("control.log"))?);
    for (log, words) in [
        ("node-0.log", "all Services are reached"),
        ("node-1.log", "all Services are reached"),
        ("control.log", "has cloud provider metal"),
    ] {
        until_said(&place.join(log), words).await?;
    }
    // To start a program takes this process out of there.
    let _beside = meter.beside()?;
    let mut metal = Metal::default();
    for number in 0..SERVICES {
        let address = address(number);
        let reached = expose(&mut client, &lan, number, address).await?;
        if number == 0 {
            tokio::time::sleep(SETTLED).await;
        } else {
            metal.reached.push(reached);
        }
    }
    for _ in 0..CUTS {
        metal.taken.push(cut(&lan).await?);
    }
    Ok(metal)
}

/// The address of a service.
fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST.to_bits() + u32::from(number))
}

/// Makes a service with an endpoint on each node; how long it took until the client was served by one.
async fn expose(client: &mut Connection, lan: &Lan, number: u8, address: Ipv4Addr) -> Result<f64> {
    let name = format!("service-{number}");
    let of = |node: &u8| json!({"addresses": [behind(*node)], "nodeName": format!("node-{node}"), "conditions": {"ready": true}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "", "port": BEHIND, "protocol": "TCP"}],
        "endpoints": NODES.iter().map(of).collect::<Vec<_>>()});
    post(client, SLICES, &slice).await?;
    // Endpoints of the node that answers alone: no pods' network leads to the other.
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "annotations": {"metal.sextant.dev/addresses": address.to_string()}},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "targetPort": BEHIND}]}});
    let begun = Instant::now();
    post(client, "/api/v1/namespaces/default/services", &service).await?;
    let (_, at) = lan.answered(address, |_| true)?;
    Ok(milliseconds(at - begun))
}

/// Cuts the node off that answers for the first service; how long it took until the client was served by the other. It is there again
/// when this returns.
async fn cut(lan: &Lan) -> Result<f64> {
    let address = address(0);
    let (owner, _) = lan.answered(address, |_| true)?;
    let begun = Instant::now();
    lan.plug(owner, false);
    let taken = lan.answered(address, |node| node != owner);
    lan.plug(owner, true);
    let (_, at) = taken?;
    // Whose it is says the hash of both names: it comes back.
    lan.answered(address, |node| node == owner)?;
    tokio::time::sleep(SETTLED).await;
    Ok(milliseconds(at - begun))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

async fn post(client: &mut Connection, path: &str, object: &Value) -> Result<()> {
    let path = format!("{path}?{MARK}");
    let body = Bytes::from(object.to_string());
    client.done(Method::POST, &path, "application/json", body).await.map(drop)
}

/// Waits until a program has said something.
async fn until_said(log: &Path, words: &str) -> Result<()> {
    let began = Instant::now();
    while !std::fs::read_to_string(log)?.contains(words) {
        wait(began, log).await?;
    }
    Ok(())
}
