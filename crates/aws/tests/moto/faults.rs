//! Calls that are refused, and calls that are done though nobody hears of it: in the end there is one of everything, or nothing.

use cpi::contract::{CloudProvider, Error};
use serde_json::json;
use testkit::proxy::Fault;

use crate::rig::{CLUSTER, Rig, nodes, service};

/// What changes something on the way to a load balancer.
const MAKES: &[&str] = &[
    "CreateTargetGroup",
    "ModifyTargetGroupAttributes",
    "CreateLoadBalancer",
    "RegisterTargets",
    "CreateListener",
    "AuthorizeSecurityGroupIngress",
];
/// By this target groups have an attribute that they do not come with.
const PROXIED: &str = "service.beta.kubernetes.io/aws-load-balancer-proxy-protocol";
const TAKES: &[&str] = &["DeleteLoadBalancer", "DeleteTargetGroup", "RevokeSecurityGroupIngress"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn lost_answers_and_throttled_calls_duplicate_and_leave_nothing() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let (ran, web) = (rig.run(2), service(&[(80, 30080), (443, 30443)], &json!({PROXIED: "*"})));
    let nodes = nodes(&ran);
    for fault in [Fault::Lost, Fault::code(503, "RequestLimitExceeded"), Fault::code(500, "InternalError")] {
        for call in MAKES {
            rig.proxy.fail(call, 1, fault.clone());
        }
        rig.ensure(&web, &nodes).await.unwrap();
        assert_eq!(rig.proxy.heal(), 0, "{fault:?}: calls that were to fail did not come");
        assert_eq!(
            (rig.balancers().len(), rig.groups().len(), rig.listeners().len()),
            (1, 2, 2),
            "{fault:?}"
        );
        assert_eq!((rig.targets().len(), rig.rules().len()), (4, 4), "{fault:?}");
        for call in TAKES {
            rig.proxy.fail(call, 1, fault.clone());
        }
        rig.delete(&web).await.unwrap();
        assert_eq!(rig.proxy.heal(), 0, "calls that were to fail did not come");
        rig.has_nothing();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn a_load_balancer_that_is_half_made_is_finished_or_taken_away() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let (ran, web) = (rig.run(1), service(&[(80, 30080), (443, 30443)], &json!({PROXIED: "*"})));
    let nodes = nodes(&ran);
    for call in MAKES {
        for is_finished in [false, true] {
            rig.proxy.fail(call, 1, Fault::code(403, "AccessDenied"));
            let done = rig.ensure(&web, &nodes).await;
            assert_eq!(rig.proxy.heal(), 0, "{call} did not come");
            let error = done.unwrap_err().to_string();
            let service = if call.contains("Security") { "ec2" } else { "elasticloadbalancing" };
            assert!(error.contains(&format!("allow {service}:{call} in the IAM policy")), "{error}");
            assert!(!error.contains("hush"), "{error}");
            if is_finished {
                rig.ensure(&web, &nodes).await.unwrap();
                assert_eq!(
                    (rig.balancers().len(), rig.groups().len(), rig.listeners().len()),
                    (1, 2, 2),
                    "{call}"
                );
            }
            rig.delete(&web).await.unwrap();
            rig.has_nothing();
        }
    }
}

/// One of its ports speaks TLS: whatever of it was made, it has its certificate in the end.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn a_load_balancer_with_tls_that_is_half_made_is_finished_or_taken_away() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let certificate = rig.certificate("web");
    let secured = json!({PROXIED: "*", "service.beta.kubernetes.io/aws-load-balancer-ssl-cert": certificate,
        "service.beta.kubernetes.io/aws-load-balancer-ssl-ports": "443"});
    let (ran, web) = (rig.run(1), service(&[(80, 30080), (443, 30443)], &secured));
    let nodes = nodes(&ran);
    let spoken =
        [("443".to_owned(), "TLS".to_owned(), Some(certificate)), ("80".to_owned(), "TCP".to_owned(), None)];
    for fault in [Fault::Lost, Fault::code(403, "AccessDenied")] {
        for call in MAKES {
            for is_finished in [false, true] {
                rig.proxy.fail(call, 1, fault.clone());
                let done = rig.ensure(&web, &nodes).await;
                assert_eq!(rig.proxy.heal(), 0, "{fault:?}: {call} did not come");
                assert_eq!(done.is_ok(), fault == Fault::Lost, "{call}: {done:?}");
                if is_finished {
                    rig.ensure(&web, &nodes).await.unwrap();
                    assert_eq!(rig.spoken(), spoken, "{fault:?}: {call}");
                    assert_eq!((rig.balancers().len(), rig.groups().len(), rig.rules().len()), (1, 2, 4));
                }
                rig.delete(&web).await.unwrap();
                rig.has_nothing();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn one_that_is_not_told_of_yet_is_not_forgotten() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let (ran, web) = (rig.run(1), service(&[(80, 30080)], &json!({})));
    let nodes = nodes(&ran);
    rig.ensure(&web, &nodes).await.unwrap();
    // To make it again is to find it.
    rig.proxy.fail("DescribeLoadBalancers", 1, Fault::code(400, "LoadBalancerNotFound"));
    rig.ensure(&web, &nodes).await.unwrap();
    assert_eq!((rig.proxy.heal(), rig.balancers().len()), (0, 1));
    // To take it away is to find it by what leads from it.
    rig.proxy.fail("DescribeLoadBalancers", 1, Fault::code(400, "LoadBalancerNotFound"));
    rig.delete(&web).await.unwrap();
    assert_eq!(rig.proxy.heal(), 0);
    rig.has_nothing();
}

/// As after one that was made anew: AWS knows the former one's listeners for a while.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn a_target_group_that_is_the_former_load_balancers_still_is_waited_for() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let (ran, web) = (rig.run(1), service(&[(80, 30080)], &json!({})));
    rig.proxy.fail("CreateListener", 1, Fault::code(400, "TargetGroupAssociationLimit"));
    let balancers = rig.provider.load_balancers().unwrap();
    let asked = balancers.ensure_load_balancer(CLUSTER, &web, &nodes(&ran)).await;
    assert!(
        matches!(&asked, Err(Error::RetryAfter { message, .. }) if message.contains("TargetGroupAssociationLimit")),
        "{asked:?}"
    );
    assert_eq!(rig.proxy.heal(), 0);
    rig.ensure(&web, &nodes(&ran)).await.unwrap();
    assert_eq!((rig.balancers().len(), rig.listeners()), (1, vec!["80".to_owned()]));
    rig.delete(&web).await.unwrap();
    rig.has_nothing();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn an_account_that_is_asked_too_often_is_asked_later() {
    let rig = Rig::new();
    rig.provider.initialize(CLUSTER).await.unwrap();
    let (ran, web) = (rig.run(1), service(&[(80, 30080)], &json!({})));
    rig.proxy.fail("CreateTargetGroup", 6, Fault::code(400, "Throttling"));
    let balancers = rig.provider.load_balancers().unwrap();
    let asked = balancers.ensure_load_balancer(CLUSTER, &web, &nodes(&ran)).await;
    assert!(
        matches!(&asked, Err(Error::RetryAfter { message, .. }) if message.contains("asked too often")),
        "{asked:?}"
    );
    assert_eq!(rig.proxy.heal(), 0);
    rig.delete(&web).await.unwrap();
    rig.has_nothing();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: cargo xtask test --ring interop starts it"]
async fn wrong_credentials_and_missing_rights_are_told() {
    let rig = Rig::new();
    rig.proxy.fail("DescribeInstances", 1, Fault::code(401, "AuthFailure"));
    let error = rig.provider.initialize(CLUSTER).await.unwrap_err().to_string();
    assert!(
        error.contains("the credentials are not accepted (AuthFailure)") && error.contains("the environment"),
        "{error}"
    );
    rig.proxy.fail("DescribeInstances", 1, Fault::code(403, "UnauthorizedOperation"));
    let error = rig.provider.initialize(CLUSTER).await.unwrap_err().to_string();
    assert!(error.contains("allow ec2:DescribeInstances in the IAM policy"), "{error}");
    assert!(!error.contains("hush") && !format!("{:?}", rig.provider).contains("hush"), "{error}");
}
