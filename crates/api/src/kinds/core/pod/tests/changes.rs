//! Updates of pods, against the answers that a kube-apiserver 1.36.2 gave.

use super::*;

/// The pod `live` of the recorded answers.
fn live() -> Object {
    let recorded: Value = serde_json::from_str(include_str!("../../../../../tests/answers/recorded.json"))
        .expect("the recorded answers");
    let case = recorded
        .list("cases")
        .iter()
        .find(|case| case.text("what").starts_with("change a running pod's image"));
    let answer = case.and_then(|case| case.field("answer")).expect("the answer to a change of the image");
    Object::from_value(answer.clone()).expect("a pod")
}

fn update_errors(part: Part, new: &Object, old: &Object) -> Vec<String> {
    let strategy = kind().resource().strategy;
    strategy.validate_update(part, new, old).iter().map(ToString::to_string).collect()
}

#[test]
fn an_ordinary_pod_has_nothing_wrong() {
    assert_eq!(errors(&pod(json!({}))), Vec::<String>::new());
    assert_eq!(errors(&container(json!({ "command": ["true"] }))), Vec::<String>::new());
}

#[test]
fn a_change_of_what_is_fixed_is_shown() {
    let recorded: Value = serde_json::from_str(include_str!("../../../../../tests/answers/recorded.json"))
        .expect("the recorded answers");
    let case =
        recorded.list("cases").iter().find(|case| case.text("what") == "change an immutable pod field");
    let says = case.and_then(|case| case.field("answer")).expect("the refusal").text("message");
    let (old, mut new) = (live(), live());
    new.make(&["spec"]).insert("restartPolicy".to_owned(), "Never".into());
    let said = update_errors(Part::Main, &new, &old);
    assert_eq!(format!("Pod \"live\" is invalid: {}", said.join(", ")), says);
}

#[test]
fn images_and_tolerations_may_change() {
    let (old, mut new) = (live(), live());
    new.make(&["spec"])["containers"][0]["image"] = "another".into();
    let mut list = new.spec().list("tolerations").to_vec();
    list.push(json!({ "key": "a", "operator": "Exists" }));
    new.make(&["spec"]).insert("tolerations".to_owned(), list.into());
    assert_eq!(update_errors(Part::Main, &new, &old), Vec::<String>::new());
    new.make(&["spec"]).insert("tolerations".to_owned(), json!([]));
    assert_eq!(
        update_errors(Part::Main, &new, &old),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
}

#[test]
fn containers_for_debugging_only_come() {
    let (mut old, mut new) = (live(), live());
    let debugger = json!({ "name": "d", "image": "busybox", "terminationMessagePolicy": "File",
        "terminationMessagePath": "/dev/termination-log", "imagePullPolicy": "Always", "resources": {} });
    new.make(&["spec"]).insert("ephemeralContainers".to_owned(), json!([debugger]));
    assert_eq!(update_errors(Part::EphemeralContainers, &new, &old), Vec::<String>::new());
    std::mem::swap(&mut old, &mut new);
    assert_eq!(
        update_errors(Part::EphemeralContainers, &new, &old),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed\n"]
    );
}

#[test]
fn a_resize_keeps_the_class() {
    let (old, mut new) = (live(), live());
    new.make(&["spec"])["containers"][0]["resources"] = json!({ "requests": { "cpu": "1" } });
    let said = update_errors(Part::Resize, &new, &old);
    let rule = "spec: Invalid value: \"BestEffort\": Pod QOS Class may not change as a result of resizing";
    assert_eq!(said.first().map(String::as_str), Some(rule));
}

/// What a body of the greatest size may hold is told in few words and looked at once.
#[test]
fn many_ports_are_few_warnings() {
    let ports: Vec<_> = (0..30_000).map(|_| json!({"containerPort": 80, "protocol": "TCP"})).collect();
    let object = container(json!({ "ports": ports }));
    let said = kind().resource().strategy.warnings(&object, None);
    assert!((1..200).contains(&said.len()), "{}", said.len());
}
