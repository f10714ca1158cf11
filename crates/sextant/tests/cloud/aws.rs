//! `--cloud-provider aws` before moto, which is EC2 and Elastic Load Balancing in memory: `cargo xtask test --ring interop` fetches it,
//! and names its folder in `SEXTANT_TEST_MOTO_LIBRARY`. `SEXTANT_CLOUD_KILLS=100` for more of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use cpi::contract::{Node, Service, load_balancer_name};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use testkit::moto::{self, MARK, Server, all};

use crate::admit::admit;
use crate::kills::chance;
use crate::rig::{PATIENCE, Rig};
use crate::site::{
    NEW, change, event, expose, has_taint, node_is, nodes, nothing_was_forbidden, say_ready, service_is,
    withdraw,
};

/// So many services there may be.
const MANY: u64 = 4;
/// So many nodes there are.
const NODES: usize = 3;

/// Programs of the rig find AWS there.
pub(crate) fn point_to(rig: &mut Rig, server: SocketAddr) {
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "hush-hush"),
        ("AWS_ENDPOINT_URL", &format!("http://{server}")),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ] {
        rig.env(name, value);
    }
}

/// Something that a user does.
async fn act(rig: &Rig, chance: &mut impl FnMut() -> u64) {
    let name = format!("web-{}", chance() % MANY);
    let services = rig.objects_of::<Service>("");
    let Some(there) = services.get_opt(&name).await.unwrap() else {
        expose(rig, &name).await;
        return;
    };
    if there.metadata.deletion_timestamp.is_some() {
        return;
    }
    let port = json!({"name": "more", "port": 8000 + chance() % 3, "protocol": "TCP"});
    match chance() % 4 {
        0 => withdraw(rig, &name).await,
        1 => change(rig, &name, json!({"spec": {"type": "ClusterIP"}})).await,
        2 => change(rig, &name, json!({"spec": {"type": "LoadBalancer"}})).await,
        _ => {
            let ports = json!([{"name": "web", "port": 80, "protocol": "TCP"}, port]);
            change(rig, &name, json!({"spec": {"ports": ports}})).await;
        }
    }
}

/// What moto has that services do not ask for, and what they ask for that it has not; nothing, once all is as it is wanted.
async fn unwanted(rig: &Rig, aws: &Server, instances: &[(String, String)]) -> Vec<String> {
    let (mut names, mut targets, mut rules, mut wrong) =
        (BTreeSet::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut groups, mut listeners) = (0, Vec::new());
    for service in rig.objects_of::<Service>("").list(&ListParams::default()).await.unwrap() {
        let value = serde_json::to_value(&service).unwrap();
        let wants = value["spec"]["type"] == "LoadBalancer";
        let is_told = value["status"]["loadBalancer"]["ingress"][0]["hostname"].is_string();
        if value["metadata"]["deletionTimestamp"].is_string() || wants != is_told {
            wrong.push(format!("{} is not as wanted: {value}", service.name_any()));
        }
        if !wants {
            continue;
        }
        names.insert(load_balancer_name(&service));
        for port in value["spec"]["ports"].as_array().unwrap() {
            groups += 1;
            listeners.push(port["port"].to_string());
            let port = &port["nodePort"];
            targets.extend(instances.iter().map(|(id, _)| format!("{id}:{port}")));
            rules.extend([format!("{port} 0.0.0.0/0 client"), format!("{port} 10.0.1.0/24 health")]);
        }
    }
    targets.sort();
    rules.sort();
    listeners.sort();
    let has: BTreeSet<String> = aws.balancers().into_iter().collect();
    // The controllers delete load balancers and target groups meanwhile, also between their list and what is asked of each.
    let (Some(ports), Some(leads)) = (aws.ask_ports(), aws.ask_targets()) else {
        wrong.push("load balancers or target groups are changing".into());
        return wrong;
    };
    let mut compare = |what: &str, has: String, wanted: String| {
        if has != wanted {
            wrong.push(format!("{what} are {has}, and not {wanted}"));
        }
    };
    compare("load balancers", format!("{has:?}"), format!("{names:?}"));
    compare("target groups", aws.groups().len().to_string(), groups.to_string());
    compare("listeners", format!("{ports:?}"), format!("{listeners:?}"));
    compare("targets", format!("{leads:?}"), format!("{targets:?}"));
    compare("rules", format!("{:?}", aws.rules()), format!("{rules:?}"));
    wrong
}

async fn becomes_as_wanted(rig: &Rig, aws: &Server, instances: &[(String, String)]) {
    let done = rig
        .until("all is as wanted", async |rig| unwanted(rig, aws, instances).await.is_empty().then_some(()));
    if tokio::time::timeout(PATIENCE / 10 * 9, done).await.is_err() {
        panic!("{:#?}\n{}", unwanted(rig, aws, instances).await, rig.words("control"));
    }
}

#[tokio::test]
#[ignore = "needs moto: cargo xtask test --ring interop fetches it"]
async fn whenever_the_controllers_are_killed_aws_has_what_services_ask_for_and_no_more() {
    let kills: u64 = std::env::var("SEXTANT_CLOUD_KILLS").map_or(20, |text| text.parse().expect("a number"));
    let mut rig = Rig::bare().await;
    admit(&rig).await;
    let libraries =
        std::env::var("SEXTANT_TEST_MOTO_LIBRARY").expect("SEXTANT_TEST_MOTO_LIBRARY names moto's folder");
    let (_moto, address) = moto::start(Path::new(&libraries), &rig.path("moto.words")).unwrap();
    let aws = Server::furnish(address);
    let table = aws.made(&format!("Action=CreateRouteTable&VpcId={}", aws.vpc), "routeTableId");
    aws.ec2(&format!("Action=CreateTags&ResourceId.1={table}&Tag.1.Key={MARK}&Tag.1.Value=owned"));
    let instances = aws.run(NODES);
    for (_, name) in &instances {
        let taint = json!({"key": NEW, "value": "true", "effect": "NoSchedule"});
        rig.make::<Node>(json!({"metadata": {"name": name}, "spec": {"taints": [taint]}})).await;
        say_ready(&rig, name, "True").await;
    }
    point_to(&mut rig, address);
    let (kubeconfig, config) = (rig.path("kubeconfig"), rig.path("aws.conf"));
    std::fs::write(&config, "[Global]\nRegion = us-east-1\nKubernetesClusterID = shop\n").unwrap();
    let options = "--cloud-provider aws --cluster-cidr 10.64.0.0/21 --allocate-node-cidrs --concurrent-service-syncs 2 \
                   --node-monitor-period 200ms --route-reconciliation-period 1s --kubeconfig";
    let words: Vec<&str> = options.split_whitespace().chain([kubeconfig.to_str().unwrap()]).collect();
    rig.control(&[&words[..], &["--cloud-config", config.to_str().unwrap()]].concat());
    for (id, name) in &instances {
        let node = node_is(&rig, name, "initialized", |node| !has_taint(node, NEW)).await;
        assert_eq!(node["spec"]["providerID"], format!("aws:///us-east-1a/{id}"));
    }
    expose(&rig, "web-0").await;
    service_is(&rig, "web-0", "reachable", |web| {
        web["status"]["loadBalancer"]["ingress"][0]["hostname"]
            .as_str()
            .is_some_and(|host| host.contains("elb"))
    })
    .await;
    event(&rig, "web-0", "EnsuredLoadBalancer", "Ensured load balancer").await;
    becomes_as_wanted(&rig, &aws, &instances).await;

    let mut chance = chance();
    for _ in 0..kills {
        for _ in 0..chance() % 4 + 1 {
            act(&rig, &mut chance).await;
            tokio::time::sleep(Duration::from_millis(chance() % 200)).await;
        }
        tokio::time::sleep(Duration::from_millis(chance() % 1500)).await;
        rig.kill("control");
        // What happens while nobody looks.
        for _ in 0..chance() % 3 {
            act(&rig, &mut chance).await;
        }
        rig.again("control");
    }
    becomes_as_wanted(&rig, &aws, &instances).await;
    // Each node has a route to its pods, and no range has two.
    rig.until("each node is routed to", async |_| {
        let told = aws.ec2(&format!("Action=DescribeRouteTables&RouteTableId.1={table}"));
        let mut routed = Vec::new();
        for node in nodes(&rig).list(&ListParams::default()).await.ok()? {
            let value: Value = serde_json::to_value(&node).unwrap();
            routed.extend(value["spec"]["podCIDR"].as_str().map(str::to_owned));
        }
        let mut led: Vec<String> =
            all(&told, "destinationCidrBlock").into_iter().filter(|to| to.starts_with("10.64.")).collect();
        led.sort();
        routed.sort();
        (routed.len() == NODES && led == routed).then_some(())
    })
    .await;
    // All go, and leave nothing.
    let services = rig.objects_of::<Service>("");
    for service in services.list(&ListParams::default()).await.unwrap() {
        drop(services.delete(&service.name_any(), &DeleteParams::default()).await);
    }
    becomes_as_wanted(&rig, &aws, &instances).await;
    aws.has_nothing();
    assert!(!rig.words("control").contains("hush"), "{}", rig.words("control"));
    nothing_was_forbidden(&rig);
}
