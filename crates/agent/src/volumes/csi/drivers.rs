//! Drivers of this node: registered as their sockets come, and told to the cluster by the node's CSINode and its labels.

use std::sync::Arc;
use std::time::Duration;

use csi::caller::registration::{Event, Registered, watch};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::CSINode;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::names::Key;

/// Where drivers ask to be registered, in the agent's folder.
pub const REGISTRY: &str = "plugins_registry";
/// How often it is tried to tell the cluster of a driver, where somebody else writes at the same time.
const TRIES: usize = 5;
/// How long the API server has to answer.
const WRITING: Duration = Duration::from_secs(30);

/// Registers drivers, for ever.
pub(crate) async fn follow(agent: &Arc<Agent>) -> ! {
    let folder = agent.setup.folder.join(REGISTRY);
    if let Err(error) = std::fs::create_dir_all(&folder) {
        eprintln!("sextant agent: warning: cannot make {}: {error}", folder.display());
    }
    let its = agent.clone();
    watch(&folder, move |event| take(its.clone(), event)).await;
    std::future::pending().await
}

async fn take(agent: Arc<Agent>, event: Event) -> Result<(), String> {
    let _turn = agent.csi.announcing.lock().await;
    match event {
        Event::Came(driver) => {
            tell(&agent, Some(&driver), &driver.driver).await?;
            agent.csi.put(driver);
            // Whose volumes waited for it.
            agent.queue.add_all(agent.all_pods().iter().map(|pod| Key::of(pod)));
            Ok(())
        }
        Event::Gone(name) => {
            agent.csi.drop_driver(&name);
            // What the cluster is told may be late.
            let _later = tell(&agent, None, &name).await;
            Ok(())
        }
        Event::Failed { socket, cause } => {
            let socket = socket.display();
            eprintln!("sextant agent: warning: cannot register the plugin at {socket}: {cause}");
            Ok(())
        }
    }
}

/// Tells of all drivers once more: the node's object was made anew.
pub(crate) async fn announce(agent: &Agent) {
    let _turn = agent.csi.announcing.lock().await;
    for driver in agent.csi.registered() {
        if let Err(why) = tell(agent, Some(&driver), &driver.driver).await {
            eprintln!("sextant agent: warning: cannot tell of driver {}: {why}", driver.driver);
        }
    }
}

/// Writes a driver into the CSINode, or takes it away, and the node's place as labels.
async fn tell(agent: &Agent, driver: Option<&Registered>, name: &str) -> Result<(), String> {
    let telling = async {
        if let Some(driver) = driver {
            label(agent, driver).await?;
        }
        for _ in 1..TRIES {
            match write(agent, driver, name).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                written => return written,
            }
        }
        write(agent, driver, name).await
    };
    match tokio::time::timeout(WRITING, telling).await {
        Ok(told) => told.map_err(|error| {
            format!("cannot write CSINode {}: {}", agent.setup.node, client::causes(&error))
        }),
        Err(_) => Err("the API server does not answer".into()),
    }
}

/// Where the node is, as the driver says.
async fn label(agent: &Agent, driver: &Registered) -> kube::Result<()> {
    if driver.topology.is_empty() {
        return Ok(());
    }
    let nodes: Api<Node> = Api::all(agent.client.clone());
    let patch = Patch::Merge(json!({"metadata": {"labels": driver.topology}}));
    nodes.patch(&agent.setup.node, &PatchParams::default(), &patch).await.map(drop)
}

async fn write(agent: &Agent, driver: Option<&Registered>, name: &str) -> kube::Result<()> {
    let api: Api<CSINode> = Api::all(agent.client.clone());
    let node = &agent.setup.node;
    let there = api.get_opt(node).await?;
    let mut drivers: Vec<Value> =
        there.iter().flat_map(|one| &one.spec.drivers).map(|one| json!(one)).collect();
    let before = drivers.clone();
    drivers.retain(|one| one["name"] != name);
    drivers.extend(driver.map(entry));
    drivers.sort_by_key(|one| one["name"].as_str().unwrap_or_default().to_owned());
    // A node that was made anew is another owner: what the old one had goes with it.
    let owner = Api::<Node>::all(agent.client.clone()).get(node).await?;
    let reference = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner.metadata.uid});
    let mut owners = there.iter().flat_map(|one| one.metadata.owner_references.iter().flatten());
    let is_owned = owners.any(|one| Some(&one.uid) == owner.metadata.uid.as_ref());
    match there {
        Some(_) if drivers == before && is_owned => Ok(()),
        Some(there) => {
            let mut metadata = json!({"resourceVersion": there.metadata.resource_version});
            if !is_owned {
                metadata["ownerReferences"] = json!([reference]);
            }
            let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"drivers": drivers}}));
            api.patch(node, &PatchParams::default(), &patch).await.map(drop)
        }
        None => {
            let made = json!({"metadata": {"name": node, "ownerReferences": [reference]}, "spec": {"drivers": drivers}});
            let made = serde_json::from_value(made).map_err(kube::Error::SerdeError)?;
            api.create(&PostParams::default(), &made).await.map(drop)
        }
    }
}

/// A driver, as a CSINode has it.
fn entry(driver: &Registered) -> Value {
    let keys: Vec<&String> = driver.topology.keys().collect();
    let mut entry = json!({"name": driver.driver, "nodeID": driver.node});
    if !keys.is_empty() {
        entry["topologyKeys"] = json!(keys);
    }
    if let Some(most) = driver.max_volumes {
        entry["allocatable"] = json!({"count": i32::try_from(most).unwrap_or(i32::MAX)});
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_driver_is_told_with_its_place_and_its_bound() {
        let mut driver = Registered {
            driver: "d.example.com".into(),
            endpoint: "/run/d.sock".into(),
            node: "n".into(),
            max_volumes: None,
            topology: BTreeMap::new(),
        };
        assert_eq!(entry(&driver), json!({"name": "d.example.com", "nodeID": "n"}));
        driver.topology.insert("zone".into(), "a".into());
        driver.max_volumes = Some(1 << 40);
        let all = json!({"name": "d.example.com", "nodeID": "n", "topologyKeys": ["zone"], "allocatable": {"count": i32::MAX}});
        assert_eq!(entry(&driver), all);
    }
}
