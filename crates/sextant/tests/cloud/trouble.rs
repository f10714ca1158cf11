//! What is wrong with a provider is told where people look: of what waits for it, and of the cluster; once, and once that it is over.

use std::sync::{Arc, Mutex};

use cpi::contract::Node;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};
use testkit::faulty::{Faulty, answer};

use crate::admit::admit;
use crate::metal::{join, start, write};
use crate::rack::says;
use crate::rig::Rig;
use crate::site::{NEW, event, expose, nothing_was_forbidden, say_ready, service_is};

/// How often each text was told of an object for a reason.
async fn told(rig: &Rig, about: &str, reason: &str) -> Vec<(String, i32)> {
    let events = rig.objects_of::<Event>("").list(&ListParams::default()).await.unwrap();
    let is = |event: &Event| {
        event.regarding.as_ref().and_then(|of| of.name.as_deref()) == Some(about)
            && event.reason.as_deref() == Some(reason)
    };
    let count =
        |event: Event| (event.note.unwrap_or_default(), event.series.map_or(1, |series| series.count));
    events.into_iter().filter(is).map(count).collect()
}

/// EC2, which answers all calls so: a status, and the code of a refusal; none, and there is nothing of anything.
fn ec2(says: Arc<Mutex<(u16, &'static str)>>) -> Faulty {
    Faulty::start(move |_, _, stream| {
        let (status, code) = *says.lock().unwrap();
        let body = if code.is_empty() {
            "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>".to_owned()
        } else {
            format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>by a test</Message></Error></Errors></Response>"
            )
        };
        answer(stream, status, "content-type: text/xml\r\n", body.as_bytes());
    })
}

#[tokio::test]
async fn wrong_credentials_and_missing_rights_are_told_of_what_waits() {
    let mut rig = Rig::bare().await;
    admit(&rig).await;
    let says_now = Arc::new(Mutex::new((401, "AuthFailure")));
    let server = ec2(says_now.clone());
    let (kubeconfig, config) = (rig.path("kubeconfig"), rig.path("aws.conf"));
    std::fs::write(&config, "[Global]\nRegion = us-east-1\nKubernetesClusterID = shop\n").unwrap();
    crate::aws::point_to(&mut rig, server.addr);
    let taint = json!({"key": NEW, "value": "true", "effect": "NoSchedule"});
    rig.make::<Node>(json!({"metadata": {"name": "node-1"}, "spec": {"taints": [taint]}})).await;
    say_ready(&rig, "node-1", "True").await;
    expose(&rig, "web").await;
    let (kubeconfig, config) = (kubeconfig.to_str().unwrap(), config.to_str().unwrap());
    let args = ["--kubeconfig", kubeconfig, "--cloud-provider", "aws", "--cloud-config", config];
    rig.control(&[&args[..], &["--node-monitor-period", "200ms"]].concat());
    let why = "the credentials are not accepted (AuthFailure)";
    event(&rig, "kube-system", "CloudProviderFailed", why).await;
    event(&rig, "node-1", "SyncNodeFailed", why).await;
    event(&rig, "web", "SyncLoadBalancerFailed", why).await;
    // Who comes later is told, too, and nobody is told again as it is tried again.
    expose(&rig, "late").await;
    event(&rig, "late", "SyncLoadBalancerFailed", why).await;
    let before = server.requests();
    rig.until("it was tried again", async |_| (server.requests() > before + 1).then_some(())).await;
    for (about, reason) in [
        ("kube-system", "CloudProviderFailed"),
        ("node-1", "SyncNodeFailed"),
        ("web", "SyncLoadBalancerFailed"),
        ("late", "SyncLoadBalancerFailed"),
    ] {
        let all = told(&rig, about, reason).await;
        assert!(matches!(&all[..], [(_, 1)]), "{about}: {all:?}");
    }
    let status = says(&rig, &["cloud", "status"]);
    let line = status.lines().find(|line| line.starts_with("provider")).unwrap_or_else(|| panic!("{status}"));
    assert!(
        line.contains("CloudProviderFailed: cannot initialize cloud provider aws: ") && line.contains(why),
        "{line}"
    );
    assert!(status.contains("node/node-1") && !status.contains("hush"), "{status}");
    assert!(status.contains("failing: SyncLoadBalancerFailed"), "{status}");

    // One that was started again knows what is told already, and says itself why it waits.
    let warnings = |rig: &Rig| rig.words("control").matches("; it is tried again").count();
    assert_eq!(warnings(&rig), 1, "{}", rig.words("control"));
    rig.kill("control");
    rig.again("control");
    let before = server.requests();
    rig.until("it was tried again", async |_| (server.requests() > before + 1).then_some(())).await;
    for (about, reason) in [("kube-system", "CloudProviderFailed"), ("node-1", "SyncNodeFailed")] {
        let all = told(&rig, about, reason).await;
        assert!(matches!(&all[..], [(_, 1)]), "{about}: {all:?}");
    }
    assert_eq!(warnings(&rig), 2, "{}", rig.words("control"));

    // The credentials are right, and may not do it.
    *says_now.lock().unwrap() = (403, "UnauthorizedOperation");
    let why = "allow ec2:DescribeInstances in the IAM policy of the credentials";
    event(&rig, "kube-system", "CloudProviderFailed", why).await;
    event(&rig, "node-1", "SyncNodeFailed", why).await;
    event(&rig, "web", "SyncLoadBalancerFailed", why).await;

    // They may; what is wrong with the node is told then.
    *says_now.lock().unwrap() = (200, "");
    event(&rig, "kube-system", "CloudProviderReady", "Cloud provider aws is ready").await;
    event(&rig, "node-1", "SyncNodeFailed", "no instance has this private DNS name").await;
    let all: Value = serde_json::from_str(&says(&rig, &["cloud", "status", "-o", "json"])).unwrap();
    let fails: Vec<&Value> = all["failures"].as_array().unwrap().iter().map(|one| &one["of"]).collect();
    assert!(!fails.contains(&&json!("provider")) && fails.contains(&&json!("node/node-1")), "{all}");
    let words = rig.words("control");
    assert!(!words.contains("hush"), "{words}");
    nothing_was_forbidden(&rig);
}

#[tokio::test]
async fn a_file_that_is_wrong_is_an_event_until_it_is_right() {
    let overlapping =
        "pools: [{name: lab, addresses: [192.0.2.0/28]}, {name: other, addresses: [192.0.2.8]}]";
    let mut rig = start(Some("pools: [{name: lab, addresses: [192.0.2.7]}]"), &[]).await;
    join(&rig, "node-1", "10.0.0.1").await;
    write(&rig, overlapping);
    let why = "pools[1].addresses[0]: 192.0.2.8 has addresses of pools[0].addresses[0] (192.0.2.0/28) in it";
    event(&rig, "kube-system", "CloudConfigFailed", why).await;
    // All works on by what was said before, and nobody is told again.
    expose(&rig, "web").await;
    service_is(&rig, "web", "reachable", |web| {
        web["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.7"
    })
    .await;
    expose(&rig, "late").await;
    event(&rig, "late", "SyncLoadBalancerFailed", "pool lab has 1 of them").await;
    let all = told(&rig, "kube-system", "CloudConfigFailed").await;
    assert!(matches!(&all[..], [(text, 1)] if text.ends_with("what it said before holds on")), "{all:?}");
    let status = says(&rig, &["cloud", "status"]);
    assert!(status.contains("CloudConfigFailed: cannot use the configuration: pools[1]"), "{status}");

    // The processes that are started with it end, and tell it once.
    rig.kill("control");
    for _ in 0..2 {
        rig.again("control");
        assert_eq!(rig.wait("control").await, Some(1), "{}", rig.words("control"));
    }
    let all = told(&rig, "kube-system", "CloudConfigFailed").await;
    assert!(matches!(&all[..], [(_, 1), (_, 1)]), "one as it was changed, one as it was started: {all:?}");

    write(&rig, "pools: [{name: lab, addresses: [192.0.2.7-192.0.2.8]}]");
    rig.again("control");
    event(&rig, "kube-system", "CloudConfigTaken", "What cloud provider metal goes by is in use as it is")
        .await;
    service_is(&rig, "late", "reachable", |late| late["status"]["loadBalancer"]["ingress"].is_array()).await;
    assert!(!says(&rig, &["cloud", "status"]).contains("CloudConfig"));
    // Addresses that are in use are taken away: nothing is wrong in the file itself.
    write(&rig, "pools: [{name: lab, addresses: [192.0.2.8]}]");
    event(&rig, "kube-system", "CloudConfigFailed", "(default/web has 192.0.2.7); leave them in a pool")
        .await;
    nothing_was_forbidden(&rig);
}
