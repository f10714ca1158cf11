//! Pods that may not be on the node, what those may have that are, and where their logs are found.

use std::fs;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::Test;
use crate::rig::{IMAGE, NODE, Rig, condition, container, first, with};
use crate::statics::running;

pub(crate) const TESTS: &[Test] = &[
    ("a_pod_that_may_not_be_on_the_node_is_refused", |rig| Box::pin(refused(rig))),
    ("a_pod_has_as_many_process_ids_as_it_may", |rig| Box::pin(pids(rig))),
    ("logs_are_found_by_who_writes_them", |rig| Box::pin(links(rig))),
];

async fn refused(rig: &Rig) {
    let nodes: Api<Node> = Api::all(rig.client.clone());
    let change = async |patch: Value| {
        nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    let with_selector = |value: &str| json!({"containers": [container("main", &["sleep"])], "nodeSelector": {"disk": value}, "terminationGracePeriodSeconds": 0});
    let failed = |reason: &'static str| {
        move |status: &Value| status["phase"] == "Failed" && status["reason"] == reason
    };
    change(json!({"metadata": {"labels": {"disk": "ssd"}}})).await;
    rig.pod("other", with_selector("hdd")).await;
    let status = rig.status("other", "is refused", failed("NodeAffinity")).await;
    let words = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    assert_eq!(status["message"], format!("Pod was rejected: {words}"));
    rig.told("other", "NodeAffinity", words).await;
    rig.pod("this", with_selector("ssd")).await;
    rig.ready("this").await;
    let large = json!({"resources": {"requests": {"ephemeral-storage": "8Ei"}}});
    rig.pod("large", json!({"containers": [with(container("main", &["sleep"]), large)]})).await;
    let status = rig.status("large", "is refused", failed("OutOfephemeral-storage")).await;
    let words =
        "Node didn't have enough resource: ephemeral-storage, requested: 9223372036854775807, used: 0, ";
    assert!(status["message"].as_str().unwrap().contains(words), "{status}");

    change(json!({"spec": {"taints": [{"key": "away", "effect": "NoExecute"}, {"key": "soft", "effect": "NoSchedule"}]}})).await;
    let plain = || json!({"containers": [container("main", &["sleep"])], "terminationGracePeriodSeconds": 0});
    // The agent hears of taints a moment later, and who has begun stays.
    let mut names = (0..100).map(|number| format!("tainted-{number}"));
    let tainted = loop {
        let name = names.next().expect("one is refused");
        rig.pod(&name, plain()).await;
        let is_judged = |status: &Value| status["phase"] == "Failed" || condition(status, "Ready") == "True";
        let status = rig.status(&name, "is judged", is_judged).await;
        if status["phase"] == "Failed" {
            assert_eq!(status["reason"], "TaintToleration", "{status}");
            break name;
        }
    };
    rig.told(&tainted, "TaintToleration", "node(s) had taints that the pod didn't tolerate").await;
    let bears = || with(plain(), json!({"tolerations": [{"key": "away", "operator": "Exists"}]}));
    rig.pod("bears", bears()).await;
    rig.ready("bears").await;
    assert_eq!(condition(&rig.ready("this").await, "Ready"), "True", "who runs is the taint manager's");

    // A pod of a file bears taints that end pods; what it says of nodes holds for it, too.
    let folder = rig.path("admits");
    fs::create_dir(&folder).unwrap();
    for (name, disk) in [("fits", "ssd"), ("unfit", "hdd")] {
        let text = format!(
            "metadata: {{name: {name}}}\nspec:\n  nodeSelector: {{disk: {disk}}}\n  terminationGracePeriodSeconds: 0\n  containers:\n  \
             - {{name: main, image: {IMAGE}, imagePullPolicy: IfNotPresent, command: [probe, sleep]}}\n"
        );
        fs::write(folder.join(name), text).unwrap();
    }
    let manifests = folder.display().to_string();
    rig.kill("agent");
    rig.agent_with(&["--pod-manifest-path", &manifests, "--label", "disk=ssd"]);
    let mirror = async |name: &str, holds: &dyn Fn(&Value) -> bool| {
        let name = format!("{name}-{NODE}");
        let look = async || {
            let pod = rig.pods().get_opt(&name).await.unwrap()?;
            holds(&json!(pod.status)).then_some(())
        };
        rig.until(&name, look).await;
    };
    mirror("fits", &|status| condition(status, "Ready") == "True").await;
    mirror("unfit", &failed("NodeAffinity")).await;
    // The next agent does not begin it either, though nothing of it is there.
    rig.kill("agent");
    rig.agent_with(&["--pod-manifest-path", &manifests, "--label", "disk=ssd"]);
    rig.agents_server().await;
    rig.pod("after", bears()).await;
    rig.ready("after").await;
    assert_eq!((running(rig, "unfit-").await, running(rig, "fits-").await), (0, 1));
    mirror("unfit", &failed("NodeAffinity")).await;
    // Once the node is another it runs, and what was told of it is over.
    rig.kill("agent");
    change(json!({"metadata": {"labels": {"disk": "hdd"}}})).await;
    rig.agent_with(&["--pod-manifest-path", &manifests]);
    let is_fine = |status: &Value| {
        let is_told = !status["reason"].is_null() || !status["message"].is_null();
        status["phase"] == "Running" && condition(status, "Ready") == "True" && !is_told
    };
    mirror("unfit", &is_fine).await;
    change(json!({"metadata": {"labels": {"disk": null}}, "spec": {"taints": null}})).await;
    fs::remove_dir_all(&folder).unwrap();
    rig.kill("agent");
    rig.agent();
}

async fn pids(rig: &Rig) {
    rig.kill("agent");
    rig.agent_with(&["--pod-pids-limit", "64"]);
    let pod =
        rig.pod("few", json!({"containers": [container("main", &["fork", "100", "then", "sleep"])]})).await;
    rig.ready("few").await;
    let uid = pod.metadata.uid.unwrap();
    let group = kernel::cgroup::Cgroup::at(&rig.cgroups().join(format!("besteffort/pod{uid}"))).unwrap();
    assert_eq!(group.read("pids.max").unwrap().trim(), "64");
    rig.log_has("few", "main", "\n").await;
    let log = rig.log("few", "main").await;
    let made: u64 = log.split_ascii_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!((1..64).contains(&made), "{log}");
    rig.kill("agent");
    rig.agent();
    let is_free = async || (group.read("pids.max").unwrap().trim() == "max").then_some(());
    rig.until("the pod has no limit any more", is_free).await;
}

async fn links(rig: &Rig) {
    let spec = json!({"containers": [container("main", &["say", "hello", "then", "sleep"])], "terminationGracePeriodSeconds": 0});
    rig.pod("linked", spec).await;
    let id = first(&rig.ready("linked").await).container_id.unwrap();
    let id = id.split_once("://").unwrap().1;
    rig.log_has("linked", "main", "hello").await;
    let link = rig.path("containers").join(format!("linked_default_main-{id}.log"));
    let text = fs::read_to_string(&link).unwrap();
    assert!(text.ends_with(" stdout F hello\n"), "{text}");
    // As an agent leaves it that is killed after a start.
    rig.kill("agent");
    fs::remove_file(&link).unwrap();
    rig.agent();
    rig.until("there is the link again", async || link.exists().then_some(())).await;
    rig.delete("linked", 0).await;
    rig.gone("linked").await;
    // It was removed by force: what the machine has of it goes after the object.
    rig.until("the link goes", async || fs::symlink_metadata(&link).is_err().then_some(())).await;
}
