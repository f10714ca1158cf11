use cpi::caller::check::{self, Subject, Verdict};
use cpi::contract::{CloudProvider, Error};
use serde_json::json;
use testkit::proxy::Fault;

use crate::rig::{CLUSTER, MARK, Rig, all, node, nodes, service};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn a_service_is_made_changed_and_taken_away() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let balancers = rig.provider.load_balancers().unwrap();
    let ran = rig.run(3);
    let (web, two) = (service(&[(80, 30080), (443, 30443)], &json!({})), nodes(&ran[..2]));
    assert_eq!(balancers.get_load_balancer(CLUSTER, &web).await, Ok(None));
    let status = rig.ensure(&web, &two).await.unwrap();
    let host = status.ingress.as_ref().unwrap()[0].hostname.clone().unwrap();
    assert!(host.contains("elb"), "{host}");
    assert_eq!(balancers.get_load_balancer(CLUSTER, &web).await, Ok(Some(status.clone())));
    assert_eq!((rig.balancers().len(), rig.groups().len()), (1, 2));
    assert_eq!(rig.listeners(), ["443", "80"]);
    let led = |which: &[&(String, String)], ports: &[u16]| {
        let mut all: Vec<String> =
            which.iter().flat_map(|(id, _)| ports.iter().map(move |port| format!("{id}:{port}"))).collect();
        all.sort();
        all
    };
    assert_eq!(rig.targets(), led(&[&ran[0], &ran[1]], &[30080, 30443]));
    let open = [
        "30080 0.0.0.0/0 client",
        "30080 10.0.1.0/24 health",
        "30443 0.0.0.0/0 client",
        "30443 10.0.1.0/24 health",
    ];
    assert_eq!(rig.rules(), open);
    let arn = all(&rig.elb("Action=DescribeLoadBalancers"), "LoadBalancerArn").remove(0);
    let told = rig.elb(&format!("Action=DescribeTags&ResourceArns.member.1={arn}"));
    assert!(told.contains(MARK) && told.contains("default/web"), "{told}");

    // Again: nothing is made, and nothing changed.
    let made = ["Create", "Modify", "Register", "Deregister", "Delete", "Add", "Set", "Authorize", "Revoke"];
    let names = [
        "LoadBalancer",
        "LoadBalancerAttributes",
        "TargetGroup",
        "TargetGroupAttributes",
        "Targets",
        "Listener",
        "Tags",
        "Subnets",
        "IpAddressType",
        "SecurityGroupIngress",
    ];
    let proxy = &rig.proxy;
    let changes = || {
        made.iter()
            .flat_map(|one| names.iter().map(move |two| proxy.count(&format!("{one}{two}"))))
            .sum::<usize>()
    };
    let before = changes();
    assert_eq!(rig.ensure(&web, &two).await.unwrap(), status);
    assert_eq!(changes(), before);

    // Nodes come and go.
    let others = nodes(&ran[1..]);
    balancers.update_load_balancer(CLUSTER, &web, &others).await.unwrap();
    assert_eq!(rig.targets(), led(&[&ran[1], &ran[2]], &[30080, 30443]));

    // Ports change: one goes, one comes, one leads elsewhere; and health is asked of nodes.
    let mut changed = service(&[(80, 30081), (8080, 30090)], &json!({}));
    let spec = changed.spec.as_mut().unwrap();
    (spec.external_traffic_policy, spec.health_check_node_port) = (Some("Local".into()), Some(32000));
    spec.load_balancer_source_ranges = Some(vec!["192.0.2.0/24".into()]);
    assert_eq!(rig.ensure(&changed, &others).await.unwrap(), status);
    assert_eq!(rig.listeners(), ["80", "8080"]);
    assert_eq!((rig.balancers().len(), rig.groups().len()), (1, 2));
    assert_eq!(rig.targets(), led(&[&ran[1], &ran[2]], &[30081, 30090]));
    assert_eq!(
        rig.rules(),
        ["30081 192.0.2.0/24 client", "30090 192.0.2.0/24 client", "32000 10.0.1.0/24 health"]
    );
    let told = rig.elb("Action=DescribeTargetGroups");
    assert_eq!(all(&told, "HealthCheckPath"), ["/healthz", "/healthz"]);

    // Inside instead: it is made anew.
    let inner = json!({"service.beta.kubernetes.io/aws-load-balancer-internal": "true",
        "service.beta.kubernetes.io/aws-load-balancer-subnets": rig.subnet});
    let mut inner = service(&[(80, 30081)], &inner);
    inner.spec.as_mut().unwrap().load_balancer_source_ranges = Some(vec!["192.0.2.0/24".into()]);
    rig.ensure(&inner, &others).await.unwrap();
    assert_eq!(all(&rig.elb("Action=DescribeLoadBalancers"), "Scheme"), ["internal"]);
    assert_eq!((rig.groups().len(), rig.listeners()), (1, vec!["80".to_owned()]));

    rig.delete(&inner).await.unwrap();
    rig.has_nothing();
    rig.delete(&inner).await.unwrap();
    assert_eq!(balancers.get_load_balancer(CLUSTER, &inner).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn nodes_that_are_not_led_to_are_not_opened() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let other =
        format!("Action=CreateSecurityGroup&GroupName=inner&GroupDescription=inner&VpcId={}", rig.vpc);
    let ran = [rig.run(1), rig.run_in(1, &rig.made(&other, "groupId"))].concat();
    let mut nodes = nodes(&ran);
    nodes[0].metadata.labels = Some([("role".to_owned(), "edge".to_owned())].into());
    let labelled = json!({"service.beta.kubernetes.io/aws-load-balancer-target-node-labels": "role=edge"});
    let (web, labelled) = (service(&[(80, 30080)], &json!({})), service(&[(80, 30080)], &labelled));
    rig.ensure(&web, &nodes).await.unwrap();
    assert_eq!((rig.targets().len(), rig.rules().len()), (2, 4), "each group has two rules");
    let closed = ["30080 0.0.0.0/0 client", "30080 10.0.1.0/24 health"];
    rig.ensure(&labelled, &nodes).await.unwrap();
    assert_eq!(
        (rig.targets(), rig.rules()),
        (vec![format!("{}:30080", ran[0].0)], closed.map(String::from).into())
    );
    // As nodes change nothing is opened either.
    rig.provider.load_balancers().unwrap().update_load_balancer(CLUSTER, &labelled, &nodes).await.unwrap();
    assert_eq!(rig.rules(), closed);
    rig.delete(&labelled).await.unwrap();
    rig.has_nothing();
}

/// A port that is nobody's own is asked for health: it is opened for the first, and closed with the last.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn a_port_that_two_services_ask_for_health_is_open_as_long_as_one_does() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let nodes = nodes(&rig.run(1));
    let asks = json!({"service.beta.kubernetes.io/aws-load-balancer-healthcheck-port": "8080"});
    let one = service(&[(80, 30080)], &asks);
    let mut two = service(&[(80, 30081)], &asks);
    two.metadata.uid = Some("0b1a2c3d-8a43-4a70-9d0e-5f1c7a524e5f".into());
    let client = |port: u16| format!("{port} 0.0.0.0/0 client");
    let health = "8080 10.0.1.0/24 health".to_owned();
    rig.ensure(&one, &nodes).await.unwrap();
    assert_eq!(rig.rules(), [client(30080), health.clone()]);
    rig.ensure(&two, &nodes).await.unwrap();
    assert_eq!(rig.rules(), [client(30080), client(30081), health.clone()]);
    rig.delete(&one).await.unwrap();
    assert_eq!(rig.rules(), [client(30081), health]);
    // It asks for another, and then for its own.
    let other = json!({"service.beta.kubernetes.io/aws-load-balancer-healthcheck-port": "8081"});
    let mut other = service(&[(80, 30081)], &other);
    other.metadata.uid = two.metadata.uid.clone();
    rig.ensure(&other, &nodes).await.unwrap();
    assert_eq!(rig.rules(), [client(30081), "8081 10.0.1.0/24 health".to_owned()]);
    rig.delete(&other).await.unwrap();
    rig.has_nothing();
}

/// A port of one service that another asks for health stays open for that one; target groups of others than the cluster's ask in vain.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn a_port_of_its_own_is_handed_on_to_who_asks_for_it() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let nodes = nodes(&rig.run(1));
    let asks = json!({"service.beta.kubernetes.io/aws-load-balancer-healthcheck-port": "30080"});
    let (one, mut two) = (service(&[(80, 30080)], &json!({})), service(&[(80, 30081)], &asks));
    two.metadata.uid = Some("0b1a2c3d-8a43-4a70-9d0e-5f1c7a524e5f".into());
    let client = |port: u16| format!("{port} 0.0.0.0/0 client");
    let health = "30080 10.0.1.0/24 health".to_owned();
    rig.ensure(&one, &nodes).await.unwrap();
    rig.ensure(&two, &nodes).await.unwrap();
    let rules = [client(30080), health.clone(), client(30081)];
    assert_eq!(rig.rules(), rules);
    // As long as it cannot be handed on it stays the first one's, which is not done then.
    let hands_on = "UpdateSecurityGroupRuleDescriptionsIngress";
    rig.proxy.fail(hands_on, 1, Fault::code(403, "UnauthorizedOperation"));
    let error = rig.delete(&one).await.unwrap_err().to_string();
    assert!(error.contains(&format!("allow ec2:{hands_on} in the IAM policy")), "{error}");
    assert_eq!((rig.proxy.heal(), rig.rules()), (0, rules.to_vec()));
    // Target groups of others go between their list and what is asked of them: always, and once.
    rig.proxy.fail("DescribeTags", 3, Fault::code(400, "TargetGroupNotFound"));
    let asked = rig.provider.load_balancers().unwrap().ensure_load_balancer_deleted(CLUSTER, &one).await;
    assert!(
        matches!(&asked, Err(Error::RetryAfter { message, .. }) if message.contains("TargetGroupNotFound")),
        "{asked:?}"
    );
    assert_eq!((rig.proxy.heal(), rig.rules()), (0, rules.to_vec()));
    rig.proxy.fail("DescribeTags", 1, Fault::code(400, "TargetGroupNotFound"));
    rig.proxy.fail(hands_on, 1, Fault::code(503, "RequestLimitExceeded"));
    rig.delete(&one).await.unwrap();
    assert_eq!((rig.proxy.heal(), rig.rules()), (0, vec![health.clone(), client(30081)]));
    // One that shares it now takes it for its own, and leaves it to the other as it goes.
    rig.ensure(&one, &nodes).await.unwrap();
    rig.delete(&one).await.unwrap();
    assert_eq!(rig.rules(), [health, client(30081)]);
    let foreign = format!(
        "Action=CreateTargetGroup&Name=foreign&Protocol=TCP&Port=30080&VpcId={}&HealthCheckPort=30080",
        rig.vpc
    );
    let foreign = all(&rig.elb(&foreign), "TargetGroupArn").remove(0);
    rig.delete(&two).await.unwrap();
    assert_eq!(rig.rules(), [""; 0], "nobody of this cluster asks any more");
    assert_eq!(rig.groups(), ["foreign"]);
    rig.elb(&format!("Action=DeleteTargetGroup&TargetGroupArn={foreign}"));
    // What was listed may be gone when it is asked about: that is no answer, where one counts with it.
    assert_eq!(rig.ask_elb(&format!("Action=DescribeTargetHealth&TargetGroupArn={foreign}")), None);
    assert_eq!(rig.ask_targets(), Some(vec![]));
    rig.has_nothing();
}

/// A rule that somebody takes back after it was listed, and before it is handed on, is made for who asks for it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn a_port_that_was_closed_meanwhile_is_opened_for_who_asks_for_it() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let nodes = nodes(&rig.run(1));
    let asks = json!({"service.beta.kubernetes.io/aws-load-balancer-healthcheck-port": "30080"});
    let (one, mut two) = (service(&[(80, 30080)], &json!({})), service(&[(80, 30081)], &asks));
    two.metadata.uid = Some("0b1a2c3d-8a43-4a70-9d0e-5f1c7a524e5f".into());
    rig.ensure(&one, &nodes).await.unwrap();
    rig.ensure(&two, &nodes).await.unwrap();
    // Of many at once, and of the one: moto would say nothing of a rule that is not there.
    let hands_on = "UpdateSecurityGroupRuleDescriptionsIngress";
    rig.proxy.before(hands_on, rig.closes(30080, "10.0.1.0/24"));
    rig.proxy.fail(hands_on, 2, Fault::code(400, "InvalidPermission.NotFound"));
    rig.delete(&one).await.unwrap();
    let rules = ["30080 10.0.1.0/24 health", "30081 0.0.0.0/0 client"].map(String::from);
    assert_eq!((rig.proxy.heal(), rig.rules()), (0, rules.into()));
    // It is described as one that is shared: it goes with the last one who asks for it.
    rig.delete(&two).await.unwrap();
    rig.has_nothing();
}

/// Nothing is asked that rules alone are made of.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn where_no_rules_are_made_nodes_change_in_target_groups_alone() {
    let rig = Rig::with("DisableSecurityGroupIngress = true");
    rig.provider.initialize(CLUSTER).await.unwrap();
    let (ran, web) = (rig.run(2), service(&[(80, 30080)], &json!({})));
    let nodes = nodes(&ran);
    rig.ensure(&web, &nodes[..1]).await.unwrap();
    let asked = || {
        ["DescribeSubnets", "DescribeRouteTables", "DescribeLoadBalancers", "DescribeSecurityGroups"]
            .map(|call| rig.proxy.count(call))
    };
    let before = asked();
    rig.provider.load_balancers().unwrap().update_load_balancer(CLUSTER, &web, &nodes).await.unwrap();
    assert_eq!((asked(), rig.targets().len(), rig.rules()), (before, 2, vec![]));
    rig.delete(&web).await.unwrap();
    rig.has_nothing();
}

/// Another subnet of its zone would be chosen today: the load balancer stays where it is, and so do the rules for it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn a_load_balancer_is_let_in_from_the_subnet_that_it_is_in() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let (ran, web) = (rig.run(2), service(&[(80, 30080)], &json!({})));
    let nodes = nodes(&ran);
    rig.ensure(&web, &nodes[..1]).await.unwrap();
    let rules = rig.rules();
    assert_eq!(rules, ["30080 0.0.0.0/0 client", "30080 10.0.1.0/24 health"]);
    rig.ec2(&format!("Action=DeleteTags&ResourceId.1={}&Tag.1.Key=kubernetes.io/role/elb", rig.subnet));
    rig.subnet_in("us-east-1a", "10.0.2.0/24", &[(MARK, "owned"), ("kubernetes.io/role/elb", "1")]);
    rig.provider.load_balancers().unwrap().update_load_balancer(CLUSTER, &web, &nodes).await.unwrap();
    assert_eq!((rig.rules(), rig.targets().len()), (rules.clone(), 2));
    rig.ensure(&web, &nodes).await.unwrap();
    assert_eq!(rig.rules(), rules);
    let told = rig.elb("Action=DescribeLoadBalancers");
    assert!(told.contains(&rig.subnet), "{told}");
    // A zone more is chosen: it is let in from there, too.
    rig.subnet_in("us-east-1b", "10.0.3.0/24", &[(MARK, "owned"), ("kubernetes.io/role/elb", "1")]);
    rig.ensure(&web, &nodes).await.unwrap();
    assert_eq!(rig.rules(), [&rules[..], &["30080 10.0.3.0/24 health".to_owned()]].concat());
    rig.delete(&web).await.unwrap();
    rig.has_nothing();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn two_services_and_another_cluster_do_not_meet() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let nodes = nodes(&rig.run(1));
    let one = service(&[(80, 30080)], &json!({}));
    let mut two = service(&[(80, 30081)], &json!({}));
    two.metadata.uid = Some("0b1a2c3d-8a43-4a70-9d0e-5f1c7a524e5f".into());
    rig.ensure(&one, &nodes).await.unwrap();
    rig.ensure(&two, &nodes).await.unwrap();
    assert_eq!((rig.balancers().len(), rig.groups().len(), rig.rules().len()), (2, 2, 4));
    rig.delete(&one).await.unwrap();
    assert_eq!((rig.balancers().len(), rig.groups().len(), rig.rules().len()), (1, 1, 2));
    // What is called as ours would be, but has not our tag, is left alone.
    let arn = all(&rig.elb("Action=DescribeLoadBalancers"), "LoadBalancerArn").remove(0);
    rig.elb(&format!("Action=RemoveTags&ResourceArns.member.1={arn}&TagKeys.member.1={MARK}"));
    let error = rig.delete(&two).await.unwrap_err();
    assert!(error.to_string().contains("has not tag kubernetes.io/cluster/shop"), "{error}");
    assert_eq!(rig.balancers().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn what_is_wrong_is_told_before_anything_is_made() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let nodes = nodes(&rig.run(1));
    let of = |key: &str, value: &str| {
        service(
            &[(80, 30080)],
            &json!({format!("service.beta.kubernetes.io/aws-load-balancer-{key}"): value}),
        )
    };
    let error = rig.ensure(&of("internal", "perhaps"), &nodes).await.unwrap_err().to_string();
    assert!(
        error.contains("service default/web") && error.contains("aws-load-balancer-internal: \"perhaps\""),
        "{error}"
    );
    assert_eq!(rig.ensure(&of("type", "external"), &nodes).await, Err(Error::ImplementedElsewhere));
    let error = rig.ensure(&of("subnets", "subnet-none"), &nodes).await.unwrap_err().to_string();
    assert!(error.contains("there is no subnet \"subnet-none\""), "{error}");
    rig.has_nothing();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn it_passes_the_conformance_run_of_any_provider() {
    let rig = Rig::new();
    let table = rig.made(&format!("Action=CreateRouteTable&VpcId={}", rig.vpc), "routeTableId");
    rig.ec2(&format!("Action=CreateTags&ResourceId.1={table}&Tag.1.Key={MARK}&Tag.1.Value=owned"));
    let ran = rig.run(2);
    let mut nodes = nodes(&ran);
    nodes.push(node(&ran[1].1, None, 60));
    let subject = Subject {
        cluster: CLUSTER.into(),
        nodes,
        route: Some("10.64.1.0/24".into()),
        mark: "check-1".into(),
    };
    let findings = check::run(&rig.provider, &subject).await;
    assert!(findings.len() > 20, "{findings:?}");
    let wrong: Vec<_> = findings.iter().filter(|one| one.verdict != Verdict::Right).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    rig.has_nothing();
}
