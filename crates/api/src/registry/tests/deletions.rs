//! What goes, and what becomes of those that it owns.

use super::*;
use crate::admission::{Operation, Request};
use crate::registry::options::Propagation;
use crate::registry::{BoxFuture, Meta, PatchKind};
use crate::store::{Expect, Key, Write};

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    })
}

async fn account(rig: &Rig) {
    rig.create("v1", "ServiceAccount", "default", json!({"metadata": {"name": "default"}})).await.unwrap();
}

#[tokio::test]
async fn a_forced_deletion_is_told_before_the_pod_is_gone() {
    let rig = Rig::new().await;
    account(&rig).await;
    let made = rig.create("v1", "Pod", "default", pod("p")).await.unwrap();
    let pods = rig.target("v1", "Pod", "default", "");
    let options =
        ListOptions { watch: true, version: made.resource_version().to_owned(), ..ListOptions::default() };
    let mut watching = rig.registry.watch(&rig.context, &pods, &options, View::Full).await.unwrap();
    let options = DeleteOptions { grace: Some(0), ..DeleteOptions::default() };
    let answer = rig.delete(&pods.named("p"), &options).await.unwrap();
    assert_eq!(answer["metadata"]["deletionGracePeriodSeconds"], 0);
    for told in ["MODIFIED", "DELETED"] {
        let frame: Value = serde_json::from_slice(&watching.next().await.unwrap()).unwrap();
        let metadata = &frame["object"]["metadata"];
        assert_eq!(frame["type"], told);
        assert!(metadata["deletionTimestamp"].is_string(), "{frame}");
        assert_eq!(
            (&metadata["deletionGracePeriodSeconds"], &metadata["generation"]),
            (&json!(0), &json!(2))
        );
    }
}

#[tokio::test]
async fn pods_of_a_job_stay_unless_it_is_said_what_becomes_of_them() {
    let rig = Rig::new().await;
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let job = |name: &str| json!({"metadata": {"name": name}, "spec": {"template": template}});
    for name in ["a", "b"] {
        rig.create("batch/v1", "Job", "default", job(name)).await.unwrap();
    }
    let target = |name: &str| rig.target("batch/v1", "Job", "default", name);
    drop(rig.context.warnings.take());
    rig.delete(&target("a"), &DeleteOptions::default()).await.unwrap();
    let held = rig.get(&target("a")).await.unwrap();
    assert_eq!(held.finalizers().collect::<Vec<_>>(), ["orphan"]);
    let warnings = rig.context.warnings.take();
    assert!(
        warnings[0].starts_with("child pods are preserved by default when jobs are deleted"),
        "{warnings:?}"
    );
    let background = DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
    rig.delete(&target("b"), &background).await.unwrap();
    assert!(rig.get(&target("b")).await.is_err());
    assert_eq!(rig.context.warnings.take(), [""; 0]);
}

#[tokio::test]
async fn a_patch_of_a_scale_is_read_as_a_scale() {
    let rig = Rig::new().await;
    let labels = json!({"a": "b"});
    let object = json!({
        "metadata": {"name": "d"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    rig.create("apps/v1", "Deployment", "default", object).await.unwrap();
    let target = rig.target("apps/v1", "Deployment", "default", "d");
    let patch = async |patch: Value| {
        let body = Bytes::from(patch.to_string());
        rig.registry.patch(&rig.context, &target, Part::Scale, PatchKind::Merge, body, View::Full).await
    };
    let replicas = async || rig.get(&target).await.unwrap().0["spec"]["replicas"].clone();
    for wrong in [json!("5"), json!(3.5), json!(3_000_000_000_i64), json!({})] {
        let refused = patch(json!({"spec": {"replicas": wrong}})).await.unwrap_err();
        assert_eq!(refused.code, 422, "{wrong}: {refused}");
        assert_eq!(replicas().await, 3);
    }
    assert_eq!(value_of(&patch(json!({"spec": {"replicas": 5}})).await.unwrap())["spec"]["replicas"], 5);
    assert_eq!(replicas().await, 5);
    let table = View::Table(crate::registry::Include::None, Meta::V1);
    let shown = rig.registry.get(&rig.context, &target, Part::Scale, "", table).await.unwrap();
    let shown = value_of(&shown);
    let names: Vec<&Value> =
        shown["columnDefinitions"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["Name", "Desired", "Available", "Age"]);
    let cells = |answer: &Answer| value_of(answer)["rows"][0]["cells"].as_array().unwrap()[..3].to_vec();
    assert_eq!(shown["rows"][0]["cells"].as_array().unwrap()[..3], [json!("d"), json!(5), json!(0)]);
    // Writes are told in the form that is asked for, too.
    let body = Bytes::from(json!({"spec": {"replicas": 6}}).to_string());
    let (context, registry) = (&rig.context, &rig.registry);
    let patched = registry.patch(context, &target, Part::Scale, PatchKind::Merge, body, table).await.unwrap();
    assert_eq!(cells(&patched), [json!("d"), json!(6), json!(0)]);
    let scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 7},
    });
    let put = registry.update(context, &target, Part::Scale, super::body(&scale), table).await.unwrap();
    assert_eq!(cells(&put), [json!("d"), json!(7), json!(0)]);
}

#[tokio::test]
async fn members_that_a_json_patch_does_not_have_are_told() {
    let mut rig = Rig::new().await;
    rig.create_map("m", json!({})).await;
    let target = rig.map("m");
    let body =
        || Bytes::from(json!([{"op": "add", "path": "/data/b", "value": "2", "vaule": "3"}]).to_string());
    rig.registry.patch(&rig.context, &target, Part::Main, PatchKind::Json, body(), View::Full).await.unwrap();
    assert_eq!(rig.context.warnings.take(), ["json patch unknown field \"[0].vaule\""]);
    rig.context.validation = crate::decode::FieldValidation::Strict;
    let patch = rig.registry.patch(&rig.context, &target, Part::Main, PatchKind::Json, body(), View::Full);
    let refused = patch.await.unwrap_err();
    assert_eq!(refused.code, 422);
    let end = ": strict decoding error: json patch unknown field \"[0].vaule\"";
    assert!(refused.message.ends_with(end), "{}", refused.message);
}

#[tokio::test]
async fn what_a_patch_has_twice_is_told_with_what_is_unknown() {
    use crate::decode::FieldValidation;
    let rig = Rig::new().await;
    rig.create_map("m", json!({})).await;
    let target = rig.map("m");
    let merge = r#"{"data":{"a":"b","a":"c"},"foo":1}"#;
    let json = r#"[{"op":"add","op":"add","path":"/data/b","value":"2"}]"#;
    let apply = "apiVersion: v1\nkind: ConfigMap\ndata:\n  a: b\n  a: c\n";
    let (twice, unknown) = (r#"duplicate field "data.a""#, r#"unknown field "foo""#);
    let (of_json, of_yaml) =
        (r#"json patch duplicate field "[0].op""#, r#"line 5: key "a" already set in map"#);
    let strict = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  ";
    let both = format!(": strict decoding error: {twice}, {unknown}");
    let cases = [
        (PatchKind::Merge, merge, vec![twice.to_owned(), unknown.to_owned()], (422, both.clone())),
        (PatchKind::Strategic, merge, vec![twice.to_owned(), unknown.to_owned()], (422, both)),
        (
            PatchKind::Json,
            json,
            vec![of_json.to_owned()],
            (422, format!(": strict decoding error: {of_json}")),
        ),
        (PatchKind::Apply, apply, vec![of_yaml.to_owned()], (400, format!("{strict}{of_yaml}"))),
    ];
    for (kind, body, told, (code, end)) in cases {
        let wishes = [FieldValidation::Strict, FieldValidation::Warn, FieldValidation::Ignore];
        for validation in wishes {
            let context = Context { validation, ..rig.context.clone() };
            let patched =
                rig.registry.patch(&context, &target, Part::Main, kind, body.into(), View::Full).await;
            let warnings = context.warnings.take();
            match validation {
                FieldValidation::Strict => {
                    let refused = patched.unwrap_err();
                    assert_eq!((refused.code, refused.message.ends_with(&end)), (code, true), "{refused:?}");
                }
                FieldValidation::Warn => assert_eq!((patched.is_ok(), &warnings), (true, &told), "{kind:?}"),
                FieldValidation::Ignore => assert!(patched.is_ok() && warnings.is_empty(), "{warnings:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_refused_patch_shows_no_more_of_a_large_object_than_anybody_reads() {
    let rig = Rig::new().await;
    rig.create_map("m", json!({})).await;
    let target = rig.map("m");
    let context = Context { validation: crate::decode::FieldValidation::Strict, ..rig.context.clone() };
    let patch = json!({"data": {"a": "x".repeat(1 << 20)}, "foo": 1}).to_string();
    for kind in [PatchKind::Merge, PatchKind::Strategic] {
        let patch = patch.clone().into();
        let patched = rig.registry.patch(&context, &target, Part::Main, kind, patch, View::Full);
        let refused = patched.await.unwrap_err();
        let end = r#"...": strict decoding error: unknown field "foo""#;
        assert!(refused.code == 422 && refused.message.ends_with(end), "{}", refused.code);
        let length = refused.to_value().to_string().len();
        assert!((32 << 10..40 << 10).contains(&length), "{length}");
    }
}

/// Takes the namespace away while an object is on its way into it.
struct Sweeper;

impl Admission for Sweeper {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.is(Operation::Create, "configmaps") && request.target.namespace == "brief"
    }

    fn validate<'a>(&'a self, request: &'a Request<'_>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let key =
                Key { resource: "namespaces".to_owned(), namespace: String::new(), name: "brief".to_owned() };
            let write = Write { key, expect: Expect::Any, value: None };
            request.registry.store().commit(vec![write]).await.unwrap();
            Ok(())
        })
    }
}

#[tokio::test]
async fn nothing_lands_in_a_namespace_that_has_gone_meanwhile() {
    let rig = Rig::with(Arc::new(Sweeper)).await;
    rig.create("v1", "Namespace", "", json!({"metadata": {"name": "brief"}})).await.unwrap();
    let refused =
        rig.create("v1", "ConfigMap", "brief", json!({"metadata": {"name": "late"}})).await.unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (404, "namespaces \"brief\" not found"));
    assert!(rig.registry.peek("configmaps", "brief", "late").unwrap().is_none());
}

#[tokio::test]
async fn nobody_owns_what_only_the_server_says_of_a_request_for_a_certificate() {
    let rig = Rig::new().await;
    let target = rig.target("certificates.k8s.io/v1", "CertificateSigningRequest", "", "");
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let request = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, request);
    let object = json!({
        "metadata": {"name": "csr"},
        "spec": {"request": request, "signerName": "example.com/x", "usages": ["client auth"]},
    });
    let made = rig.create("certificates.k8s.io/v1", "CertificateSigningRequest", "", object).await.unwrap();
    assert!(made.at(&["metadata", "managedFields"]).is_none(), "{made:?}");
    let body = Bytes::from(json!({"spec": {"username": "x"}}).to_string());
    let target = target.named("csr");
    let patched =
        rig.registry.patch(&rig.context, &target, Part::Main, PatchKind::Merge, body, View::Full).await;
    assert_eq!(object_of(&patched.unwrap()).resource_version(), made.resource_version());
}
