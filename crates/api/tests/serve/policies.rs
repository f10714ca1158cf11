//! Validating admission policies, against what a kube-apiserver 1.36.2 answered (`policies.json`).

use serde_json::{Value, json};

use crate::client::Client;
use crate::whole::{client, start};

const RECORDED: &str = include_str!("policies.json");
const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";

async fn made(admin: &Client, path: &str, object: &Value) {
    let answer = admin.post(path, object).await;
    assert_eq!(answer.status, 201, "{path}: {}", answer.text());
}

async fn gone(admin: &Client, path: &str) {
    let answer = admin.delete(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
}

/// Without what Kubernetes' reader of expressions says of syntax, which is the words of its generator.
fn told(message: &str) -> &str {
    message.split_once("Syntax error: ").map_or(message, |(before, _)| before)
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_judge_as_kubernetes_judges_by_them() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let labels = json!({"vap": "yes", "env": "test"});
    made(&admin, "/api/v1/namespaces", &json!({"metadata": {"name": "vp", "labels": labels}})).await;
    let maps = "/api/v1/namespaces/vp/configmaps";
    for (name, max, word) in [("limits", "3", "x"), ("limits2", "5", "y")] {
        let map =
            json!({"metadata": {"name": name, "labels": {"p": "1"}}, "data": {"max": max, "word": word}});
        made(&admin, maps, &map).await;
    }
    let mut wrong = Vec::new();
    let cases = recorded["cases"].as_array().unwrap();
    assert!(cases.len() > 35, "{} cases", cases.len());
    for case in cases {
        let (name, index) = (case["name"].as_str().unwrap(), &case["index"]);
        let policy = format!("policy-{index}.example.com");
        let policies = format!("{REGISTRATION}/validatingadmissionpolicies");
        let bindings = format!("{REGISTRATION}/validatingadmissionpolicybindings");
        made(&admin, &policies, &json!({"metadata": {"name": policy}, "spec": case["policy"]})).await;
        let bound = case["bindings"].as_array().unwrap();
        for (number, binding) in bound.iter().enumerate() {
            let mut spec = binding.clone();
            spec["policyName"] = policy.as_str().into();
            let binding = json!({"metadata": {"name": format!("binding-{index}-{number}")}, "spec": spec});
            made(&admin, &bindings, &binding).await;
        }
        let path = "/apis/apps/v1/namespaces/vp/deployments?dryRun=All";
        let answer = admin.post(path, &case["object"]).await;
        let code = u64::from(answer.status.as_u16());
        let (message, reason) = if code < 400 {
            (String::new(), json!(""))
        } else {
            (answer.refusal().1, answer.json()["reason"].clone())
        };
        let same = case["code"] == code
            && case["message"] == message
            && case["reason"] == reason
            && case["warnings"] == json!(answer.warnings());
        if !same {
            let (wanted, told) = (&case["message"], &case["warnings"]);
            wrong.push(format!(
                "{name}:\n  wanted {} {wanted} {told}\n  found {code} {message:?} {:?}",
                case["code"],
                answer.warnings()
            ));
        }
        for number in 0..bound.len() {
            gone(&admin, &format!("{bindings}/binding-{index}-{number}")).await;
        }
        gone(&admin, &format!("{policies}/{policy}")).await;
    }
    for case in recorded["invalid"].as_array().unwrap() {
        let policy = json!({"metadata": {"name": "inv.example.com"}, "spec": case["policy"]});
        let path = format!("{REGISTRATION}/validatingadmissionpolicies?dryRun=All");
        let answer = admin.post(&path, &policy).await;
        let code = u64::from(answer.status.as_u16());
        let message = if code < 400 { String::new() } else { answer.refusal().1 };
        let wanted = case["message"].as_str().unwrap();
        if case["code"] != code || told(wanted) != told(&message) {
            let policy = &case["policy"];
            wrong.push(format!("{policy}:\n  wanted {} {wanted}\n  found {code} {message:?}", case["code"]));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    // Those that change objects are kept, and who makes one is told that nothing asks it.
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}]);
    let spec = json!({"matchConstraints": {"resourceRules": rules}, "reinvocationPolicy": "Never", "mutations": [
        {"patchType": "JSONPatch"}, {"patchType": "X"}, {},
        {"patchType": "ApplyConfiguration", "jsonPatch": {"expression": "1"}},
    ]});
    let mut changing = json!({"metadata": {"name": "y"}, "spec": spec});
    let path = format!("{REGISTRATION}/mutatingadmissionpolicies");
    assert_eq!(
        admin.post(&path, &changing).await.refusal().1,
        "MutatingAdmissionPolicy.admissionregistration.k8s.io \"y\" is invalid: [spec.mutations[0].jsonPatch: Required value: \
         must be specified when patchType is JSONPatch, spec.mutations[1].patchType: Unsupported value: \"X\": supported \
         values: \"ApplyConfiguration\", \"JSONPatch\", spec.mutations[2].patchType: Required value, \
         spec.mutations[3].applyConfiguration: Required value: must be specified when patchType is ApplyConfiguration, \
         spec.mutations[3].jsonPatch: Invalid value: \"{jsonPatch}\": must not be specified when patchType is \
         ApplyConfiguration]"
    );
    changing["spec"]["mutations"] = json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]);
    let kept = admin.post(&path, &changing).await;
    assert_eq!(kept.status, 201, "{}", kept.text());
    let warnings = kept.warnings();
    assert!(warnings[0].contains("no request is changed by it"), "{warnings:?}");
}
