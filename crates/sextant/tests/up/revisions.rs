//! What was rolled out before, and how many there are to be, by our own commands.

use super::Machine;
use super::whole::{IMAGE, make_image};

fn objects(word: &str, cause: &str) -> String {
    let one = |kind: &str, more: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: web, annotations: {{kubernetes.io/change-cause: {cause}}}}}\n\
             spec:\n{more}  selector: {{matchLabels: {{app: {kind}}}}}\n  template:\n    metadata: {{labels: {{app: {kind}}}}}\n    spec:\n      \
             terminationGracePeriodSeconds: 1\n      containers:\n      - {{name: web, image: {IMAGE}, imagePullPolicy: Never, command: \
             [/bin/sextant-demo-app, serve], env: [{{name: WORD, value: {word}}}]}}\n"
        )
    };
    format!(
        "{}---\n{}",
        one("Deployment", "  replicas: 1\n"),
        one("StatefulSet", "  replicas: 1\n  serviceName: web\n")
    )
}

#[test]
fn what_was_rolled_out_is_shown_and_comes_back() {
    let machine = Machine::new();
    make_image(&machine);
    machine.up(&["--node-name", "here"]);
    let says = |words: &str| machine.says(&words.split(' ').collect::<Vec<_>>());
    for (word, cause, count) in [("first", "begun", 1), ("second", "changed", 2)] {
        let file = machine.file("web.yaml", &objects(word, cause));
        machine.says(&["apply", "-f", &file, "--wait", "--timeout", "90s"]);
        for of in ["deploy/web", "sts/web"] {
            // The heading has two lines.
            machine.until(&["rollout", "history", of], |said| said.lines().count() == 2 + count);
        }
    }
    let told = says("rollout history deploy/web");
    assert_eq!(told, "deployment.apps/web\nREVISION  CHANGE-CAUSE\n1         begun\n2         changed\n");
    for of in ["deploy/web", "sts/web"] {
        let first = says(&format!("rollout history {of} --revision 1"));
        assert!(first.contains(" with revision #1\n") && first.contains("value: first\n"), "{first}");
        assert!(!first.contains("pod-template-hash") && !first.contains("$patch"), "{first}");
        let refused = machine.refuses(&["rollout", "undo", of, "--to-revision", "9"]);
        assert!(
            refused.contains("cannot find revision 9 of ") && refused.contains("there are 1, 2"),
            "{refused}"
        );
        let word = || says(&format!("get {of} -o json"));
        assert!(word().contains("\"second\""));
        assert!(says(&format!("rollout undo {of}")).ends_with("/web rolled back\n"));
        assert!(word().contains("\"first\"") && !word().contains("\"second\""), "{}", word());
        says(&format!("rollout status {of} --timeout 90s"));
        // What came back is the newest one.
        let newest = |said: &str| said.lines().last().is_some_and(|line| line.starts_with("3 "));
        machine.until(&["rollout", "history", of], newest);
        let same = says(&format!("rollout undo {of} --to-revision 3"));
        assert!(same.contains("skipped rollback (current template already matches revision 3)"), "{same}");
    }
    assert!(says("rollout history deploy/web").ends_with("2         changed\n3         begun\n"));
}

#[test]
fn there_are_as_many_as_was_asked_for() {
    let machine = Machine::new();
    make_image(&machine);
    machine.up(&["--node-name", "here"]);
    let says = |words: &str| machine.says(&words.split(' ').collect::<Vec<_>>());
    let file = machine.file("web.yaml", &objects("word", "x"));
    machine.says(&["apply", "-f", &file, "--wait", "--timeout", "90s"]);
    assert_eq!(
        says("scale deploy/web sts/web --replicas 2"),
        "deployment.apps/web scaled\nstatefulset.apps/web scaled\n"
    );
    for of in ["deploy/web", "sts/web"] {
        machine.until(&["get", of, "--no-headers"], |said| said.contains(" 2/2 "));
    }
    let refused = machine.refuses(&["scale", "deploy/web", "--replicas", "1", "--current-replicas", "5"]);
    assert!(
        refused.contains("cannot scale deployment.apps/web: it is to have 2 replicas, and not 5"),
        "{refused}"
    );
    says("scale deploy/web --replicas 0 --current-replicas 2");
    machine.until(&["get", "pods", "-l", "app=Deployment", "-o", "name"], str::is_empty);
    let refused = machine.refuses(&["scale", "cm/kube-root-ca.crt", "--replicas", "1"]);
    assert!(refused.contains("cannot scale configmap/kube-root-ca.crt: "), "{refused}");
}
