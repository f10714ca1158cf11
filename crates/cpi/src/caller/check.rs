//! Puts any provider through its paces: what controllers rely on, asked one by one.
//!
//! What it makes is for a service and a route of its own, and is taken away again, also where something went wrong on the way.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Node, Service};
use serde_json::json;

use crate::contract::{
    Cidr, CloudProvider, Error, InstanceMetadata, Instances, LoadBalancers, ProviderId, Route, Routes,
};

/// How long a load balancer may take to be made, or to go.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often what is not yet so is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// What a provider is examined with.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What the cluster is called.
    pub cluster: String,
    /// Nodes that have instances. Without one, what needs some is left out.
    pub nodes: Vec<Node>,
    /// Where a route may lead to for a moment; `None`: none is made.
    pub route: Option<String>,
    /// What the service and the node are called that there are not: no cluster has them.
    pub mark: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Right,
    /// Not asked, and why.
    LeftOut(String),
    /// Not as it must be, and how it is.
    Wrong(String),
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What must be so.
    pub rule: &'static str,
    /// Whether it is.
    pub verdict: Verdict,
}

/// Findings as they come.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn note(&mut self, rule: &'static str, found: Result<(), String>) -> bool {
        let verdict = found.map_or_else(Verdict::Wrong, |()| Verdict::Right);
        let is_right = verdict == Verdict::Right;
        self.0.push(Finding { rule, verdict });
        is_right
    }

    fn leave_out(&mut self, rule: &'static str, why: &str) {
        self.0.push(Finding { rule, verdict: Verdict::LeftOut(why.into()) });
    }
}

/// Examines a provider.
pub async fn run(provider: &dyn CloudProvider, subject: &Subject) -> Vec<Finding> {
    let mut findings = Findings::default();
    let named = crate::contract::wire::provider_name(provider.name());
    findings.note("its name can be the scheme of provider ids", named.map_err(|e| e.to_string()));
    for rule in ["it initializes", "it initializes again, as for the next controllers"] {
        findings.note(rule, provider.initialize(&subject.cluster).await.map_err(|e| e.to_string()));
    }
    match provider.instances() {
        Some(instances) => examine_instances(provider.name(), instances, subject, &mut findings).await,
        None => findings
            .leave_out("instances", "the provider has none: nodes are not initialized, and not deleted"),
    }
    match provider.load_balancers() {
        Some(balancers) => examine_load_balancers(balancers, subject, &mut findings).await,
        None => findings.leave_out("load balancers", "the provider has none"),
    }
    match provider.routes() {
        Some(routes) => examine_routes(routes, subject, &mut findings).await,
        None => findings.leave_out("routes", "the provider has none"),
    }
    if let Some(clusters) = provider.clusters() {
        let listed = clusters.list_clusters().await;
        findings.note("clusters are listed", listed.map(drop).map_err(|e| e.to_string()));
    }
    findings.0
}

async fn examine_instances(
    provider: &str,
    instances: &dyn Instances,
    subject: &Subject,
    findings: &mut Findings,
) {
    let nobody = node_of_nobody(provider, &subject.mark);
    let exists = match instances.instance_exists(&nobody).await {
        Ok(false) | Err(Error::InstanceNotFound) => Ok(()),
        Ok(true) => Err(format!("node {} exists, which nobody has made", subject.mark)),
        Err(error) => Err(format!("it must say no, or that there is no such instance, and says: {error}")),
    };
    findings.note("an instance that is not there does not exist", exists);
    let metadata = match instances.instance_metadata(&nobody).await {
        Err(_) | Ok(None) => Ok(()),
        Ok(Some(metadata)) => Err(format!("node {} has metadata: {metadata:?}", subject.mark)),
    };
    findings.note("an instance that is not there has no metadata", metadata);
    if subject.nodes.is_empty() {
        findings.leave_out("instances that are there", "no node was named");
    }
    for node in &subject.nodes {
        examine_instance(provider, instances, node, findings).await;
    }
}

async fn examine_instance(provider: &str, instances: &dyn Instances, node: &Node, findings: &mut Findings) {
    let exists = instances.instance_exists(node).await;
    let is_there = exists.map_err(|e| e.to_string()).and_then(|is| said(is, "it says that it does not"));
    findings.note("a node's instance exists", is_there);
    let shutdown = instances.instance_shutdown(node).await;
    findings.note("it is known whether it is stopped", shutdown.map(drop).map_err(|e| e.to_string()));
    let first = match instances.instance_metadata(node).await {
        Ok(Some(metadata)) => metadata,
        other => {
            findings.note("its metadata are known", Err(format!("it says {other:?}")));
            return;
        }
    };
    findings.note("its metadata are right", metadata_are_right(provider, &first));
    let again = instances.instance_metadata(node).await;
    let is_same = again
        .as_ref()
        .is_ok_and(|again| again.as_ref().is_some_and(|again| again.provider_id == first.provider_id));
    findings.note(
        "its provider id stays",
        said(is_same, &format!("first {:?}, then {again:?}", first.provider_id)),
    );
    // From now on it is found by its id alone.
    let mut by_id = node.clone();
    by_id.spec.get_or_insert_default().provider_id = Some(first.provider_id.clone());
    let exists = instances.instance_exists(&by_id).await;
    let is_there = exists.map_err(|e| e.to_string()).and_then(|is| said(is, "it says that it does not"));
    findings.note("an instance is found by its provider id", is_there);
}

fn metadata_are_right(provider: &str, metadata: &InstanceMetadata) -> Result<(), String> {
    let id: ProviderId = metadata.provider_id.parse().map_err(|e: grpc::Failure| e.to_string())?;
    said(id.of(provider).is_some(), &format!("{id} is not of provider {provider}"))?;
    let kept = |key: &&String| is_kept(key);
    if let Some(key) = metadata.additional_labels.keys().find(kept) {
        return Err(format!("label {key} is Kubernetes' own, and is not taken from providers"));
    }
    for address in &metadata.node_addresses {
        let is_ip = address.type_.ends_with("IP");
        if address.address.is_empty() || is_ip && address.address.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("{:?} is no {}", address.address, address.type_));
        }
    }
    Ok(())
}

/// Whether a label is one that Kubernetes keeps for itself.
#[must_use]
pub fn is_kept(label: &str) -> bool {
    let Some((prefix, _)) = label.split_once('/') else { return false };
    ["kubernetes.io", "k8s.io"]
        .iter()
        .any(|own| prefix.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

async fn examine_load_balancers(balancers: &dyn LoadBalancers, subject: &Subject, findings: &mut Findings) {
    if subject.nodes.is_empty() {
        findings.leave_out("load balancers", "no node was named that one could lead to");
        return;
    }
    let (service, cluster) = (service(&subject.mark), subject.cluster.as_str());
    let name = balancers.load_balancer_name(cluster, &service);
    findings.note("a load balancer has a name before it is there", said(!name.is_empty(), "it is empty"));
    let none = balancers.get_load_balancer(cluster, &service).await;
    findings.note("one that nobody has asked for is not there", is_none(none));
    let gone = balancers.ensure_load_balancer_deleted(cluster, &service).await;
    findings.note("one that is not there is taken away", gone.map_err(|e| e.to_string()));
    let made = ensured(balancers, subject, &service).await;
    if findings.note("one is made", made.as_ref().map(drop).map_err(Clone::clone)) {
        let first = made.unwrap_or_default();
        let found = balancers.get_load_balancer(cluster, &service).await;
        let is_there = said(matches!(found, Ok(Some(_))), &format!("it is {found:?}"));
        findings.note("it is there then", is_there);
        let again = ensured(balancers, subject, &service).await;
        let is_same = said(again.as_ref() == Ok(&first), &format!("first {first:?}, then {again:?}"));
        findings.note("made again it is the same", is_same);
        let few = subject.nodes.get(..1).unwrap_or_default();
        let updated = balancers.update_load_balancer(cluster, &service, few).await;
        findings.note("it is led to other nodes", updated.map_err(|e| e.to_string()));
    }
    let gone = deleted(balancers, subject, &service).await;
    findings.note("it is taken away", gone);
    findings.note("it is not there then", is_none(balancers.get_load_balancer(cluster, &service).await));
    let gone = balancers.ensure_load_balancer_deleted(cluster, &service).await;
    findings.note("it is taken away again", gone.map_err(|e| e.to_string()));
}

/// A load balancer, however often the provider wants to be asked.
async fn ensured(
    balancers: &dyn LoadBalancers,
    subject: &Subject,
    service: &Service,
) -> Result<LoadBalancerStatus, String> {
    let began = Instant::now();
    loop {
        match balancers.ensure_load_balancer(&subject.cluster, service, &subject.nodes).await {
            Err(Error::RetryAfter { after, .. }) if began.elapsed() + after < PATIENCE => {
                tokio::time::sleep(after.max(PAUSE)).await;
            }
            done => return done.map_err(|e| e.to_string()),
        }
    }
}

async fn deleted(balancers: &dyn LoadBalancers, subject: &Subject, service: &Service) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match balancers.ensure_load_balancer_deleted(&subject.cluster, service).await {
            Err(Error::ImplementedElsewhere) => {
                return Err("to take one away must never be left to others".into());
            }
            Err(Error::RetryAfter { after, .. }) if began.elapsed() + after < PATIENCE => {
                tokio::time::sleep(after.max(PAUSE)).await;
            }
            done => return done.map_err(|e| e.to_string()),
        }
    }
}

async fn examine_routes(routes: &dyn Routes, subject: &Subject, findings: &mut Findings) {
    let cluster = subject.cluster.as_str();
    let listed = routes.list_routes(cluster).await;
    if !findings.note("routes are listed", listed.map(drop).map_err(|e| e.to_string())) {
        return;
    }
    let (Some(node), Some(destination)) = (subject.nodes.first(), subject.route.as_deref()) else {
        findings.leave_out("a route is made", "no node and no range were named that one could lead to");
        return;
    };
    let target_node = node.metadata.name.clone().unwrap_or_default();
    let wanted = Route { target_node, destination_cidr: destination.into(), ..Route::default() };
    let made = routes.create_route(cluster, &subject.mark, &wanted).await;
    findings.note("a route is made", made.map_err(|e| e.to_string()));
    let found = found(routes, cluster, destination).await;
    let leads =
        found.as_ref().is_ok_and(|found| found.iter().any(|route| route.target_node == wanted.target_node));
    findings.note("it is listed, with its node", said(leads, &format!("found are {found:?}")));
    for route in found.unwrap_or_default() {
        for rule in ["it is taken away", "it is taken away again"] {
            findings.note(rule, routes.delete_route(cluster, &route).await.map_err(|e| e.to_string()));
        }
    }
    let left = self::found(routes, cluster, destination).await;
    findings.note(
        "it is not listed then",
        said(left.as_ref().is_ok_and(Vec::is_empty), &format!("found are {left:?}")),
    );
}

async fn found(routes: &dyn Routes, cluster: &str, destination: &str) -> Result<Vec<Route>, Error> {
    let all = routes.list_routes(cluster).await?;
    let range = |text: &str| text.parse::<Cidr>().map_err(|_| text.to_owned());
    let wanted = range(destination);
    Ok(all.into_iter().filter(|route| range(&route.destination_cidr) == wanted).collect())
}

fn is_none(found: Result<Option<LoadBalancerStatus>, Error>) -> Result<(), String> {
    said(matches!(found, Ok(None)), &format!("it is {found:?}"))
}

fn said(is: bool, else_: &str) -> Result<(), String> {
    if is { Ok(()) } else { Err(else_.into()) }
}

fn node_of_nobody(provider: &str, mark: &str) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(mark.into());
    node.metadata.uid = Some(mark.into());
    node.spec.get_or_insert_default().provider_id = Some(format!("{provider}://{mark}"));
    node
}

/// A service as a controller hands it over.
fn service(mark: &str) -> Service {
    let port = json!({"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080});
    let service = json!({
        "metadata": {"name": mark, "namespace": "default", "uid": mark},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.99", "clusterIPs": ["10.96.0.99"], "ipFamilies": ["IPv4"],
            "externalTrafficPolicy": "Cluster", "sessionAffinity": "None", "ports": [port]},
    });
    serde_json::from_value(service).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_kubernetes_own() {
        for key in ["kubernetes.io/a", "node.kubernetes.io/a", "k8s.io/a", "x.k8s.io/a"] {
            assert!(is_kept(key), "{key}");
        }
        for key in ["a", "example.com/a", "mykubernetes.io/a", "kubernetes.io", "kubernetes.io.example.com/a"]
        {
            assert!(!is_kept(key), "{key}");
        }
    }

    #[test]
    fn the_service_is_one() {
        let one = service("check-1");
        assert_eq!(one.metadata.name.as_deref(), Some("check-1"));
        assert_eq!(one.spec.unwrap().ports.unwrap()[0].node_port, Some(30080));
    }
}
