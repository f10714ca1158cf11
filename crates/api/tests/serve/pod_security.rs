//! Pod Security, against what a kube-apiserver 1.36.2 answered (`pod_security.json`; recorded in dry runs).

use http::Method;
use serde_json::Value;

use crate::client::{Answer, Client};
use crate::whole::{client, start, until};

const RECORDED: &str = include_str!("pod_security.json");

/// A name that the server made up, without what is random in it.
fn named(message: &str) -> String {
    match message.split_once("\"gen-") {
        Some((before, rest)) => format!("{before}\"gen-{}", rest.trim_start_matches(|letter| letter != '"')),
        None => message.to_owned(),
    }
}

fn compare(what: &str, answer: &Answer, wanted: &Value) -> Option<String> {
    let code = u64::from(answer.status.as_u16());
    let message = if code < 400 { String::new() } else { named(&answer.refusal().1) };
    let told: Vec<String> =
        wanted["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    let same = wanted["code"] == code && wanted["message"] == message && told == answer.warnings();
    (!same).then(|| format!("{what}:\n  wanted {wanted}\n  found {code} {message:?} {:?}", answer.warnings()))
}

async fn namespace(admin: &Client, name: &str, labels: &Value) {
    let made = serde_json::json!({"metadata": {"name": name, "labels": labels}});
    let made = admin.post("/api/v1/namespaces", &made).await;
    assert_eq!(made.status, 201, "{}", made.text());
    until(admin, &format!("/api/v1/namespaces/{name}/serviceaccounts/default"), 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_judged_as_kubernetes_judges_them() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    for (name, labels) in recorded["policies"].as_object().unwrap() {
        namespace(&admin, name, labels).await;
    }
    let mut wrong = Vec::new();
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() > 200, "{} cases", cases.len());
    for case in cases {
        let (name, pod) = (case["namespace"].as_str().unwrap(), case["pod"].as_str().unwrap());
        let path = format!("/api/v1/namespaces/{name}/pods?dryRun=All");
        let answer = admin.post(&path, &recorded["pods"][pod]).await;
        wrong.extend(compare(&format!("{pod} in {}", recorded["policies"][name]), &answer, case));
    }
    for case in recorded["templates"].as_array().unwrap() {
        let path = case["path"].as_str().unwrap();
        let answer = admin.post(&format!("{path}?dryRun=All"), &case["object"]).await;
        wrong.extend(compare(path, &answer, case));
    }
    for case in recorded["namespaces"].as_array().unwrap() {
        let answer = admin.post("/api/v1/namespaces?dryRun=All", &case["object"]).await;
        wrong.extend(compare(&case["object"].to_string(), &answer, case));
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_makes_a_namespace_stricter_is_told_of_the_pods_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    namespace(&admin, "ps-old", &serde_json::json!({})).await;
    for (name, pod) in recorded["existing"].as_object().unwrap() {
        let mut pod = recorded["pods"][pod.as_str().unwrap()].clone();
        pod["metadata"]["name"] = name.as_str().into();
        let made = admin.post("/api/v1/namespaces/ps-old/pods", &pod).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let patching = admin.with("content-type", "application/merge-patch+json");
    let mut wrong = Vec::new();
    for case in recorded["changes"].as_array().unwrap() {
        let path = "/api/v1/namespaces/ps-old?dryRun=All";
        let answer = patching.send(Method::PATCH, path, case["patch"].to_string()).await;
        wrong.extend(compare(&case["patch"].to_string(), &answer, case));
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
