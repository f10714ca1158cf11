use cpi::contract::{CloudProvider, Error};
use testkit::proxy::Fault;

use crate::rig::{CLUSTER, Rig, node, nodes, until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn a_node_is_initialised_stopped_and_gone() {
    let rig = Rig::new();
    let instances = rig.provider.instances().unwrap();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let ran = rig.run(2);
    let (id, name) = &ran[0];
    // By its name, as a kubelet registers it.
    let new = node(name, None, 5);
    let metadata = instances.instance_metadata(&new).await.unwrap().unwrap();
    assert_eq!(metadata.provider_id, format!("aws:///us-east-1a/{id}"));
    assert_eq!(
        (metadata.instance_type.as_str(), metadata.zone.as_str(), metadata.region.as_str()),
        ("m5.large", "us-east-1a", "us-east-1")
    );
    let has =
        |kind: &str| metadata.node_addresses.iter().any(|one| one.type_ == kind && !one.address.is_empty());
    assert!(has("InternalIP") && has("InternalDNS") && has("Hostname"), "{:?}", metadata.node_addresses);
    // By its instance's id for a name.
    let by_id = instances.instance_metadata(&node(id, None, 5)).await.unwrap().unwrap();
    assert_eq!(by_id.provider_id, metadata.provider_id);
    // By its provider id, whatever it is called.
    let known = node("other", Some(&metadata.provider_id), 3600);
    assert_eq!(instances.instance_exists(&known).await, Ok(true));
    assert_eq!(instances.instance_shutdown(&known).await, Ok(false));

    rig.ec2(&format!("Action=StopInstances&InstanceId.1={id}"));
    until("it is stopped", async || instances.instance_shutdown(&known).await == Ok(true)).await;
    assert_eq!(instances.instance_exists(&known).await, Ok(true), "what is stopped is there");

    rig.terminate(id);
    until("it is gone", async || instances.instance_exists(&known).await == Ok(false)).await;
    assert_eq!(instances.instance_metadata(&known).await, Err(Error::InstanceNotFound));
    let other = nodes(&ran[1..]);
    assert_eq!(instances.instance_exists(&other[0]).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn what_ec2_does_not_know_yet_is_not_gone() {
    let rig = Rig::new();
    let instances = rig.provider.instances().unwrap();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let id = "aws:///us-east-1a/i-0123456789abcdef0";
    let error = instances.instance_exists(&node("a", Some(id), 10)).await.unwrap_err();
    assert!(error.to_string().contains("may not know it yet"), "{error}");
    assert_eq!(instances.instance_exists(&node("b", Some(id), 3600)).await, Ok(false));
    // One that is there, but is not told of: neither by a filter nor by its id.
    let ran = rig.run(1);
    let id = format!("aws:///us-east-1a/{}", ran[0].0);
    let none = "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>";
    rig.proxy.fail("DescribeInstances", 1, Fault::Refused(200, none.into()));
    rig.proxy.fail("DescribeInstances", 1, Fault::code(400, "InvalidInstanceID.NotFound"));
    let young = node("c", Some(&id), 10);
    assert!(instances.instance_exists(&young).await.is_err());
    assert_eq!(rig.proxy.heal(), 0, "both answers were believed");
    until("it is told of", async || instances.instance_exists(&young).await == Ok(true)).await;
    // No node has a name that no instance has, and none is deleted for that.
    let nobody = node("nobody.ec2.internal", None, 3600);
    let error = instances.instance_exists(&nobody).await.unwrap_err();
    assert!(error.to_string().contains("no instance has this private DNS name"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn many_nodes_cost_few_calls() {
    let rig = Rig::new();
    let instances = rig.provider.instances().unwrap();
    let ran = rig.run(60);
    rig.provider.initialize(CLUSTER).await.unwrap();
    let nodes = nodes(&ran);
    let before = rig.proxy.count("DescribeInstances");
    for node in &nodes {
        assert_eq!(instances.instance_exists(node).await, Ok(true));
        assert_eq!(instances.instance_shutdown(node).await, Ok(false));
    }
    let calls = rig.proxy.count("DescribeInstances") - before;
    // One by one they would be 120; how many rounds of three seconds this takes is the machine's affair.
    assert!(calls <= 30, "{calls} calls for {} nodes", nodes.len());
    let before = rig.proxy.count("DescribeInstances");
    let all = nodes.iter().map(|node| instances.instance_metadata(node));
    assert!(futures_util::future::join_all(all).await.iter().all(|one| matches!(one, Ok(Some(_)))));
    assert!(rig.proxy.count("DescribeInstances") - before <= 3);
}
