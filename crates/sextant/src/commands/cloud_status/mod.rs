//! `sextant cloud status`: what a cluster has of its cloud, by what stands in its objects.

mod balancers;
mod failures;
mod news;
mod nodes;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::CloudStatusArgs;
use crate::failure::Result;
use crate::objects::{Call, JSON, Refused, Server, list, shown};
use crate::output::{self, Table};
use balancers::Balancer;
use failures::Failure;
use news::News;
use nodes::{Member, Stage};

/// What there is; for programs, it is written as it is here.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    nodes: Vec<Member>,
    load_balancers: Vec<Balancer>,
    failures: Vec<Failure>,
}

/// Prints it.
pub(super) fn run(data_dir: &Path, args: &CloudStatusArgs) -> Result<()> {
    let server = Server::find(data_dir, &args.server, None)?;
    let (nodes, services) = (server.get("/api/v1/nodes")?, server.get("/api/v1/services")?);
    let mut untold = None;
    let mut news = |kind: &str| match events(&server, kind) {
        Ok(events) => News::new(events),
        Err(refused) => {
            untold = Some(refused);
            News::default()
        }
    };
    let (of_nodes, of_services, of_namespaces) = (news("Node"), news("Service"), news("Namespace"));
    let nodes = list(&nodes, "/items");
    let status = Status {
        nodes: nodes.iter().map(|node| Member::of(node, &of_nodes)).collect(),
        load_balancers: list(&services, "/items")
            .iter()
            .filter_map(|service| Balancer::of(service, &of_services))
            .collect(),
        failures: failures::all(nodes, &of_nodes, &of_namespaces),
    };
    if args.output.json() {
        output::json(&json!(status))?;
    } else {
        print(&status)?;
    }
    if let Some(refused) = untold {
        eprintln!("sextant: warning: what fails is not told, as events cannot be read: {refused}");
    }
    Ok(())
}

/// Events of all objects of a kind.
fn events(server: &Server, kind: &str) -> Result<Vec<Value>, Refused> {
    let fields = format!("involvedObject.kind={kind}");
    let found = server.ask(Call::get("/api/v1/events", JSON).with("fieldSelector", &fields))?;
    Ok(list(&found, "/items").to_vec())
}

/// Cells of what may be missing.
fn or_none(text: &str) -> String {
    if text.is_empty() { "-".into() } else { shown(text) }
}

fn joined(all: &[String], between: &str) -> String {
    or_none(&all.join(between))
}

fn print(status: &Status) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut sections = vec![nodes_of(status), balancers_of(status), routes_of(status)];
    if !status.failures.is_empty() {
        sections.push(failures_of(status));
    }
    write!(out, "{}", sections.join("\n"))?;
    for hint in hints(status) {
        write!(out, "\n{hint}\n")?;
    }
    Ok(())
}

fn nodes_of(status: &Status) -> String {
    if status.nodes.is_empty() {
        return "No nodes. Each kubelet makes its own when it starts; `sextant get nodes -w` shows them come.\n".into();
    }
    let mut table = Table::new(["NODE", "CLOUD", "READY", "PROVIDER ID", "TYPE", "ZONE", "ADDRESSES"]);
    for node in &status.nodes {
        let addresses: Vec<String> = node.addresses.iter().map(|one| one.address.clone()).collect();
        table.row([
            or_none(&node.name),
            node.cloud.word().into(),
            or_none(&node.ready),
            or_none(&node.provider_id),
            or_none(&node.instance_type),
            or_none(&node.zone),
            joined(&addresses, ","),
        ]);
    }
    table.to_string()
}

fn balancers_of(status: &Status) -> String {
    if status.load_balancers.is_empty() {
        return "No load balancers: no Service has `type: LoadBalancer`.\n".into();
    }
    let mut table = Table::new(["SERVICE", "ADDRESS", "PORTS", "SINCE", "ANNOUNCED BY", "STATE"]);
    for one in &status.load_balancers {
        table.row([
            or_none(&format!("{}/{}", one.namespace, one.name)),
            joined(&one.addresses, ","),
            joined(&one.ports, ","),
            one.since.as_deref().map_or_else(|| "-".into(), crate::objects::age),
            joined(&one.announced_by, ","),
            shown(&one.words()),
        ]);
    }
    table.to_string()
}

fn routes_of(status: &Status) -> String {
    let is_routed = |node: &&Member| !node.pod_cidrs.is_empty() || node.network_unavailable.is_some();
    if !status.nodes.iter().any(|node| is_routed(&node)) {
        return "No routes: no node has a range of pods' addresses (`spec.podCIDRs`).\n".into();
    }
    let mut table = Table::new(["NODE", "POD CIDRS", "NETWORK UNAVAILABLE", "WHY"]);
    for node in status.nodes.iter().filter(is_routed) {
        let (is, why) = match (&node.network_unavailable, &node.route_failure) {
            (None, failure) => ("-".to_owned(), failure.clone().unwrap_or_default()),
            // The event says which route, and what the cloud said.
            (Some(one), Some(failure)) if one.status == "True" => (one.status.clone(), failure.clone()),
            (Some(one), _) => (one.status.clone(), one.message.clone()),
        };
        table.row([or_none(&node.name), joined(&node.pod_cidrs, ","), or_none(&is), or_none(&why)]);
    }
    table.to_string()
}

fn failures_of(status: &Status) -> String {
    let mut table = Table::new(["FAILS", "LAST SAID", "WHY"]);
    for one in &status.failures {
        let why = shown(&format!("{}: {}", one.reason, one.message));
        table.row([or_none(&one.of), crate::objects::age(&one.since), why]);
    }
    table.to_string()
}

/// What is to be done about it, where that can be told.
fn hints(status: &Status) -> Vec<String> {
    let mut hints = Vec::new();
    let mut stages: BTreeMap<Stage, usize> = BTreeMap::new();
    for node in &status.nodes {
        *stages.entry(node.cloud).or_default() += 1;
    }
    let many = |stage| stages.get(&stage).copied().unwrap_or_default();
    let nodes = |count: usize| if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") };
    let run =
        "`sextant control --cloud-provider` with metal, aws or a provider at unix:///PATH (docs/cpi.md)";
    let waiting = status.load_balancers.iter().filter(|one| one.is_waiting()).count();
    let is_of_none = !status.nodes.is_empty() && many(Stage::None) == status.nodes.len();
    if many(Stage::Waits) > 0 {
        hints.push(format!(
            "{} without a cloud yet: no pod is scheduled there until its cloud controller has seen it. If none runs, start {run}; \
             else what fails is told above, or in its log.",
            nodes(many(Stage::Waits))
        ));
    } else if is_of_none && status.load_balancers.iter().any(|one| !one.addresses.is_empty()) {
        // Somebody gives them out, and knows no machines: metal without an inventory, say.
        hints.push(
            "No node is of a cloud: whoever gives Services their addresses knows no machines. `metal` knows those of its inventory \
             (docs/metal.md), once kubelets run with --cloud-provider=external."
                .into(),
        );
    } else if is_of_none {
        hints.push(format!(
            "No node is of a cloud. If there is to be one, start {run}, and kubelets with --cloud-provider=external."
        ));
    }
    if waiting > 0 && many(Stage::Waits) == 0 {
        let services =
            if waiting == 1 { "1 Service waits".to_owned() } else { format!("{waiting} Services wait") };
        hints.push(format!(
            "{services} for a load balancer, and nobody has said why not: if no cloud controller runs, start {run}."
        ));
    }
    if many(Stage::ShutDown) > 0 {
        hints.push(format!(
            "{} shut down in the cloud: its pods stay until it is started again, or until the node is deleted.",
            nodes(many(Stage::ShutDown))
        ));
    }
    hints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(nodes: Value, services: Value, events: Value) -> Status {
        let news = News::new(list(&events, "").to_vec());
        Status {
            nodes: list(&nodes, "").iter().map(|node| Member::of(node, &news)).collect(),
            load_balancers: list(&services, "").iter().filter_map(|one| Balancer::of(one, &news)).collect(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn what_is_not_there_is_said_with_what_can_be_done() {
        let none = status(json!([]), json!([]), json!([]));
        assert!(nodes_of(&none).contains("sextant get nodes -w"));
        assert!(balancers_of(&none).contains("type: LoadBalancer"));
        assert!(routes_of(&none).contains("podCIDRs"));
        assert_eq!(hints(&none), Vec::<String>::new());
        let bare = status(json!([{"metadata": {"name": "a"}}]), json!([]), json!([]));
        assert!(hints(&bare)[0].contains("--cloud-provider=external"), "{:?}", hints(&bare));
        let has = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        let has = json!([{"metadata": {"name": "web", "namespace": "default"}, "spec": {"type": "LoadBalancer"}, "status": has}]);
        let told = hints(&status(json!([{"metadata": {"name": "a"}}]), has, json!([])));
        assert!(told.len() == 1 && told[0].contains("inventory") && !told[0].contains("start"), "{told:?}");
        let taint =
            json!([{"key": "node.cloudprovider.kubernetes.io/uninitialized", "effect": "NoSchedule"}]);
        let lb =
            json!([{"metadata": {"name": "web", "namespace": "default"}, "spec": {"type": "LoadBalancer"}}]);
        let waits = status(json!([{"metadata": {"name": "a"}, "spec": {"taints": taint}}]), lb, json!([]));
        let told = hints(&waits);
        assert!(told.len() == 1 && told[0].starts_with("1 node without a cloud yet"), "{told:?}");
    }
}
