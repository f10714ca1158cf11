//! What the controller does about a service, to the last request: the situations of Kubernetes' own tests of it that are no matter of
//! the plan alone, by their names there, and our own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use client::queue::{Next, Pace, Queue};
use cpi::contract::{CloudProvider, Error, LoadBalancerStatus, Node};
use serde_json::{Value, json};

use super::super::super::tests::stand::Server;
use super::super::{Controller, FINALIZER, Known, finalizers, plan};
use super::stand::{Cloud, controller, key, named, read, serving};
use super::{excluded, going, held, node, of_type, ready, tainted};

const ENSURED: &[&str] = &["EnsuringLoadBalancer", "EnsuredLoadBalancer"];
const DELETED: &[&str] = &["DeletingLoadBalancer", "DeletedLoadBalancer"];

type Row<'a> = (&'a str, Vec<(&'a str, Value)>, bool, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

/// TestSyncLoadBalancerIfNeeded. Ours: the status is emptied before the finalizer goes, and that of a service that is going not at all.
#[tokio::test]
async fn sync_load_balancer_if_needed() {
    let has = || ("status.loadBalancer", json!({"ingress": [{"ip": "8.8.8.8"}]}));
    let of = |protocol: &str| ("spec.ports", json!([{"protocol": protocol, "port": 80}]));
    let class = ("spec.loadBalancerClass", json!("custom-loadbalancer"));
    let (create, both): (&[&str], &[&str]) = (&["create web node1"], &["PATCH web", "PATCH web/status"]);
    let (gone, none) = (&["DeletedLoadBalancer"][..], &[][..]);
    let rows: [Row<'_>; 8] = [
        ("service doesn't want LB", vec![of_type("ClusterIP")], false, &["get web"], none, gone),
        ("udp service that wants LB", vec![of("UDP")], false, create, both, ENSURED),
        ("tcp service that wants LB", vec![of("TCP")], false, create, both, ENSURED),
        ("sctp service that wants LB", vec![of("SCTP")], false, create, both, ENSURED),
        ("service specifies loadBalancerClass", vec![class], false, &["get web"], none, gone),
        (
            "service with finalizer that no longer wants LB",
            vec![of_type("ClusterIP"), has(), held()],
            true,
            &["delete web", "get web"],
            &["PATCH web/status", "PATCH web"],
            DELETED,
        ),
        (
            "service that needs cleanup",
            vec![has(), held(), going()],
            true,
            &["delete web", "get web"],
            &["PATCH web"],
            DELETED,
        ),
        ("service with finalizer that wants LB", vec![held()], false, create, &["PATCH web/status"], ENSURED),
    ];
    for (name, fields, exists, calls, writes, told) in rows {
        let (server, cloud) = (serving([named("web", &fields)]), Cloud { exists, ..Cloud::default() });
        let it = controller(&server, &cloud).await;
        assert_eq!(it.look(&key("web")).await, Next::Done, "{name}");
        assert_eq!(cloud.calls(), calls, "{name}");
        assert_eq!(server.state().writes, writes, "{name}");
        assert_eq!(it.told(&server).await, told, "{name}");
        assert!(it.has_counted("service_controller_loadbalancer_sync_total 1"), "{name}");
        let is_going = fields.contains(&going());
        let left = server.service("web");
        assert_eq!(left.is_none(), is_going, "{name}");
        let Some(left) = left else { continue };
        let (finalizers, ingress) =
            (&left["metadata"]["finalizers"], &left["status"]["loadBalancer"]["ingress"]);
        if told == ENSURED {
            assert_eq!((finalizers, &ingress[0]["ip"]), (&json!([FINALIZER]), &json!("192.0.2.1")), "{name}");
        } else {
            assert!(finalizers.as_array().is_none_or(Vec::is_empty) && ingress.is_null(), "{name}: {left}");
        }
    }
}

/// Several services of these names and types.
fn services(all: &[(&str, &str)]) -> Vec<Value> {
    all.iter().map(|(name, kind)| named(name, &[of_type(kind)])).collect()
}

/// A name, services with their types, and how many are led elsewhere.
type Updated<'a> = (&'a str, &'a [(&'a str, &'a str)], usize);

/// TestUpdateNodesInExternalLoadBalancer, the round of TestNodeChangesInExternalLoadBalancer ("only 1 node" to "4 nodes").
#[tokio::test]
async fn update_nodes_in_external_load_balancer() {
    let (lb, ip, port) = ("LoadBalancer", "ClusterIP", "NodePort");
    let rows: [Updated<'_>; 6] = [
        ("No services present: no calls should be made.", &[], 0),
        (
            "Services do not have external load balancers: no calls should be made.",
            &[("s0", ip), ("s1", port)],
            0,
        ),
        ("Services does have an external load balancer: one call should be made.", &[("s0", lb)], 1),
        (
            "Three services have an external load balancer: three calls.",
            &[("s0", lb), ("s1", lb), ("s2", lb)],
            3,
        ),
        (
            "Two services have an external load balancer and two don't: two calls.",
            &[("s0", port), ("s1", lb), ("s3", lb), ("s4", ip)],
            2,
        ),
        (
            "Four services have external load balancer with only 2 workers",
            &[("s0", lb), ("s1", lb), ("s3", lb), ("s4", lb)],
            4,
        ),
    ];
    for (name, all, count) in rows {
        let cloud = Arc::new(Cloud::there());
        let server =
            Server::with(["node1", "node2", "node3"].map(|name| json!({"metadata": {"name": name}})));
        services(all).into_iter().for_each(|service| server.put_service(service));
        let it = controller(&server, &cloud).await;
        // Who wants none is no news, and is not looked at.
        let all: BTreeSet<String> = all.iter().map(|(name, _)| (*name).to_owned()).collect();
        let wanting = all.iter().filter(|name| plan::is_news(None, &it.services.get(&key(name)).unwrap()));
        let wanting: Vec<&String> = wanting.collect();
        // They were made when there was one node.
        let one = it.context.nodes.all()[..1].to_vec();
        wanting.iter().for_each(|name| it.saw(name, Some(it.led_to(&one))));
        let queue = Queue::new(Pace::default());
        let provider: Arc<dyn CloudProvider> = cloud.clone();
        it.follow_nodes(&queue, &provider);
        for name in &wanting {
            assert_eq!(it.look(&key(name)).await, Next::Done, "{name}");
        }
        let want: Vec<String> =
            wanting.iter().map(|name| format!("update {name} node1 node2 node3")).collect();
        assert_eq!((cloud.calls(), want.len()), (want, count), "{name}");
        assert_eq!(it.told(&server).await, vec!["UpdatedLoadBalancer"; count], "{name}");
        assert_eq!(server.state().writes, [""; 0], "{name}");
        let rounds = usize::from(count > 0);
        for line in [
            format!("service_controller_nodesync_latency_seconds_count {rounds}"),
            format!("service_controller_update_loadbalancer_host_latency_seconds_count {count}"),
            "service_controller_nodesync_error_total 0".to_owned(),
        ] {
            assert!(it.has_counted(&line), "{name}: {line} is not in\n{}", it.context.metrics.render());
        }
    }
}

type Changed<'a> = (&'a str, Vec<Node>, Vec<Node>, Option<&'a str>);

/// TestNodeChangesForStableNodeSetEnabled: which nodes there were, which there are, and where all three services are led then.
#[tokio::test]
async fn node_changes_for_stable_node_set() {
    let plain = |name: &str| node(name, &[]);
    let three = || vec![plain("node1"), plain("node2"), plain("node3")];
    let with = |fields: &[(&str, Value)]| vec![plain("node1"), node("node2", fields), plain("node3")];
    let led_by_two = Some("node1 node3");
    let rows: [Changed<'_>; 9] = [
        ("No node changes", three(), three(), None),
        ("1 new node gets added", three()[..2].to_vec(), three(), Some("node1 node2 node3")),
        ("1 node goes NotReady", three(), with(&[ready("False")]), None),
        ("1 node gets Tainted", three(), with(&[tainted("ToBeDeletedByClusterAutoscaler")]), led_by_two),
        ("1 node goes Ready", with(&[ready("False")]), three(), None),
        ("1 node get excluded", three(), with(&[excluded("")]), led_by_two),
        ("1 old node gets deleted", three(), three()[..2].to_vec(), Some("node1 node2")),
        ("1 node marked for deletion", three(), with(&[going()]), led_by_two),
        ("1 spurious node update", three(), with(&[tainted("Other")]), None),
    ];
    let local = [("spec.externalTrafficPolicy", json!("Local"))];
    for (name, before, now, led) in rows {
        let (server, cloud) = (Server::with(now.iter().map(|node| json!(node))), Cloud::there());
        let all = [("s0", &local[..]), ("s1", &local[..]), ("external-balancer", &[][..])];
        all.iter().for_each(|(name, fields)| server.put_service(named(name, fields)));
        let it = controller(&server, &cloud).await;
        let before: Vec<Arc<Node>> = before.into_iter().map(Arc::new).collect();
        let mut want = Vec::new();
        for (service, _) in all {
            it.saw(service, Some(it.led_to(&before)));
            assert_eq!(it.look(&key(service)).await, Next::Done, "{name}");
            want.extend(led.map(|led| format!("update {service} {led}")));
        }
        want.sort();
        assert_eq!(cloud.calls(), want, "{name}");
    }
}

/// "1 new node gets added - with retries", "error occur during sync". Ours: what could not be led is made as wanted the next time.
#[tokio::test]
async fn one_new_node_gets_added_with_retries() {
    let cloud = Cloud::there().fails(Error::Failed("error please".into()));
    let server = serving(services(&[("s0", "LoadBalancer"), ("s1", "LoadBalancer")]));
    let it = controller(&server, &cloud).await;
    for name in ["s0", "s1"] {
        it.saw(name, Some(it.led_to(&[])));
        assert_eq!(it.look(&key(name)).await, Next::Again);
        assert!(!it.is_led(name));
    }
    // Told where there is one, which it is asked for; one that is not is about to be made.
    assert_eq!(cloud.calls(), ["get s0", "get s1", "update s0 node1", "update s1 node1"]);
    assert_eq!(it.told(&server).await, ["UpdateLoadBalancerFailed"; 2]);
    assert!(it.has_counted("service_controller_nodesync_error_total 2"));
    *cloud.failure.lock().unwrap() = None;
    for name in ["s0", "s1"] {
        assert_eq!(it.look(&key(name)).await, Next::Done);
        assert!(it.is_led(name));
    }
    assert_eq!(cloud.calls(), ["create s0 node1", "create s1 node1"]);
    assert!(it.has_counted("service_controller_nodesync_error_total 2"));
}

#[tokio::test]
async fn a_load_balancer_without_nodes_is_made_and_that_is_told() {
    let (server, cloud) = (Server::default(), Cloud::default());
    server.put_service(named("web", &[]));
    let it = controller(&server, &cloud).await;
    assert_eq!(it.look(&key("web")).await, Next::Done);
    assert_eq!(cloud.calls(), ["create web"]);
    let told = ["EnsuringLoadBalancer", "UnAvailableLoadBalancer", "EnsuredLoadBalancer"];
    assert_eq!(it.told(&server).await, told);
}

/// TestProcessServiceCreateOrUpdate: "If Updating Loadbalancer IP".
#[tokio::test]
async fn process_service_create_or_update() {
    let address = |text: &str| ("spec.loadBalancerIP", json!(text));
    let (server, cloud) = (serving([named("web", &[held(), address("192.168.1.11")])]), Cloud::there());
    let it = controller(&server, &cloud).await;
    let before = read(named("web", &[held(), address("192.168.1.1")]));
    let led = Some(it.led_to(&it.context.nodes.all()));
    it.seen().services.insert(key("web"), Known { service: before, led });
    assert_eq!(it.look(&key("web")).await, Next::Done);
    assert_eq!(cloud.calls(), ["create web node1"], "made as wanted, not led to other nodes");
    let known = it.seen().services.get(&key("web")).map(|known| known.service.clone()).unwrap();
    assert_eq!(known.spec.as_ref().unwrap().load_balancer_ip.as_deref(), Some("192.168.1.11"));
    // "If updating a valid service": nothing has changed since.
    assert_eq!(it.look(&key("web")).await, Next::Done);
    assert_eq!(cloud.calls(), [""; 0]);
}

/// TestProcessServiceCreateOrUpdateK8sError.
#[tokio::test]
async fn process_service_create_or_update_k8s_error() {
    for (name, code, next, last) in [
        ("conflict error", 409, Next::Again, "SyncLoadBalancerFailed"),
        ("not found error", 404, Next::Done, "EnsuredLoadBalancer"),
    ] {
        // With the finalizer, so that it fails at the status alone.
        let (server, cloud) = (serving([named("web", &[held()])]), Cloud::default());
        server.state().refuses = Some("PATCH web/status".into());
        server.state().refuses_with = Some(code);
        let it = controller(&server, &cloud).await;
        assert_eq!(it.look(&key("web")).await, next, "{name}");
        assert_eq!(it.told(&server).await.last().map(String::as_str), Some(last), "{name}");
        assert_eq!(it.is_led("web"), next == Next::Done, "{name}");
    }
}

/// Nothing is made before the finalizer is there.
#[tokio::test]
async fn without_its_finalizer_nothing_is_made() {
    let (server, cloud) = (serving([named("web", &[])]), Cloud::default());
    server.state().refuses = Some("PATCH web".into());
    let it = controller(&server, &cloud).await;
    assert_eq!(it.look(&key("web")).await, Next::Again);
    assert_eq!(cloud.calls(), [""; 0]);
    assert_eq!(it.told(&server).await, ["EnsuringLoadBalancer", "SyncLoadBalancerFailed"]);
}

/// TestProcessServiceDeletion: services that went without a finalizer.
#[tokio::test]
async fn process_service_deletion() {
    let (server, cloud) = (serving([]), Cloud::there());
    let it = controller(&server, &cloud).await;
    assert_eq!(it.look(&key("external-balancer")).await, Next::Done);
    assert_eq!(cloud.calls(), [""; 0], "If a non-existent service is deleted");
    let known = || Known { service: read(named("external-balancer", &[])), led: None };
    it.seen().services.insert(key("external-balancer"), known());
    *cloud.failure.lock().unwrap() = Some(Error::Failed("error Deleting the Loadbalancer".into()));
    assert_eq!(it.look(&key("external-balancer")).await, Next::Again);
    let told = ["DeletingLoadBalancer", "DeleteLoadBalancerFailed"];
    assert_eq!(it.told(&server).await, told, "If cloudprovided failed to delete the service");
    assert!(it.seen().services.contains_key(&key("external-balancer")), "it is not forgotten");
    *cloud.failure.lock().unwrap() = None;
    assert_eq!(it.look(&key("external-balancer")).await, Next::Done);
    assert_eq!(it.told(&server).await, DELETED, "If delete was successful");
    assert_eq!(cloud.calls(), ["delete external-balancer"; 2]);
    assert_eq!(it.look(&key("external-balancer")).await, Next::Done);
    assert_eq!(cloud.calls(), [""; 0], "it is forgotten");
}

/// Ours: somebody takes the finalizer off while the load balancer cannot be deleted.
#[tokio::test]
async fn a_service_whose_finalizer_was_taken_by_force_while_it_went_is_cleaned_up() {
    for fields in [vec![held(), going()], vec![held(), of_type("ClusterIP")]] {
        let cloud = Cloud::there().fails(Error::Failed("throttled".into()));
        let server = serving([named("web", &fields)]);
        let it = controller(&server, &cloud).await;
        assert_eq!(it.look(&key("web")).await, Next::Again);
        assert_eq!(cloud.calls(), ["delete web", "get web"]);
        // It is gone, as far as the API knows.
        let empty = controller(&serving([]), &cloud).await;
        let it = Controller { services: empty.services, ..it };
        assert_eq!(it.look(&key("web")).await, Next::Again, "it fails still");
        *cloud.failure.lock().unwrap() = None;
        assert_eq!(it.look(&key("web")).await, Next::Done);
        assert_eq!(cloud.calls(), ["delete web"; 2]);
        assert!(it.seen().services.is_empty());
    }
}

/// Ours: the one of before went so, and another has its name.
#[tokio::test]
async fn what_the_one_before_it_has_left_goes_before_a_new_one_is_made() {
    let (server, cloud) = (serving([named("web", &[("metadata.uid", json!("new"))])]), Cloud::there());
    let it = controller(&server, &cloud).await;
    let before = read(named("web", &[held(), going()]));
    it.seen().services.insert(key("web"), Known { service: before, led: None });
    assert_eq!(it.look(&key("web")).await, Next::Done);
    assert_eq!(*cloud.calls.lock().unwrap(), ["delete web", "create web node1"]);
    assert_eq!(it.told(&server).await, [DELETED, ENSURED].concat());
}

/// A finalizer that somebody takes off while all is well is no news: the load balancer goes with the service nevertheless.
#[tokio::test]
async fn a_service_that_lost_its_finalizer_loses_its_load_balancer() {
    let (server, cloud) = (serving([named("web", &[])]), Cloud::there());
    let it = controller(&server, &cloud).await;
    it.look(&key("web")).await;
    assert_eq!(server.service("web").unwrap()["metadata"]["finalizers"], json!([FINALIZER]));
    let (with, without) = (read(named("web", &[held()])), read(named("web", &[])));
    assert!(!plan::is_news(Some(&with), &without), "nobody looks at it for that");
    let empty = controller(&serving([]), &cloud).await;
    let it = Controller { services: empty.services, ..it };
    assert_eq!(it.look(&key("web")).await, Next::Done);
    assert_eq!(cloud.calls(), ["create web node1", "delete web"]);
}

/// TestAddFinalizer, TestRemoveFinalizer, TestPatchStatus: what is so already is not written.
#[tokio::test]
async fn what_is_so_already_is_not_written() {
    let eight = || json!({"ingress": [{"ip": "8.8.8.8"}]});
    let has = || ("status.loadBalancer", eight());
    let said: LoadBalancerStatus = serde_json::from_value(eight()).unwrap();
    let none = LoadBalancerStatus::default;
    for (name, fields, status, writes) in [
        ("no-op add status", vec![has()], said.clone(), 0),
        ("add status", vec![], said.clone(), 1),
        ("no-op clear status", vec![], none(), 0),
        ("clear status", vec![has()], none(), 1),
    ] {
        let (server, cloud) = (serving([named("web", &fields)]), Cloud::default());
        let it = controller(&server, &cloud).await;
        let service = it.services.get(&key("web")).unwrap();
        it.tell(&key("web"), &service, &status).await.unwrap();
        assert_eq!(server.state().writes.len(), writes, "{name}");
        // And again, while the API server has not told of it.
        it.tell(&key("web"), &service, &status).await.unwrap();
        assert_eq!(server.state().writes.len(), writes, "{name}, again");
        let ingress = server.service("web").unwrap()["status"]["loadBalancer"]["ingress"].clone();
        let want = status.ingress.map_or(Value::Null, |all| json!(all));
        assert_eq!(ingress, want, "{name}");
    }
    for (name, fields, writes) in
        [("no-op remove finalizer", vec![], 0), ("remove finalizer", vec![held()], 1)]
    {
        let (server, cloud) = (serving([named("web", &fields)]), Cloud::default());
        let it = controller(&server, &cloud).await;
        let service = it.services.get(&key("web")).unwrap();
        let api = it.api(&key("web"));
        finalizers::remove(&api, &*service, FINALIZER, &[]).await.unwrap();
        assert_eq!(server.state().writes.len(), writes, "{name}");
    }
}

/// Ours: a process that is started again writes no status that is there, also where the API server has filled in what the provider leaves out.
#[tokio::test]
async fn what_the_api_server_fills_in_is_no_change() {
    let point = |mode: &str| json!({"ingress": [{"ip": "192.0.2.1", "ipMode": mode}]});
    for (mode, writes) in [("VIP", &[""; 0][..]), ("Proxy", &["PATCH web/status"])] {
        let fields = [held(), ("status.loadBalancer", point(mode))];
        let (server, cloud) = (serving([named("web", &fields)]), Cloud::there());
        let it = controller(&server, &cloud).await;
        assert_eq!(it.look(&key("web")).await, Next::Done, "{mode}");
        assert_eq!(cloud.calls(), ["create web node1"], "{mode}");
        assert_eq!(server.state().writes, writes, "{mode}");
    }
}

/// TestServiceQueueDelay. Ours: the same of a service that is cleaned up, and of one that is gone.
#[tokio::test]
async fn service_queue_delay() {
    let retry = Error::RetryAfter { message: "LB create in progress".into(), after: Duration::from_secs(42) };
    for (name, failure, next) in [
        ("processing successful", None, Next::Done),
        ("regular error", Some(Error::Failed("something went wrong".into())), Next::Again),
        ("retry error", Some(retry), Next::After(Duration::from_secs(42))),
    ] {
        for fields in [vec![], vec![held(), going()]] {
            let (server, cloud) = (serving([named("web", &fields)]), Cloud::there());
            *cloud.failure.lock().unwrap() = failure.clone();
            let it = controller(&server, &cloud).await;
            assert_eq!(it.look(&key("web")).await, next, "{name}");
            let empty = controller(&serving([]), &cloud).await;
            let it = Controller { services: empty.services, ..it };
            assert_eq!(it.look(&key("web")).await, next, "{name}, gone");
        }
    }
}

/// The finalizer is added and taken off, and all else is left to the other.
#[tokio::test]
async fn what_another_controller_does_is_left_to_it() {
    let elsewhere = || Cloud { is_elsewhere: true, ..Cloud::default() };
    let (server, cloud) = (serving([named("web", &[])]), elsewhere());
    let it = controller(&server, &cloud).await;
    assert_eq!(it.look(&key("web")).await, Next::Done);
    assert_eq!(
        (cloud.calls(), server.state().writes.clone()),
        (vec!["create web node1".into()], vec!["PATCH web".into()])
    );
    assert_eq!(it.told(&server).await, ["EnsuringLoadBalancer"]);
    // Other nodes are the other one's affair, too.
    it.saw("web", Some(it.led_to(&[])));
    assert_eq!((it.look(&key("web")).await, it.is_led("web")), (Next::Done, true));
    assert_eq!(cloud.calls(), ["update web node1"]);
    assert_eq!((it.told(&server).await, server.state().writes.len()), (vec![], 1));
    assert!(it.has_counted("service_controller_nodesync_error_total 0"));
    let (server, cloud) = (serving([named("web", &[held(), going()])]), elsewhere());
    let it = controller(&server, &cloud).await;
    assert_eq!(it.look(&key("web")).await, Next::Done);
    assert_eq!(cloud.calls(), ["delete web", "get web"]);
    assert_eq!(server.service("web"), None, "nothing holds it any more");
    assert_eq!(it.told(&server).await, ["DeletedLoadBalancer"]);
}
