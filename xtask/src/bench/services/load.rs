//! The changes.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::super::Meter;
use super::super::api::client::Connection;
use super::site::{ADDRESS, PORTS, Site};
use crate::Result;
use crate::bench::api::table::Quantiles;

/// Services that there are, and how many of them are changed, one after another, and made.
pub(super) const SERVICES: usize = 1000;
const CHANGES: usize = 200;
const NEW: usize = 100;
/// How far apart.
const PACE: Duration = Duration::from_millis(20);
/// Longer than any change takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client that is not answered tries again after this.
const TRIES: Duration = Duration::from_millis(250);

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

/// One round. Times in milliseconds from before the write was sent.
pub(super) struct Round {
    /// Until all of the first Services were reached.
    pub(super) filled: f64,
    /// Until another endpoint was reached.
    pub(super) changed: Quantiles,
    /// Until the write was acknowledged.
    pub(super) acknowledged: Quantiles,
    /// From the slice of a new Service until it was reached.
    pub(super) made: Quantiles,
    /// CPU time a change: of the API server and of what looks after Services.
    pub(super) cpu: f64,
    /// KiB that what looks after Services had resident at most.
    pub(super) memory: f64,
}

pub(super) async fn round(site: &Site, meter: &Meter) -> Result<Round> {
    let mut client = site.endpoint.connect().await?;
    let began = Instant::now();
    let mut addresses = Vec::with_capacity(SERVICES);
    for number in 0..SERVICES {
        addresses.push(service(&mut client, number).await?);
        slice(&mut client, number).await?;
    }
    for at in &addresses {
        reached(*at, 0, began).await?;
    }
    let filled = began.elapsed().as_secs_f64() * 1e3;
    let (mut changed, mut acknowledged) = (Vec::new(), Vec::new());
    let before = meter.cpu()?;
    for change in 0..CHANGES {
        tokio::time::sleep(PACE).await;
        // Not the neighbour of the last one, and each one to and fro.
        let (number, to) = (change / 2 * 7 % SERVICES, (change + 1) % 2);
        let at = *addresses.get(number).ok_or("no such Service")?;
        let began = Instant::now();
        let seen = tokio::spawn(reached(at, to, began));
        let path = format!("{}/{}", slices(), name(number));
        let patch = json!({"ports": [port(to)]});
        client.done(Method::PATCH, &path, MERGE, Bytes::from(patch.to_string())).await?;
        acknowledged.push(began.elapsed().as_secs_f64() * 1e3);
        changed.push(seen.await??);
    }
    let cpu = (meter.cpu()? - before).as_secs_f64() * 1e3 / CHANGES as f64;
    let mut made = Vec::new();
    for number in SERVICES..SERVICES + NEW {
        let at = service(&mut client, number).await?;
        tokio::time::sleep(PACE).await;
        let began = Instant::now();
        let seen = tokio::spawn(reached(at, 0, began));
        slice(&mut client, number).await?;
        made.push(seen.await??);
    }
    let (changed, acknowledged, made) =
        (Quantiles::of(changed), Quantiles::of(acknowledged), Quantiles::of(made));
    Ok(Round { filled, changed, acknowledged, made, cpu, memory: site.peak()? })
}

/// Milliseconds since `began` at which the endpoint of this number was first reached at `at`.
async fn reached(at: SocketAddr, number: usize, began: Instant) -> Result<f64, String> {
    let tries = move || loop {
        if asked(at) == Some(number) {
            return Ok(began.elapsed().as_secs_f64() * 1e3);
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("{at} does not lead to endpoint {number}"));
        }
        std::thread::sleep(Duration::from_micros(200));
    };
    tokio::task::spawn_blocking(tries).await.map_err(|e| e.to_string())?
}

fn asked(at: SocketAddr) -> Option<usize> {
    let mut stream = TcpStream::connect_timeout(&at, TRIES).ok()?;
    let mut number = [0];
    stream.read_exact(&mut number).ok()?;
    number.first().map(|number| usize::from(*number))
}

fn name(number: usize) -> String {
    format!("service-{number:04}")
}

fn slices() -> &'static str {
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
}

fn port(number: usize) -> Value {
    json!({"name": "", "protocol": "TCP", "port": PORTS.get(number)})
}

/// Makes a Service; where it is.
async fn service(client: &mut Connection, number: usize) -> Result<SocketAddr> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name(number)},
        "spec": {"ports": [{"port": 80}]}});
    let path = "/api/v1/namespaces/default/services";
    let made = client.done(Method::POST, path, JSON, Bytes::from(service.to_string())).await?;
    let made: Value = serde_json::from_slice(&made)?;
    let address = made["spec"]["clusterIP"].as_str().ok_or("a Service has no address")?;
    Ok(SocketAddr::new(address.parse()?, 80))
}

/// Makes its slice, which leads to the first endpoint.
async fn slice(client: &mut Connection, number: usize) -> Result<()> {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name(number), "labels": {"kubernetes.io/service-name": name(number)}},
        "addressType": "IPv4", "ports": [port(0)],
        "endpoints": [{"addresses": [ADDRESS], "nodeName": "node-1", "conditions": {"ready": true}}],
    });
    client.done(Method::POST, slices(), JSON, Bytes::from(slice.to_string())).await.map(drop)
}
