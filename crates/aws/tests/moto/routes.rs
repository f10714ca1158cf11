use cpi::contract::{CloudProvider, Error, Route};

use crate::rig::{CLUSTER, MARK, Rig, all, nodes};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn routes_are_made_drift_and_go() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let routes = rig.provider.routes().unwrap();
    let error = routes.list_routes(CLUSTER).await.unwrap_err().to_string();
    assert!(error.contains("give one tag kubernetes.io/cluster/shop"), "{error}");
    let table = rig.made(&format!("Action=CreateRouteTable&VpcId={}", rig.vpc), "routeTableId");
    rig.ec2(&format!("Action=CreateTags&ResourceId.1={table}&Tag.1.Key={MARK}&Tag.1.Value=owned"));
    let gateway = rig.made("Action=CreateInternetGateway", "internetGatewayId");
    rig.ec2(&format!("Action=AttachInternetGateway&InternetGatewayId={gateway}&VpcId={}", rig.vpc));
    rig.ec2(&format!(
        "Action=CreateRoute&RouteTableId={table}&DestinationCidrBlock=0.0.0.0/0&GatewayId={gateway}"
    ));
    assert_eq!(routes.list_routes(CLUSTER).await, Ok(vec![]), "others' routes are not listed");

    let ran = rig.run(2);
    let instances = rig.provider.instances().unwrap();
    for node in &nodes(&ran) {
        instances.instance_metadata(node).await.unwrap();
    }
    let to = |node: usize, cidr: &str| Route {
        target_node: ran[node].1.clone(),
        destination_cidr: cidr.into(),
        ..Route::default()
    };
    let (one, two) = (to(0, "10.64.0.0/24"), to(1, "10.64.1.0/24"));
    routes.create_route(CLUSTER, "u-1", &one).await.unwrap();
    routes.create_route(CLUSTER, "u-2", &two).await.unwrap();
    // As after a lost answer.
    routes.create_route(CLUSTER, "u-1", &one).await.unwrap();
    let told = rig
        .ec2(&format!("Action=DescribeInstanceAttribute&InstanceId={}&Attribute=sourceDestCheck", ran[0].0));
    assert_eq!(all(&told, "value"), ["false"], "{told}");
    let listed = async || {
        let all = routes.list_routes(CLUSTER).await.unwrap();
        let mut all: Vec<_> =
            all.into_iter().map(|one| (one.destination_cidr, one.target_node, one.blackhole)).collect();
        all.sort();
        all
    };
    let want = |node: usize, cidr: &str| (cidr.to_owned(), ran[node].1.clone(), false);
    assert_eq!(listed().await, [want(0, "10.64.0.0/24"), want(1, "10.64.1.0/24")]);
    // One that was never asked about, and has a name of its own, is listed as who the route was made for.
    let late = rig.run(1);
    let to_late =
        Route { target_node: late[0].0.clone(), destination_cidr: "10.64.2.0/24".into(), ..Route::default() };
    routes.create_route(CLUSTER, "u-3", &to_late).await.unwrap();
    assert_eq!(listed().await[2], ("10.64.2.0/24".into(), late[0].0.clone(), false));
    routes.delete_route(CLUSTER, &to_late).await.unwrap();
    // Another node's range is in the way.
    let taken = routes.create_route(CLUSTER, "u-2", &to(1, "10.64.0.0/24")).await;
    assert!(matches!(&taken, Err(Error::AlreadyExists(why)) if why.contains("10.64.0.0/24")), "{taken:?}");
    // Somebody leads it elsewhere: it is listed so, taken away, and made again.
    rig.ec2(&format!(
        "Action=ReplaceRoute&RouteTableId={table}&DestinationCidrBlock=10.64.0.0/24&InstanceId={}",
        ran[1].0
    ));
    assert_eq!(listed().await[0], want(1, "10.64.0.0/24"));
    let drifted = routes.list_routes(CLUSTER).await.unwrap();
    let drifted = drifted.iter().find(|one| one.destination_cidr == "10.64.0.0/24").unwrap();
    routes.delete_route(CLUSTER, drifted).await.unwrap();
    routes.delete_route(CLUSTER, drifted).await.unwrap();
    routes.create_route(CLUSTER, "u-1", &one).await.unwrap();
    assert_eq!(listed().await, [want(0, "10.64.0.0/24"), want(1, "10.64.1.0/24")]);
    // Its instance goes: the route leads nowhere.
    rig.terminate(&ran[0].0);
    crate::rig::until("it is a blackhole", async || {
        routes.list_routes(CLUSTER).await.is_ok_and(|all| {
            all.iter().any(|one| one.destination_cidr == "10.64.0.0/24" && one.blackhole)
                || all.iter().all(|one| one.destination_cidr != "10.64.0.0/24")
        })
    })
    .await;
}
