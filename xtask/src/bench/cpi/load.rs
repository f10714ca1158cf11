//! A cluster, and what becomes of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::super::Meter;
use super::super::api::client::Connection;
use super::audit::{MARK, Requests};
use super::provider::Calls;
use super::seen::Seen;
use super::site::Site;
use crate::Result;

/// How many there are of each.
pub(super) const NODES: usize = 1000;
pub(super) const SERVICES: usize = 500;
/// How often is looked.
const PAUSE: Duration = Duration::from_millis(5);
/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_secs(300);
/// What was not followed by anything for so long was the last.
const QUIET: Duration = Duration::from_secs(2);
/// Longer than anything follows when all is done.
const LEFT: Duration = Duration::from_secs(60);

const JSON: &str = "application/json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// One of the three times.
#[derive(Debug, Default)]
pub(super) struct Phase {
    /// Seconds until each of its steps was done.
    pub(super) steps: BTreeMap<&'static str, f64>,
    /// Calls of the provider.
    pub(super) calls: Calls,
    /// Requests to the API server.
    pub(super) requests: Requests,
    /// CPU seconds of the API server and the controllers, to the last request.
    pub(super) cpu: f64,
}

/// One round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) cold: Phase,
    pub(super) again: Phase,
    pub(super) join: Phase,
    /// KiB that the controllers had resident at most, the first ones or those that were started again.
    pub(super) memory: f64,
}

/// A step, and whether it is done.
type Step<'a> = (&'static str, Box<dyn Fn(&Site) -> bool + 'a>);

pub(super) async fn round(site: &mut Site, meter: &Meter) -> Result<Round> {
    // One for each time: minutes are between them, and servers need not keep a connection that rests.
    let mut client = site.endpoint.connect().await?;
    for number in 0..NODES {
        node(&mut client, number).await?;
    }
    for number in 0..SERVICES {
        service(&mut client, number).await?;
    }
    let seen = &Seen::follow(&site.endpoint).await?;
    let mut before = Before::now(site, meter)?;
    site.control(meter)?;
    let steps = |nodes: usize| -> Vec<Step<'_>> {
        vec![
            ("nodes are initialized", Box::new(move |_: &Site| seen.initialized() == nodes)),
            ("services have addresses", Box::new(|_: &Site| seen.balanced() == SERVICES)),
            (
                "load balancers lead to all",
                Box::new(move |site: &Site| site.cloud.leading_to(nodes) == SERVICES),
            ),
            ("nodes' pods are reached", Box::new(move |_: &Site| seen.reached() == nodes)),
        ]
    };
    let cold = before.phase(site, meter, seen, steps(NODES)).await?;
    // Those that are started again have less to do.
    let first = site.peak()?;
    let mut before = Before::now(site, meter)?;
    site.control(meter)?;
    let goal = |call: &str, more: usize| before.calls.get(call).copied().unwrap_or_default() + more;
    let (asked, ensured) = (goal("InstanceMetadata", NODES), goal("EnsureLoadBalancer", SERVICES));
    let looked: Vec<Step<'_>> = vec![
        ("nodes are asked about", Box::new(move |site: &Site| site.cloud.count("InstanceMetadata") >= asked)),
        (
            "services are looked at",
            Box::new(move |site: &Site| site.cloud.count("EnsureLoadBalancer") >= ensured),
        ),
    ];
    let again = before.phase(site, meter, seen, looked).await?;
    let mut client = site.endpoint.connect().await?;
    let mut before = Before::now(site, meter)?;
    node(&mut client, NODES).await?;
    let join = before.phase(site, meter, seen, steps(NODES + 1)).await?;
    Ok(Round { cold, again, join, memory: first.max(site.peak()?) })
}

/// What there was when a phase began.
struct Before {
    began: Instant,
    calls: Calls,
    requests: Requests,
    cpu: Duration,
}

impl Before {
    fn now(site: &mut Site, meter: &Meter) -> Result<Self> {
        let (calls, requests) = (site.cloud.calls(), site.audit.requests()?.clone());
        Ok(Self { began: Instant::now(), calls, requests, cpu: meter.cpu()? })
    }

    /// Waits until all steps are done and nothing follows; what came of it.
    async fn phase(
        &mut self,
        site: &mut Site,
        meter: &Meter,
        seen: &Seen,
        steps: Vec<Step<'_>>,
    ) -> Result<Phase> {
        let mut phase = Phase::default();
        while phase.steps.len() < steps.len() {
            site.runs()?;
            seen.follows()?;
            let now = self.began.elapsed();
            for (name, is_done) in &steps {
                if !phase.steps.contains_key(name) && is_done(site) {
                    phase.steps.insert(name, now.as_secs_f64());
                }
            }
            if now > PATIENCE {
                let missing =
                    steps.iter().map(|(name, _)| *name).find(|name| !phase.steps.contains_key(name));
                let (missing, words) = (missing.unwrap_or_default(), site.words());
                return Err(
                    format!("not in {PATIENCE:?}: {missing}; the controllers said last: {words}").into()
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
        let mut last = (Calls::new(), Requests::new());
        let (done, mut since) = (Instant::now(), Instant::now());
        phase.cpu = (meter.cpu()? - self.cpu).as_secs_f64();
        while since.elapsed() < QUIET {
            tokio::time::sleep(PAUSE * 20).await;
            site.runs()?;
            // Routes are looked at all the time, and volumes' controllers look for drivers.
            let mut now = (site.cloud.calls(), site.audit.requests()?.clone());
            now.0.remove("ListRoutes");
            now.1.retain(|request, _| super::table::is_of_clouds(request));
            if now != last {
                if done.elapsed() > LEFT {
                    let (calls, requests) = (since_then(&now.0, &last.0), since_then(&now.1, &last.1));
                    return Err(format!(
                        "all is done, but it is not quiet in {LEFT:?}: calls {calls:?} and requests {requests:?} still come; \
                         the controllers said last: {}",
                        site.words()
                    )
                    .into());
                }
                (last, since) = (now, Instant::now());
                phase.cpu = (meter.cpu()? - self.cpu).as_secs_f64();
            }
        }
        phase.calls = since_then(&site.cloud.calls(), &self.calls);
        phase.requests = since_then(site.audit.requests()?, &self.requests);
        Ok(phase)
    }
}

/// By how much each has grown.
fn since_then<K: Ord + Clone>(now: &BTreeMap<K, usize>, before: &BTreeMap<K, usize>) -> BTreeMap<K, usize> {
    let grown =
        now.iter().map(|(what, count)| (what.clone(), count - before.get(what).copied().unwrap_or(0)));
    grown.filter(|(_, count)| *count > 0).collect()
}

async fn post(client: &mut Connection, path: &str, object: &Value) -> Result<Value> {
    let path = format!("{path}?{MARK}");
    let made = client.done(Method::POST, &path, JSON, Bytes::from(object.to_string())).await?;
    Ok(serde_json::from_slice(&made)?)
}

/// A node as its kubelet makes it where it waits for its cloud. It is ready.
async fn node(client: &mut Connection, number: usize) -> Result<()> {
    let name = format!("node-{number}");
    let taint = json!({"key": "node.cloudprovider.kubernetes.io/uninitialized", "value": "true", "effect": "NoSchedule"});
    let now = "2026-01-01T00:00:00Z";
    let status = json!({
        "capacity": {"cpu": "8", "memory": "32Gi", "pods": "110"}, "allocatable": {"cpu": "8", "memory": "31Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": now,
            "lastTransitionTime": now}],
        "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Linux", "kernelVersion": "6.12", "architecture": "amd64",
            "operatingSystem": "linux", "containerRuntimeVersion": "sextant", "machineID": "", "systemUUID": "",
            "bootID": "", "kubeProxyVersion": ""},
    });
    let node = json!({"apiVersion": "v1", "kind": "Node", "spec": {"taints": [taint]}, "status": status,
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}}});
    let made = post(client, "/api/v1/nodes", &node).await?;
    if made["status"]["conditions"].is_array() {
        return Ok(());
    }
    let path = format!("/api/v1/nodes/{name}/status?{MARK}");
    let status = Bytes::from(json!({"status": status}).to_string());
    client.done(Method::PATCH, &path, STRATEGIC, status).await.map(drop)
}

async fn service(client: &mut Connection, number: usize) -> Result<()> {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("service-{number}")},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
    post(client, "/api/v1/namespaces/default/services", &service).await.map(drop)
}
