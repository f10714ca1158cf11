//! Manifests as Helm renders charts: labels, lists, hooks, anchors, kinds in any order, and some that nothing here acts on.

use serde_json::Value;

use super::Machine;

/// Where they are.
const CHARTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/up/charts");

#[test]
fn three_charts_run_and_go() {
    let machine = Machine::new();
    machine.says(&["demo", "--image"]);
    machine.up(&["--node-name", "here"]);
    let says = |words: &str| machine.says(&words.split(' ').collect::<Vec<_>>());
    let applied = says(&format!("apply -f {CHARTS}"));
    for name in [
        "customresourcedefinition.apiextensions.k8s.io/things.things.example",
        "thing.things.example/first",
        "ingress.networking.k8s.io/site-web",
    ] {
        assert!(applied.contains(&format!("{name} created")), "{name}: {applied}");
    }
    let again = says(&format!("apply -f {CHARTS} --wait --timeout 90s"));
    assert!(again.contains("deployment.apps/site-web unchanged") && !again.contains("created"), "{again}");
    assert!(says("get thg").contains("SIZE") && says("get all").contains("thing.things.example/first"));

    let told: Value = serde_json::from_str(&says("status -o json")).unwrap();
    let idle: Vec<&str> =
        told["idle"].as_array().unwrap().iter().filter_map(|one| one["kind"].as_str()).collect();
    for kind in ["ingresses.networking.k8s.io", "networkpolicies.networking.k8s.io", "things.things.example"]
    {
        assert!(idle.contains(&kind), "{kind}: {idle:?}");
    }
    let shown = says("status");
    assert!(
        shown.contains("Nothing acts on these objects:") && shown.contains("default/site-web"),
        "{shown}"
    );

    // The next release: another size, and one replica more.
    let web =
        std::fs::read_to_string(format!("{CHARTS}/web.yaml")).unwrap().replace("replicas: 2", "replicas: 3");
    let web = machine.file("web.yaml", &web);
    let upgraded = says(&format!("apply -f {web} --wait --timeout 90s"));
    assert!(upgraded.contains("deployment.apps/site-web configured"), "{upgraded}");
    assert!(says("get deploy site-web").contains("3/3"));

    says(&format!("delete -f {CHARTS}"));
    machine.until(&["get", "pods", "-o", "name"], str::is_empty);
    assert!(machine.refuses(&["get", "things"]).contains("no kind"));
}
