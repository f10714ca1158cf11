//! Volumes of claims that name no class, and pods on the network of the node.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use csi::caller::registration::Offer;
use csi::contract::v1::{
    ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodePublishVolumeRequest,
    NodePublishVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
};
use csi::plugin::Services;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::storage::v1::CSIDriver;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::stands::{Answer, Named, Thread};
use super::whole::{IMAGE, client, left, make_image, told};
use super::{Machine, PATIENCE};

#[tokio::test]
async fn what_a_stateful_set_writes_outlives_down_and_up() {
    let machine = Machine::new();
    make_image(&machine);
    let said = machine.up(&["--node-name", "here"]);
    assert!(said.contains("storage class sextant takes volumes of backend "), "{said}");
    let status = machine.ask(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("storage class sextant takes"), "{status:?}");
    let client = client(&machine).await;
    let sets: Api<StatefulSet> = Api::default_namespaced(client.clone());
    sets.create(&PostParams::default(), &set()).await.unwrap();
    let before = ready(&machine, &client, "db-0").await;
    let volume = mount(&machine, &before);
    fs::write(volume.join("rows"), "of before").unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(client.clone());
    let claim = claims.get("data-db-0").await.unwrap();
    assert_eq!(claim.spec.unwrap().storage_class_name.as_deref(), Some("sextant"));

    let down = machine.ask(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert_eq!(left(&machine), [""; 0]);
    no_loops(&machine);

    machine.up(&["--node-name", "here"]);
    let after = again(&machine, &client, &before).await;
    assert_eq!(fs::read_to_string(mount(&machine, &after).join("rows")).unwrap(), "of before");

    sets.delete("db", &DeleteParams::foreground()).await.unwrap();
    claims.delete("data-db-0", &DeleteParams::default()).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let begun = Instant::now();
    while !volumes.list(&ListParams::default()).await.unwrap().items.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{}\n{}", told(&client).await, machine.all_words());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    no_loops(&machine);
}

#[tokio::test]
async fn a_pod_on_the_nodes_network_is_reached_by_others() {
    let machine = Machine::new();
    make_image(&machine);
    machine.up(&["--node-name", "here"]);
    let client = client(&machine).await;
    let node = Api::<Node>::all(client.clone()).get("here").await.unwrap();
    let addresses = node.status.unwrap().addresses.unwrap();
    let address = addresses.into_iter().find(|one| one.type_ == "InternalIP").unwrap().address;
    assert!(!address.starts_with("127."), "{address}");
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let serve = json!({"name": "web", "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["/bin/sextant-demo-app", "serve"]});
    let web = json!({"metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"hostNetwork": true, "containers": [serve], "terminationGracePeriodSeconds": 1}});
    pods.create(&PostParams::default(), &serde_json::from_value(web).unwrap()).await.unwrap();
    let service = json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    let service =
        services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    let front = format!("{}:80", service.spec.unwrap().cluster_ip.unwrap());
    let ask = json!({"name": "ask", "image": IMAGE, "imagePullPolicy": "Never",
        "command": ["/bin/sextant-demo-app", "get", front]});
    let ask =
        json!({"metadata": {"name": "ask"}, "spec": {"restartPolicy": "OnFailure", "containers": [ask]}});
    pods.create(&PostParams::default(), &serde_json::from_value(ask).unwrap()).await.unwrap();
    let begun = Instant::now();
    loop {
        let phase = pods.get("ask").await.unwrap().status.unwrap_or_default().phase;
        if phase.as_deref() == Some("Succeeded") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{}\n{}", told(&client).await, machine.all_words());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // The API server finds the agent there.
    let log = pods.logs("ask", &kube::api::LogParams::default()).await.unwrap();
    assert!(log.contains("hello "), "{log}");
}

/// A driver that lives as long as its pod, the last of the machine.
struct OfPod {
    /// Where the node's pods are.
    pods: PathBuf,
    /// How many there were when it was to take a volume back.
    seen: Mutex<Vec<usize>>,
}

const OF_POD: &str = "pod.example.com";

impl csi::contract::v1::Controller for OfPod {
    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        Ok(ControllerGetCapabilitiesResponse::default())
    }
}

impl csi::contract::v1::Node for OfPod {
    async fn node_get_info(&self, _: NodeGetInfoRequest) -> Answer<NodeGetInfoResponse> {
        Ok(NodeGetInfoResponse { node_id: "here".into(), ..Default::default() })
    }

    async fn node_get_capabilities(
        &self,
        _: NodeGetCapabilitiesRequest,
    ) -> Answer<NodeGetCapabilitiesResponse> {
        Ok(NodeGetCapabilitiesResponse::default())
    }

    async fn node_publish_volume(
        &self,
        request: NodePublishVolumeRequest,
    ) -> Answer<NodePublishVolumeResponse> {
        let _there = fs::create_dir(&request.target_path);
        Ok(NodePublishVolumeResponse {})
    }

    async fn node_unpublish_volume(
        &self,
        request: NodeUnpublishVolumeRequest,
    ) -> Answer<NodeUnpublishVolumeResponse> {
        let pods = fs::read_dir(&self.pods).unwrap().count();
        self.seen.lock().unwrap().push(pods);
        if pods == 0 {
            return Err(grpc::Status::new(grpc::Code::Unavailable, "the driver's pod is gone"));
        }
        fs::remove_dir(request.target_path).unwrap();
        Ok(NodeUnpublishVolumeResponse {})
    }
}

#[tokio::test]
async fn a_driver_that_runs_in_a_pod_goes_after_its_volumes() {
    let machine = Machine::new();
    make_image(&machine);
    machine.up(&["--node-name", "here"]);
    let client = client(&machine).await;
    let driver = Arc::new(OfPod { pods: machine.data().join("cri/pods"), seen: Mutex::default() });
    let services = Services::new().identity(Arc::new(Named(OF_POD)));
    let socket = machine.folder.path().join("driver.sock");
    let folder = machine.data().join("agent/plugins_registry");
    let offer = Offer { driver: OF_POD.into(), endpoint: socket.clone(), folder };
    let services = services.controller(driver.clone()).node(driver.clone());
    let _thread = Thread::serve(services, socket, Some(offer));
    let object = json!({"metadata": {"name": OF_POD},
        "spec": {"attachRequired": false, "volumeLifecycleModes": ["Ephemeral"]}});
    let objects: Api<CSIDriver> = Api::all(client.clone());
    objects.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for (name, volumes) in
        [("driver", json!([])), ("user", json!([{"name": "data", "csi": {"driver": OF_POD}}]))]
    {
        let mounts: Vec<Value> = volumes
            .as_array()
            .unwrap()
            .iter()
            .map(|volume| json!({"name": volume["name"], "mountPath": "/data"}))
            .collect();
        let container = json!({"name": "main", "image": IMAGE, "imagePullPolicy": "Never",
            "command": ["/bin/sextant-demo-app", "serve"], "volumeMounts": mounts});
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [container], "volumes": volumes,
            "terminationGracePeriodSeconds": 1}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        ready(&machine, &client, name).await;
    }
    let down = machine.ask(&["down"]);
    assert!(down.status.success(), "{down:?}");
    assert_eq!(*driver.seen.lock().unwrap(), [1], "the driver's pod, and no other");
    assert_eq!(left(&machine), [""; 0]);
}

fn set() -> StatefulSet {
    let container = json!({
        "name": "db", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/sextant-demo-app", "serve"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    });
    let template = json!({"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
    let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "32Mi"}}}});
    let spec = json!({"replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
        "template": template, "volumeClaimTemplates": [claim]});
    serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": spec})).unwrap()
}

fn is_ready(pod: &Pod) -> bool {
    let status: Value = json!(pod.status);
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

async fn ready(machine: &Machine, client: &Client, name: &str) -> Pod {
    look(machine, client, name, is_ready).await
}

/// The pod that has come in the place of one, or runs again.
async fn again(machine: &Machine, client: &Client, before: &Pod) -> Pod {
    let id = |pod: &Pod| json!(pod.status)["containerStatuses"][0]["containerID"].clone();
    look(machine, client, "db-0", |pod| is_ready(pod) && id(pod) != id(before)).await
}

async fn look(machine: &Machine, client: &Client, name: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let begun = Instant::now();
    loop {
        if let Ok(Some(pod)) = pods.get_opt(name).await
            && holds(&pod)
        {
            return pod;
        }
        if begun.elapsed() > PATIENCE {
            panic!("{name} does not come\n{}\n{}", told(client).await, machine.all_words());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Where the pod's volume is on the node.
fn mount(machine: &Machine, pod: &Pod) -> PathBuf {
    let uid = pod.metadata.uid.as_deref().unwrap();
    let volumes = machine.data().join("agent/pods").join(uid).join("volumes/kubernetes.io~csi");
    fs::read_dir(volumes).unwrap().next().unwrap().unwrap().path().join("mount")
}

/// A device goes with the last who has it open: drivers of other tests look at all of them.
fn no_loops(machine: &Machine) {
    let begun = Instant::now();
    while !loops(machine).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", loops(machine));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Files of the machine that loop devices have.
fn loops(machine: &Machine) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let files = devices.filter_map(|one| fs::read_to_string(one.path().join("loop/backing_file")).ok());
    let folder = machine.folder.path().display().to_string();
    files.filter(|file| file.contains(&folder)).collect()
}
