//! Admission webhooks from end to end: real HTTPS servers that are asked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

use crate::client::Client;
use crate::hook::{Hook, Reply, configure, rules, unconfigure, webhook};
use crate::rig::{CONFIG_MAPS, config_map};
use crate::whole::{client, start, until};

const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SERVICES: &str = "/api/v1/namespaces/default/services";

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
}

fn deployment(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}},
    }})
}

fn allowed(request: &Value) -> Reply {
    Reply::review(request, json!({"allowed": true}))
}

async fn patched(client: &Client, path: &str, patch: &Value) -> crate::client::Answer {
    let client = client.with("content-type", "application/merge-patch+json");
    client.send(Method::PATCH, path, patch.to_string()).await
}

/// What the webhook at a path answers.
fn mode(path: &str, request: &Value) -> Reply {
    let patch = |patch: &str| STANDARD.encode(patch);
    let raw = |status: u16, body: &str| Reply { status, body: body.as_bytes().to_vec() };
    let review = |response: Value| Reply::review(request, response);
    let labels = patch(r#"[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]"#);
    match path.split('?').next().unwrap_or_default() {
        "/deny" => review(json!({"allowed": false})),
        "/denymsg" => review(json!({"allowed": false, "status": {"message": "no way", "code": 403}})),
        "/denyreason" => review(json!({"allowed": false, "status": {"reason": "NotFound", "code": 200}})),
        "/patch" => review(json!({"allowed": true, "patch": labels, "patchType": "JSONPatch"})),
        "/patchnotype" => review(json!({"allowed": true, "patch": labels})),
        "/typenopatch" => review(json!({"allowed": true, "patchType": "JSONPatch"})),
        "/badtype" => review(json!({"allowed": true, "patch": labels, "patchType": "Other"})),
        "/badpatch" => {
            review(json!({"allowed": true, "patch": patch("{\"a\":1}"), "patchType": "JSONPatch"}))
        }
        "/wrongpatch" => {
            let wrong = patch(r#"[{"op":"add","path":"/data","value":5}]"#);
            review(json!({"allowed": true, "patch": wrong, "patchType": "JSONPatch"}))
        }
        "/unknownpatch" => {
            let unknown = patch(r#"[{"op":"add","path":"/dato","value":5}]"#);
            review(json!({"allowed": true, "patch": unknown, "patchType": "JSONPatch"}))
        }
        "/baduid" => review(json!({"uid": "other", "allowed": true})),
        "/500" => raw(500, "oops"),
        "/404" => raw(404, "oops"),
        "/500json" => raw(500, r#"{"kind":"Status","apiVersion":"v1","message":"I am down","code":500}"#),
        "/nojson" => raw(200, ""),
        "/noresponse" => raw(200, r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#),
        "/nokind" => Reply {
            status: 200,
            body: json!({"response": {"uid": request["uid"], "allowed": true}}).to_string().into_bytes(),
        },
        "/beta" => Reply {
            status: 200,
            body: json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1",
                         "response": {"uid": request["uid"], "allowed": true}})
            .to_string()
            .into_bytes(),
        },
        _ => allowed(request),
    }
}

const INVALID: &str = "Internal error occurred: failed calling webhook \"one.example.com\": received invalid webhook response: ";
const CALLING: &str =
    "Internal error occurred: failed calling webhook \"one.example.com\": failed to call webhook: ";
const DENIED: &str = "admission webhook \"one.example.com\" denied the request";

/// What a kube-apiserver 1.36.2 answered where webhooks answered so; of a webhook that judges and of one that changes.
fn worded(path: &str, mutating: bool) -> (u16, String) {
    let invalid = |cause: &str| (500, format!("{INVALID}{cause}"));
    let calling = |cause: &str| (500, format!("{CALLING}{cause}"));
    match (path, mutating) {
        ("/deny", _) => (400, format!("{DENIED} without explanation")),
        ("/denymsg", _) => (403, format!("{DENIED}: no way")),
        ("/denyreason", _) => (400, format!("{DENIED}: NotFound")),
        ("/typenopatch", false) => invalid("validating webhook may not return response.patchType"),
        ("/typenopatch", true) => invalid("webhook returned response.patchType but not response.patch"),
        ("/patch" | "/patchnotype" | "/badtype" | "/badpatch" | "/wrongpatch" | "/unknownpatch", false) => {
            invalid("validating webhook may not return response.patch")
        }
        ("/patchnotype", true) => invalid("webhook returned response.patch but not response.patchType"),
        ("/badtype", true) => (
            500,
            "Internal error occurred: failed calling webhook \"one.example.com\": unsupported patch type \"Other\""
                .to_owned(),
        ),
        ("/badpatch", true) => (
            500,
            "Internal error occurred: failed calling webhook \"one.example.com\": received undecodable patch in webhook \
             response: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
                .to_owned(),
        ),
        ("/wrongpatch", true) => (
            500,
            "Internal error occurred: json: cannot unmarshal number into Go struct field ConfigMap.data of type \
             map[string]string"
                .to_owned(),
        ),
        ("/500", _) => {
            calling("an error on the server (\"unknown\") has prevented the request from succeeding")
        }
        ("/404", _) => calling("the server could not find the requested resource"),
        ("/500json", _) => calling("I am down"),
        ("/nojson", _) => {
            calling("0-length response with status code: 200 and content type: application/json")
        }
        ("/noresponse", _) => invalid("webhook response was absent"),
        ("/nokind", _) => invalid(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
        ),
        ("/beta", _) => {
            calling("converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion")
        }
        _ => (201, String::new()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_webhooks_are_told_as_kubernetes_tells_them() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let hook = Hook::start(mode).await;
    let paths = [
        "/deny",
        "/denymsg",
        "/denyreason",
        "/patch",
        "/patchnotype",
        "/typenopatch",
        "/badtype",
        "/badpatch",
        "/wrongpatch",
        "/unknownpatch",
        "/500",
        "/404",
        "/500json",
        "/nojson",
        "/noresponse",
        "/nokind",
        "/beta",
    ];
    for mutating in [false, true] {
        for path in paths {
            let about = rules("CREATE", "", "v1", "configmaps");
            let one = webhook("one", hook.client(path), about, &Value::Null);
            configure(&admin, mutating, "one", json!([one])).await;
            let name = format!("x{}{mutating}", path.replace('/', "-"));
            let answer = admin.post(CONFIG_MAPS, &config_map(&name, "1")).await;
            let found = if answer.status == 201 { (201, String::new()) } else { answer.refusal() };
            assert_eq!(found, worded(path, mutating), "{path} {mutating}");
            if answer.status == 201 {
                let labelled = path == "/patch";
                assert_eq!(answer.json()["metadata"]["labels"]["a"] == "b", labelled, "{}", answer.text());
                assert_eq!(answer.json().get("dato"), None);
            }
            unconfigure(&admin, mutating, "one").await;
        }
    }
    let about = || rules("CREATE", "", "v1", "configmaps");
    configure(&admin, false, "one", json!([webhook("one", hook.client("/baduid"), about(), &Value::Null)]))
        .await;
    let (code, message) = admin.post(CONFIG_MAPS, &config_map("y", "1")).await.refusal();
    assert!(code == 500 && message.starts_with(&format!("{INVALID}expected response.uid=\"")), "{message}");
    assert!(message.ends_with("\", got \"other\""), "{message}");
    unconfigure(&admin, false, "one").await;

    // Nobody is there, or somebody who is not who he should be.
    let nobody = json!({"url": "https://127.0.0.1:1/x", "caBundle": hook.authority});
    let untrusted = json!({"url": format!("https://{}/x", hook.address)});
    let other_name =
        json!({"url": format!("https://localhost:{}/x", hook.address.port()), "caBundle": hook.authority});
    let address = hook.address;
    for (client, cause) in [
        (
            nobody,
            "Post \"https://127.0.0.1:1/x?timeout=20s\": dial tcp 127.0.0.1:1: connect: connection refused"
                .to_owned(),
        ),
        (
            untrusted,
            format!(
                "Post \"https://{address}/x?timeout=20s\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
            ),
        ),
        (
            other_name,
            format!(
                "Post \"https://localhost:{}/x?timeout=20s\": tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, hook.default.svc, not localhost",
                address.port()
            ),
        ),
    ] {
        let one = webhook("one", client.clone(), about(), &Value::Null);
        configure(&admin, false, "one", json!([one])).await;
        let refused = admin.post(CONFIG_MAPS, &config_map("z", "1")).await.refusal();
        assert_eq!(refused, (500, format!("{CALLING}{cause}")));
        unconfigure(&admin, false, "one").await;
        // Who says that it does not matter is not told.
        let open = webhook("one", client, about(), &json!({"failurePolicy": "Ignore"}));
        configure(&admin, false, "one", json!([open])).await;
        let made = admin.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("z", "1")).await;
        assert_eq!(made.status, 201, "{}", made.text());
        unconfigure(&admin, false, "one").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_has_as_long_as_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let hook = Hook::start(mode).await;
    let about = rules("CREATE", "", "v1", "configmaps");
    let one = webhook("one", hook.client("/held"), about, &json!({"timeoutSeconds": 1}));
    configure(&admin, false, "one", json!([one])).await;
    let refused = admin.post(CONFIG_MAPS, &config_map("a", "1")).await.refusal();
    let cause = format!("Post \"https://{}/held?timeout=1s\": context deadline exceeded", hook.address);
    assert_eq!(refused, (500, format!("{CALLING}{cause}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_that_change_an_object_see_what_the_others_made_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let hook = Hook::start(|path, request| {
        let containers = request["object"]["spec"]["containers"].as_array().unwrap().len();
        let path = path.split('?').next().unwrap();
        match path {
            // It writes down how many containers it saw.
            "/count" => Reply::patch(
                request,
                &json!([{"op": "add", "path": "/metadata/labels", "value": {"seen": containers.to_string()}}]),
            ),
            "/sidecar" if containers == 1 => Reply::patch(
                request,
                &json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "side", "image": "y"}}]),
            ),
            _ => allowed(request),
        }
    })
    .await;
    let about = || rules("CREATE", "", "v1", "pods");
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let count = webhook("count", hook.client("/count"), about(), &again);
    let once = webhook("once", hook.client("/once"), about(), &Value::Null);
    configure(&admin, true, "a", json!([count, once])).await;
    configure(&admin, true, "b", json!([webhook("side", hook.client("/sidecar"), about(), &again)])).await;
    until(&admin, "/api/v1/namespaces/default/serviceaccounts/default", 200).await;
    let made = admin.post(PODS, &pod("p")).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let paths: Vec<String> = hook.asked.lock().unwrap().iter().map(|(path, _)| path.clone()).collect();
    let paths: Vec<&str> = paths.iter().map(|path| path.split('?').next().unwrap()).collect();
    // `/once` never wished to be asked again, `/sidecar` was changed after by `/count` alone.
    assert_eq!(&paths[..4], ["/count", "/once", "/sidecar", "/count"], "{paths:?}");
    assert!(!paths[4..].contains(&"/once"), "{paths:?}");
    assert_eq!(made["metadata"]["labels"]["seen"], "2");
    // What a webhook put in gets what the server itself gives.
    let side = &made["spec"]["containers"][1];
    assert_eq!(side["name"], "side");
    assert_eq!(side["volumeMounts"][0]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    assert_eq!(side["terminationMessagePath"], "/dev/termination-log", "defaults of the kind: {side}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_webhook_moves_an_object_into_another_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let hook = Hook::start(|_, request| {
        let elsewhere = json!([{"op": "add", "path": "/metadata/namespace", "value": "kube-system"}]);
        Reply::patch(request, &elsewhere)
    })
    .await;
    let mine = json!({"objectSelector": {"matchLabels": {"mine": "yes"}}});
    let one = webhook("one", hook.client("/"), rules("CREATE", "", "v1", "configmaps"), &mine);
    configure(&admin, true, "one", json!([one])).await;
    let mut map = config_map("moved", "1");
    map["metadata"]["labels"] = json!({"mine": "yes"});
    for path in [CONFIG_MAPS.to_owned(), format!("{CONFIG_MAPS}?dryRun=All")] {
        assert_eq!(
            admin.post(&path, &map).await.refusal(),
            (
                400,
                "the namespace of the provided object does not match the namespace sent on the request"
                    .to_owned()
            )
        );
    }
    for namespace in ["default", "kube-system"] {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/moved");
        assert_eq!(admin.get(&path).await.status, 404, "{namespace}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reviews_say_what_is_done_to_what() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let hook = Hook::start(|_, request| allowed(request)).await;
    until(&admin, "/api/v1/namespaces/default/serviceaccounts/default", 200).await;
    let selector = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}});
    let all = webhook("all", hook.client("/"), rules("*", "*", "*", "*/*"), &selector);
    configure(&admin, false, "all", json!([all])).await;
    let check = |what: &str, operation: &str, kind: [&str; 3], part: &str| {
        // What the server does meanwhile is shown too.
        let of_admin = |request: &Value| request["userInfo"]["username"] == "kubernetes-admin";
        let asked = hook.take();
        let request = asked.into_iter().find(|one| one["operation"] == operation && of_admin(one));
        let request = request.unwrap_or_else(|| panic!("{what}: it was not asked"));
        let [group, version, kind] = kind;
        assert_eq!(request["kind"], json!({"group": group, "version": version, "kind": kind}), "{what}");
        assert_eq!(request["requestKind"], request["kind"], "{what}");
        let told = request.get("subResource").and_then(Value::as_str).unwrap_or_default();
        assert_eq!(told, part, "{what}");
        assert_eq!(request["namespace"], "default", "{what}");
        request
    };
    assert_eq!(admin.post(PODS, &pod("p")).await.status, 201);
    let made = check("create", "CREATE", ["", "v1", "Pod"], "");
    assert_eq!(made["name"], "p");
    assert_eq!(made["oldObject"], Value::Null);
    assert_eq!(made["options"], json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}));
    assert_eq!(made["userInfo"]["username"], "kubernetes-admin");
    assert_eq!(made["dryRun"], false);
    assert_eq!(
        patched(&admin, &format!("{PODS}/p"), &json!({"metadata": {"labels": {"a": "b"}}})).await.status,
        200
    );
    let changed = check("patch", "UPDATE", ["", "v1", "Pod"], "");
    assert_eq!(changed["object"]["metadata"]["labels"]["a"], "b");
    assert_eq!(changed["oldObject"]["metadata"].get("labels"), None);
    let exec = admin
        .send(Method::POST, &format!("{PODS}/p/exec?command=ls&command=-l&stdout=true&container=c"), "")
        .await;
    assert!(exec.status.as_u16() >= 400, "nobody runs pods here");
    let exec = check("exec", "CONNECT", ["", "v1", "PodExecOptions"], "exec");
    assert_eq!(
        exec["object"],
        json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "container": "c", "command": ["ls", "-l"]})
    );
    assert_eq!((&exec["options"], &exec["name"]), (&Value::Null, &json!("p")));
    admin.send(Method::POST, &format!("{PODS}/p/portforward?ports=80"), "").await;
    let forward = check("portforward", "CONNECT", ["", "v1", "PodPortForwardOptions"], "portforward");
    assert_eq!(forward["object"]["ports"], json!([80]));
    let binding = json!({"metadata": {"name": "p"}, "target": {"name": "n1"}});
    assert_eq!(admin.post(&format!("{PODS}/p/binding"), &binding).await.status, 201);
    let binding = check("binding", "CREATE", ["", "v1", "Binding"], "binding");
    assert_eq!(binding["object"]["target"]["name"], "n1");
    assert_eq!(
        admin.post(&format!("{PODS}/p/eviction"), &json!({"metadata": {"name": "p"}})).await.status,
        201
    );
    let evicted = check("eviction", "CREATE", ["policy", "v1", "Eviction"], "eviction");
    assert_eq!(evicted["resource"], json!({"group": "", "version": "v1", "resource": "pods"}));
    let token =
        admin.post("/api/v1/namespaces/default/serviceaccounts/default/token", &json!({"spec": {}})).await;
    assert_eq!(token.status, 201, "{}", token.text());
    check("token", "CREATE", ["authentication.k8s.io", "v1", "TokenRequest"], "token");
    assert_eq!(admin.post(DEPLOYMENTS, &deployment("d")).await.status, 201);
    check("deployment", "CREATE", ["apps", "v1", "Deployment"], "");
    let scaled = patched(&admin, &format!("{DEPLOYMENTS}/d/scale"), &json!({"spec": {"replicas": 3}})).await;
    assert_eq!(scaled.status, 200, "{}", scaled.text());
    let scale = check("scale", "UPDATE", ["autoscaling", "v1", "Scale"], "scale");
    let replicas = [&scale["oldObject"]["spec"]["replicas"], &scale["object"]["spec"]["replicas"]];
    assert_eq!(replicas, [&json!(1), &json!(3)]);
    let generated = json!({"metadata": {"generateName": "g-"}, "spec": pod("x")["spec"]});
    let generated = admin.post(&format!("{PODS}?dryRun=All"), &generated).await.json();
    let seen = check("generateName", "CREATE", ["", "v1", "Pod"], "");
    assert_eq!(seen["name"], generated["metadata"]["name"]);
    assert_eq!(seen["object"]["metadata"]["uid"], generated["metadata"]["uid"]);
    assert_eq!((&seen["dryRun"], &seen["options"]["dryRun"]), (&json!(true), &json!(["All"])));
    assert_eq!(admin.delete(&format!("{DEPLOYMENTS}/d")).await.status, 200);
    let gone = check("delete", "DELETE", ["apps", "v1", "Deployment"], "");
    assert_eq!(gone["object"], Value::Null);
    assert_eq!(gone["oldObject"]["metadata"]["name"], "d");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_is_said_by_rules_selectors_and_conditions() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let hook = Hook::start(|_, request| allowed(request)).await;
    let scaler = json!({"metadata": {"name": "h"}, "spec": {
        "maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
    }});
    let in_v2 = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers?dryRun=All";
    let maps = format!("{CONFIG_MAPS}?dryRun=All");
    let mut labelled = config_map("l", "1");
    labelled["metadata"]["labels"] = json!({"app": "x"});
    let of_v1 = || rules("CREATE", "autoscaling", "v1", "horizontalpodautoscalers");
    let of_maps = || rules("CREATE", "", "v1", "configmaps");
    let condition = |expression: &str| json!({"matchConditions": [{"name": "c", "expression": expression}]});
    let cases: [(Value, Value, &str, &Value, bool); 12] = [
        (of_v1(), json!({"matchPolicy": "Equivalent"}), in_v2, &scaler, true),
        (of_v1(), json!({"matchPolicy": "Exact"}), in_v2, &scaler, false),
        (of_maps(), json!({"objectSelector": {"matchLabels": {"app": "x"}}}), &maps, &labelled, true),
        (of_maps(), json!({"objectSelector": {"matchLabels": {"app": "y"}}}), &maps, &labelled, false),
        (
            of_maps(),
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}),
            &maps,
            &labelled,
            true,
        ),
        (
            of_maps(),
            json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}),
            &maps,
            &labelled,
            false,
        ),
        (rules("UPDATE", "", "v1", "configmaps"), json!({}), &maps, &labelled, false),
        (rules("CREATE", "", "v1", "configmaps/status"), json!({}), &maps, &labelled, false),
        (
            of_maps(),
            condition("object.metadata.name == 'l' && request.userInfo.username == 'kubernetes-admin'"),
            &maps,
            &labelled,
            true,
        ),
        (of_maps(), condition("object.metadata.name == 'm'"), &maps, &labelled, false),
        (
            of_maps(),
            condition("authorizer.group('').resource('configmaps').check('delete').allowed()"),
            &maps,
            &labelled,
            true,
        ),
        (
            of_maps(),
            json!({"failurePolicy": "Ignore", "matchConditions": [{"name": "c", "expression": "object.nope == 1"}]}),
            &maps,
            &labelled,
            false,
        ),
    ];
    for (index, (about, more, path, object, wanted)) in cases.iter().enumerate() {
        let one = webhook("one", hook.client("/"), about.clone(), more);
        configure(&admin, false, "one", json!([one])).await;
        let made = admin.post(path, object).await;
        assert_eq!(made.status, 201, "{index}: {}", made.text());
        let asked = hook.take();
        assert_eq!(!asked.is_empty(), *wanted, "{index}: {more}");
        if index == 0 {
            assert_eq!(asked[0]["object"]["apiVersion"], "autoscaling/v1");
            assert_eq!(asked[0]["kind"]["version"], "v1");
            assert_eq!(asked[0]["requestKind"]["version"], "v2");
        }
        unconfigure(&admin, false, "one").await;
    }
    // A namespace is asked about by the labels that it is to have.
    let watched = json!({"namespaceSelector": {"matchLabels": {"watched": "yes"}}});
    let about = rules("UPDATE", "", "v1", "namespaces");
    configure(&admin, false, "one", json!([webhook("one", hook.client("/"), about, &watched)])).await;
    for (label, wanted) in [(json!("no"), 0), (json!("yes"), 1), (Value::Null, 0)] {
        let change = json!({"metadata": {"labels": {"watched": label}}});
        let changed = patched(&admin, "/api/v1/namespaces/default", &change).await;
        assert_eq!((changed.status.as_u16(), hook.take().len()), (200, wanted), "{label}");
    }
    unconfigure(&admin, false, "one").await;
    // Options of a connection have no labels that one could be without.
    let without = json!({"objectSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}});
    configure(
        &admin,
        false,
        "one",
        json!([webhook("one", hook.client("/"), rules("CONNECT", "", "v1", "pods/*"), &without)]),
    )
    .await;
    admin.send(Method::POST, &format!("{PODS}/p/exec?command=ls"), "").await;
    assert!(hook.take().is_empty());
    unconfigure(&admin, false, "one").await;
    let failing = json!({"matchConditions": [{"name": "c", "expression": "object.metadata.nope == 'x'"}]});
    configure(&admin, false, "one", json!([webhook("one", hook.client("/"), of_maps(), &failing)])).await;
    assert_eq!(
        admin.post(&maps, &labelled).await.refusal(),
        (
            403,
            "configmaps \"l\" is forbidden: expression 'object.metadata.nope == 'x'' resulted in error: no such key: nope"
                .to_owned()
        )
    );
    let wrong = json!({"metadata": {"name": "w"}, "webhooks": [webhook("w", hook.client("/"), of_maps(), &condition("request.nope"))]});
    let wrong = admin.post(crate::hook::configurations(false), &wrong).await.refusal();
    assert_eq!(wrong.0, 422);
    assert!(
        wrong.1.contains("webhooks[0].matchConditions[0].expression: Invalid value: \"request.nope\": compilation failed: ERROR: <input>:1:8: undefined field 'nope'"),
        "{}", wrong.1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_asked_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let hook =
        Hook::start(|_, request| Reply::review(request, json!({"allowed": true, "warnings": ["seen"]})))
            .await;
    let of_service = |name: &str, port: u16| json!({"service": {"namespace": "default", "name": name, "path": "/judge", "port": port}, "caBundle": hook.authority});
    let about = || rules("CREATE", "", "v1", "configmaps");
    configure(&admin, false, "one", json!([webhook("one", of_service("hook", 443), about(), &Value::Null)]))
        .await;
    let refused = || async { admin.post(CONFIG_MAPS, &config_map("a", "1")).await.refusal() };
    let post = "Post \"https://hook.default.svc:443/judge?timeout=20s\": ";
    assert_eq!(refused().await, (500, format!("{CALLING}{post}service \"hook\" not found")));
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "https", "port": 8443}]}});
    assert_eq!(admin.post(SERVICES, &service).await.status, 201);
    assert_eq!(
        refused().await,
        (500, format!("{CALLING}{post}no service port 443 found for service \"hook\""))
    );
    unconfigure(&admin, false, "one").await;
    configure(&admin, false, "one", json!([webhook("one", of_service("hook", 8443), about(), &Value::Null)]))
        .await;
    unconfigure(&admin, false, "one").await;
    // Endpoints are never on loopback, where this webhook is: it is reached by another name of it.
    let external =
        json!({"metadata": {"name": "hook"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    assert_eq!(admin.delete(&format!("{SERVICES}/hook")).await.status, 200);
    assert_eq!(admin.post(SERVICES, &external).await.status, 201);
    let port = hook.address.port();
    configure(&admin, false, "one", json!([webhook("one", of_service("hook", port), about(), &Value::Null)]))
        .await;
    let made = admin.post(CONFIG_MAPS, &config_map("a", "1")).await;
    assert_eq!((made.status.as_u16(), made.header("warning")), (201, "299 - \"seen\""), "{}", made.text());
    assert_eq!(hook.asked.lock().unwrap()[0].0, "/judge?timeout=20s");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_do_not_wait_for_the_webhooks_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let hook = Hook::start(|_, request| allowed(request)).await;
    let slow = json!({"objectSelector": {"matchLabels": {"slow": "yes"}}});
    let one = webhook("one", hook.client("/held"), rules("CREATE", "", "v1", "services"), &slow);
    configure(&admin, false, "one", json!([one])).await;
    let service = |name: &str, labels: Value| {
        json!({"metadata": {"name": name, "labels": labels},
               "spec": {"type": "NodePort", "clusterIP": "10.96.7.7", "ports": [{"port": 80, "nodePort": 30777}]}})
    };
    let (waiting, slow) = (admin.clone(), service("slow", json!({"slow": "yes"})));
    let waiting = tokio::spawn(async move { waiting.post(SERVICES, &slow).await });
    let mut is_asked = false;
    for _ in 0..36_000 {
        is_asked = !hook.asked.lock().unwrap().is_empty();
        if is_asked {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(is_asked, "the webhook is never asked about the first");
    // Another is made meanwhile, and does not get what the first was given.
    let (code, message) = admin.post(SERVICES, &service("quick", json!({}))).await.refusal();
    assert!(
        code == 422 && message.contains("failed to allocate IP 10.96.7.7: provided IP is already allocated"),
        "{message}"
    );
    // One that is refused whatever ports there are gives back nothing that it only named.
    let mut invalid = service("invalid", json!({}));
    invalid["spec"]["type"] = "ClusterIP".into();
    invalid["spec"]["clusterIP"] = "10.96.7.9".into();
    let (code, message) = admin.post(SERVICES, &invalid).await.refusal();
    assert!(code == 422 && message.contains("spec.ports[0].nodePort: Forbidden"), "{message}");
    let mut other = service("quick", json!({}));
    other["spec"]["clusterIP"] = "10.96.7.8".into();
    let (code, message) = admin.post(SERVICES, &other).await.refusal();
    assert!(code == 422 && message.contains("provided port is already allocated"), "{message}");
    other["spec"]["ports"][0]["nodePort"] = 30778.into();
    let quick = admin.post(SERVICES, &other).await;
    assert_eq!(quick.status, 201, "{}", quick.text());
    assert!(!waiting.is_finished());
    hook.held.add_permits(1);
    let slow = waiting.await.unwrap();
    assert_eq!(slow.status, 201, "{}", slow.text());
    assert_eq!(slow.json()["spec"]["clusterIP"], "10.96.7.7");
    // A refusal gives back what was promised.
    assert_eq!(admin.delete(&format!("{SERVICES}/slow")).await.status, 200);
    let again = admin.post(SERVICES, &service("again", json!({}))).await;
    assert_eq!(again.status, 201, "{}", again.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_noted_of_a_request_is_in_the_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &["h2"]);
    let noting = json!({"allowed": true, "auditAnnotations": {"because": "it is Thursday"}});
    let hook = Hook::start(move |_, request| Reply::review(request, noting.clone())).await;
    let about = rules("CREATE", "", "v1", "configmaps");
    configure(&admin, false, "one", json!([webhook("one", hook.client("/"), about, &Value::Null)])).await;
    assert_eq!(admin.post(CONFIG_MAPS, &config_map("noted", "1")).await.status, 201);
    until(&admin, "/api/v1/namespaces/default/serviceaccounts/default", 200).await;
    assert_eq!(admin.post(PODS, &pod("noted")).await.status, 201);
    let noted = |uri: &str, key: &str| {
        let log = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut posts = events.filter(|event| event["verb"] == "create" && event["requestURI"] == uri);
        posts.next().map(|event| event["annotations"][key].clone()).unwrap_or_default()
    };
    for (uri, key, wanted) in [
        (CONFIG_MAPS, "one.example.com/because", "it is Thursday"),
        (PODS, "pod-security.kubernetes.io/enforce-policy", "privileged:latest"),
    ] {
        for _ in 0..9000 {
            if noted(uri, key) == wanted {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(noted(uri, key), wanted, "{key}");
    }
}
