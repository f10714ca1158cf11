//! Machines behind nodes: by the inventory, or where there is none, each node's own words.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cpi::contract::{Answer, Error, InstanceMetadata, Instances, Node, NodeAddress, ProviderId};

use crate::config::Instance;
use crate::file::SETTLED;
use crate::{Metal, NAME, machine};

/// The addresses that a kubelet was told to have, with commas between.
const GIVEN: &str = "alpha.kubernetes.io/provided-node-ip";

/// What a node is, by the inventory.
enum Found<'a> {
    /// This machine.
    Machine(&'a Instance),
    /// It was in an inventory, as its id tells, and is not in this one.
    Gone,
    /// It was never in one.
    Unknown,
}

fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// What a node is called by its provider, if it is one of ours; nothing, if it has no provider yet.
fn id(node: &Node) -> Result<Option<String>, Error> {
    let text = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let id = text.parse::<ProviderId>().map_err(Error::of)?;
    match id.of(NAME) {
        Some(id) => Ok(Some(id.to_owned())),
        None => Err(Error::Failed(format!(
            "cannot tell about node {}: it has provider id {text:?}, which is not of provider {NAME}",
            name(node)
        ))),
    }
}

fn find<'a>(all: &'a [Instance], node: &Node) -> Result<Found<'a>, Error> {
    let named = all.iter().find(|one| one.name == name(node));
    let Some(id) = id(node)? else { return Ok(named.map_or(Found::Unknown, Found::Machine)) };
    if let Some(machine) = all.iter().find(|one| one.id == id) {
        return Ok(Found::Machine(machine));
    }
    match named {
        // Its id was changed in the file: that it is gone cannot be meant.
        Some(other) => Err(Error::Failed(format!(
            "cannot tell about node {}: it has id {id:?}, and the inventory says {:?}; ids of nodes never change: \
             write that of the node, or delete the node",
            name(node),
            other.id
        ))),
        None => Ok(Found::Gone),
    }
}

fn by_inventory(machine: &Instance) -> InstanceMetadata {
    InstanceMetadata {
        provider_id: format!("{NAME}://{}", machine.id),
        instance_type: machine.kind.clone(),
        node_addresses: machine.addresses.clone(),
        zone: machine.zone.clone(),
        region: machine.region.clone(),
        additional_labels: machine.labels.clone(),
    }
}

/// The addresses that a node has, or was told to have.
fn addresses(node: &Node) -> Vec<NodeAddress> {
    let mut all: Vec<NodeAddress> =
        node.status.iter().flat_map(|status| status.addresses.iter().flatten()).cloned().collect();
    let given = node.metadata.annotations.as_ref().and_then(|all| all.get(GIVEN));
    for address in given.into_iter().flat_map(|text| text.split(',')) {
        let Ok(address) = address.trim().parse::<IpAddr>() else { continue };
        let is_there = all.iter().any(|one| one.address.parse() == Ok(address));
        if !is_there {
            all.push(internal(address));
        }
    }
    all
}

fn internal(address: IpAddr) -> NodeAddress {
    NodeAddress { type_: "InternalIP".into(), address: address.to_string() }
}

impl Metal {
    /// What a node says of itself, and, of one on this machine, what the machine says.
    fn by_itself(&self, node: &Node) -> Result<InstanceMetadata, Error> {
        // An id of an inventory that was there once stays.
        let id = id(node)?.unwrap_or_else(|| name(node).to_owned());
        let boot = node
            .status
            .as_ref()
            .and_then(|status| status.node_info.as_ref())
            .map(|info| info.boot_id.as_str());
        let is_here = boot.is_some_and(|boot| self.machine.has_booted(boot));
        let mut node_addresses = addresses(node);
        if node_addresses.is_empty() && is_here {
            node_addresses = machine::own_addresses().into_iter().map(internal).collect();
        }
        Ok(InstanceMetadata {
            provider_id: format!("{NAME}://{id}"),
            instance_type: if is_here { self.machine.kind() } else { String::new() },
            node_addresses,
            zone: String::new(),
            region: String::new(),
            additional_labels: BTreeMap::new(),
        })
    }
}

impl Instances for Metal {
    fn instance_exists<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        Box::pin(async move {
            let config = self.config();
            let Some(all) = &config.instances else { return id(node).map(|_| true) };
            match find(all, node)? {
                Found::Machine(_) => Ok(true),
                // Its node would be deleted at once, by what may be half of a file.
                Found::Gone if !self.live.is_settled() => Err(Error::Failed(format!(
                    "cannot tell whether the machine of node {} is there: {}, which does not have it, may still be being written, or \
                     is not in use as it is; its node is deleted once the file is right and was left unchanged for {} s",
                    name(node),
                    self.live.path(),
                    SETTLED.as_secs()
                ))),
                Found::Gone => Ok(false),
                Found::Unknown => Err(Error::Failed(format!(
                    "cannot tell whether the machine of node {} is there: the inventory never had it; add it to instances, or delete the node",
                    name(node)
                ))),
            }
        })
    }

    fn instance_shutdown<'a>(&'a self, node: &'a Node) -> Answer<'a, bool> {
        Box::pin(async move {
            let config = self.config();
            // Without an inventory nobody can know.
            let Some(all) = &config.instances else { return Err(Error::NotImplemented) };
            match find(all, node)? {
                Found::Machine(machine) => Ok(machine.shutdown),
                Found::Gone | Found::Unknown => Err(Error::InstanceNotFound),
            }
        })
    }

    fn instance_metadata<'a>(&'a self, node: &'a Node) -> Answer<'a, Option<InstanceMetadata>> {
        Box::pin(async move {
            let config = self.config();
            let Some(all) = &config.instances else { return self.by_itself(node).map(Some) };
            match find(all, node)? {
                Found::Machine(machine) => Ok(Some(by_inventory(machine))),
                Found::Gone => Err(Error::InstanceNotFound),
                Found::Unknown => Err(Error::Failed(format!(
                    "the inventory does not have node {}; add it to instances",
                    name(node)
                ))),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use cpi::contract::CloudProvider as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::machine::Machine;

    const HOUR: Duration = Duration::from_secs(3600);

    const INVENTORY: &str = "instances:
- {name: node-1, id: rack/1, type: r640, zone: z, region: r, labels: {a.example/b: c}, addresses: [{type: InternalIP, address: 10.0.0.1}]}
- {name: node-2, shutdown: true}
";

    fn node(name: &str, id: &str, more: Value) -> Node {
        let mut whole = json!({"metadata": {"name": name}, "spec": {"providerID": id}});
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    fn plain(name: &str, id: &str) -> Node {
        node(name, id, json!({}))
    }

    /// Writes into the file, as at this time.
    fn write(dir: &tempfile::TempDir, text: &str, at: SystemTime) {
        let path = dir.path().join("metal.yaml");
        std::fs::write(&path, text).unwrap();
        std::fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
    }

    fn metal(text: Option<&str>) -> (Metal, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metal.yaml");
        if let Some(text) = text {
            write(&dir, text, SystemTime::now() - HOUR);
        }
        let mut metal = Metal::open(text.map(|_| path.as_path())).unwrap();
        std::fs::write(dir.path().join("product_name"), "R640").unwrap();
        metal.machine = Machine::of(dir.path(), "boot-1");
        if text.is_some() {
            metal.live.settle();
        }
        (metal, dir)
    }

    #[tokio::test]
    async fn machines_are_those_of_the_inventory() {
        let (metal, dir) = metal(Some(INVENTORY));
        for (node, exists) in [
            (plain("node-1", ""), Ok(true)),
            (plain("node-1", "metal://rack/1"), Ok(true)),
            (plain("renamed", "metal://rack/1"), Ok(true)),
            (plain("node-2", "metal://node-2"), Ok(true)),
            (plain("node-9", "metal://node-9"), Ok(false)),
            (plain("node-9", ""), Err("never had it")),
            (plain("node-1", "metal://node-1"), Err("ids of nodes never change")),
            (plain("node-1", "aws:///z/i-1"), Err("not of provider metal")),
        ] {
            let answer = metal.instance_exists(&node).await;
            match (&answer, exists) {
                (Ok(is), Ok(exists)) => assert_eq!(*is, exists, "{node:?}"),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                _ => panic!("{node:?}: {answer:?}"),
            }
        }
        assert_eq!(metal.instance_shutdown(&plain("node-1", "")).await, Ok(false));
        assert_eq!(metal.instance_shutdown(&plain("node-2", "")).await, Ok(true));
        assert_eq!(metal.instance_shutdown(&plain("node-9", "")).await, Err(Error::InstanceNotFound));
        let known = metal.instance_metadata(&plain("node-1", "")).await.unwrap().unwrap();
        assert_eq!((known.provider_id.as_str(), known.instance_type.as_str()), ("metal://rack/1", "r640"));
        assert_eq!(
            (known.zone.as_str(), known.region.as_str(), known.additional_labels["a.example/b"].as_str()),
            ("z", "r", "c")
        );
        assert_eq!(known.node_addresses[0].address, "10.0.0.1");
        let words = metal.instance_metadata(&plain("node-9", "")).await.unwrap_err().to_string();
        assert_eq!(words, "the inventory does not have node node-9; add it to instances");
        assert_eq!(
            metal.instance_metadata(&plain("node-9", "metal://9")).await,
            Err(Error::InstanceNotFound)
        );
        // It is plugged in, and another is thrown away.
        let new = "instances: [{name: node-9}, {name: node-1, id: rack/1}]";
        let gone = plain("node-2", "metal://node-2");
        // Half written, as far as can be told: its time is never past.
        write(&dir, new, SystemTime::now() + HOUR);
        assert!(metal.instance_metadata(&plain("node-9", "")).await.is_err());
        // Again: it is another than was seen before, however long ago that was.
        write(&dir, new, SystemTime::now() + HOUR);
        assert_eq!(metal.instance_exists(&gone).await, Ok(true));
        write(&dir, new, SystemTime::now() - HOUR);
        assert!(metal.instance_metadata(&plain("node-9", "")).await.unwrap().is_some());
        // It is old by its own time, and was seen a moment ago.
        let words = metal.instance_exists(&gone).await.unwrap_err().to_string();
        assert!(words.contains("was left unchanged for 30 s"), "{words}");
        metal.live.settle();
        assert_eq!(metal.instance_exists(&gone).await, Ok(false));
        // Somebody writes there again: whoever is gone by what was there before is not deleted meanwhile.
        write(&dir, INVENTORY, SystemTime::now() + HOUR);
        let words = metal.instance_exists(&gone).await.unwrap_err().to_string();
        assert!(
            words.contains("machine of node node-2 is there: ")
                && words.contains("may still be being written"),
            "{words}"
        );
        // A mistake deletes nobody.
        write(&dir, "instances: []", SystemTime::now() - HOUR);
        assert_eq!(metal.instance_exists(&plain("node-1", "metal://rack/1")).await, Ok(true));
        assert!(metal.instance_exists(&gone).await.is_err());
        assert!(metal.trouble().unwrap().contains("is an inventory of no machine"), "{:?}", metal.trouble());
        write(&dir, new, SystemTime::now() - HOUR);
        assert!(metal.instance_exists(&gone).await.is_err());
        metal.live.settle();
        assert_eq!((metal.instance_exists(&gone).await, metal.trouble()), (Ok(false), None));
    }

    #[tokio::test]
    async fn without_an_inventory_nodes_are_machines() {
        let (metal, _dir) = metal(None);
        assert_eq!(metal.instance_exists(&plain("node-1", "metal://node-1")).await, Ok(true));
        assert_eq!(metal.instance_exists(&plain("node-1", "")).await, Ok(true));
        assert!(metal.instance_exists(&plain("node-1", "aws:///z/i-1")).await.is_err());
        assert_eq!(metal.instance_shutdown(&plain("node-1", "")).await, Err(Error::NotImplemented));
        let told =
            json!([{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n"}]);
        let known =
            metal.instance_metadata(&node("node-1", "", json!({"status": {"addresses": told}}))).await;
        let known = known.unwrap().unwrap();
        assert_eq!((known.provider_id.as_str(), known.instance_type.as_str()), ("metal://node-1", ""));
        assert_eq!(serde_json::to_value(&known.node_addresses).unwrap(), told, "they stay as they are");
        let annotated = json!({"metadata": {"name": "n", "annotations": {GIVEN: "10.0.0.7,fd00::7"}}});
        let known = metal.instance_metadata(&node("n", "metal://other", annotated)).await.unwrap().unwrap();
        assert_eq!((known.provider_id.as_str(), known.node_addresses.len()), ("metal://other", 2));
        let info = |boot: &str| {
            json!({"status": {"nodeInfo": {"bootID": boot, "architecture": "", "containerRuntimeVersion": "", "kernelVersion": "",
            "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "", "osImage": "", "systemUUID": ""}}})
        };
        let here = metal.instance_metadata(&node("n", "", info("boot-1"))).await.unwrap().unwrap();
        assert_eq!(here.instance_type, "R640");
        let there = metal.instance_metadata(&node("n", "", info("boot-2"))).await.unwrap().unwrap();
        assert_eq!((there.instance_type.as_str(), there.node_addresses.len()), ("", 0));
    }
}
