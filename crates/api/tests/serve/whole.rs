//! The whole server: TLS, certificates, tokens, roles.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::serve::{Instance, Options};
use base64::Engine as _;
use http::Method;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::client::Client;
use crate::rig::{CONFIG_MAPS, config_map};

pub(crate) async fn start(folder: &Path) -> Instance {
    let options = Options {
        folder: folder.to_owned(),
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        listen_ahead: Vec::new(),
        names: Vec::new(),
        kubeconfig: None,
        audit: Some((folder.join("audit.log"), 1 << 20, 1)),
        node: None,
    };
    Instance::start(options).await.unwrap()
}

/// What a kubeconfig holds under a key, decoded.
fn held(kubeconfig: &str, key: &str) -> Vec<u8> {
    let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: "))).unwrap();
    base64::engine::general_purpose::STANDARD.decode(line).unwrap()
}

/// A client that trusts the server; as the administrator, or as nobody.
pub(crate) fn client(instance: &Instance, admin: bool, protocols: &[&str]) -> Client {
    let kubeconfig = std::fs::read_to_string(instance.kubeconfig()).unwrap();
    let certificate = |key: &str| CertificateDer::from_pem_slice(&held(&kubeconfig, key)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate("certificate-authority-data")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if admin {
        let key = PrivateKeyDer::from_pem_slice(&held(&kubeconfig, "client-key-data")).unwrap();
        builder.with_client_auth_cert(vec![certificate("client-certificate-data")], key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Client { tls: Some(Arc::new(config)), ..Client::plain(instance.addresses()[0]) }
}

/// Asks until a path is answered so: what was just made is seen a moment later.
pub(crate) async fn until(client: &Client, path: &str, status: u16) {
    for _ in 0..9000 {
        if client.get(path).await.status == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{path}: never {status}, but {}", client.get(path).await.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_http_are_served_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let two = client(&instance, true, &["h2", "http/1.1"]);
    let namespaces = two.get("/api/v1/namespaces").await;
    assert_eq!(namespaces.version, http::Version::HTTP_2);
    let names: Vec<Value> = namespaces.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|namespace| namespace["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let one = client(&instance, true, &["http/1.1"]);
    assert_eq!(one.get("/readyz").await.version, http::Version::HTTP_11);
    let mut watch = two.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    assert_eq!(one.post(CONFIG_MAPS, &config_map("a", "1")).await.status, 201);
    while let Some(event) = watch.next().await {
        if event["object"]["metadata"]["name"] == "a" {
            break;
        }
    }
    drop(watch);
    instance.stop(Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_check_by_check_under_the_names_of_kubernetes() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let whom = "start-cluster-authentication-info-controller";
    for probe in ["healthz", "livez", "readyz"] {
        let told = admin.get(&format!("/{probe}?verbose")).await;
        assert_eq!(told.status, 200, "{}", told.text());
        for hook in ["crd-informer-synced", "apiservice-registration-controller"] {
            let line = format!("\n[+]poststarthook/{hook} ok\n");
            assert!(told.text().contains(&line), "no {line:?} in {}", told.text());
        }
        for made in ["rbac/bootstrap-roles", whom] {
            let line = format!("\n[+]poststarthook/{made} ok\n");
            assert_eq!(told.text().contains(&line), probe != "livez", "{line:?} in {}", told.text());
        }
        for only_ready in ["\n[+]informer-sync ok\n", "\n[+]shutdown ok\n"] {
            assert_eq!(told.text().contains(only_ready), probe == "readyz", "{}", told.text());
        }
    }
    let map = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    assert_eq!(admin.delete(map).await.status, 200);
    // What the start has done stays done.
    for path in ["/livez", "/readyz", "/healthz", &format!("/readyz/poststarthook/{whom}")] {
        let told = admin.get(path).await;
        assert_eq!((told.status.as_u16(), told.text()), (200, "ok"), "{path}");
    }
    instance.stop(Duration::from_secs(30)).await;
    // It is made again by the next start.
    let instance = start(dir.path()).await;
    assert_eq!(client(&instance, true, &[]).get(map).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_is_no_table() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    for version in ["v1", "v1beta1"] {
        for kind in ["Table", "PartialObjectMetadata"] {
            let accept = format!("application/json;as={kind};v={version};g=meta.k8s.io");
            let (code, message) = admin.with("accept", &accept).post(path, &review).await.refusal();
            assert_eq!(code, 406, "{message}");
            let either =
                admin.with("accept", &format!("{accept},application/json")).post(path, &review).await;
            assert_eq!((either.status.as_u16(), &either.json()["status"]["allowed"]), (201, &json!(true)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_health_and_version_alone() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let nobody = client(&instance, false, &[]);
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(nobody.get(path).await.status, 200, "{path}");
    }
    assert_eq!(
        nobody.get("/metrics").await.refusal(),
        (403, "forbidden: User \"system:anonymous\" cannot get path \"/metrics\"".to_owned())
    );
    assert_eq!(
        nobody.get(&format!("{CONFIG_MAPS}/a")).await.refusal(),
        (
            403,
            "configmaps \"a\" is forbidden: User \"system:anonymous\" cannot get resource \"configmaps\" in API group \
             \"\" in the namespace \"default\""
                .to_owned()
        )
    );
    assert_eq!(nobody.with("authorization", "Basic eDp5").get("/version").await.status, 200);
    let wrong = nobody.with("authorization", "Bearer nonsense").with("user-agent", "curl/8");
    let wrong = wrong.get("/version").await;
    assert_eq!(wrong.refusal(), (401, "Unauthorized".to_owned()));
    assert!(wrong.text().starts_with("{\n  \""), "{}", wrong.text());
    let log = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((last["kind"].as_str(), last["responseStatus"]["code"].as_u64()), (Some("Event"), Some(401)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_does_what_its_roles_allow_until_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin.post(accounts, &json!({"metadata": {"name": "bot"}})).await;
    let asked = json!({"spec": {"expirationSeconds": 600}});
    let issued = admin.post(&format!("{accounts}/bot/token"), &asked).await;
    assert_eq!(issued.status, 201, "{}", issued.text());
    let token = issued.json()["status"]["token"].as_str().unwrap().to_owned();
    let bot = client(&instance, false, &[]).with("authorization", &format!("Bearer {token}"));
    assert_eq!(bot.get(CONFIG_MAPS).await.status, 403);
    // Who tries in vain to act as somebody else is told of.
    assert_eq!(bot.with("impersonate-user", "kubernetes-admin").get(CONFIG_MAPS).await.status, 403);
    let log = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["user"]["username"], "system:serviceaccount:default:bot");
    assert_eq!(last["responseStatus"]["code"], 403);
    let binding = json!({
        "metadata": {"name": "bot"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let bound = admin.post(&format!("{rbac}/namespaces/default/rolebindings"), &binding).await;
    assert_eq!(bound.status, 201, "{}", bound.text());
    until(&bot, CONFIG_MAPS, 200).await;
    assert_eq!(bot.get("/api/v1/namespaces/default/secrets").await.status, 403);
    assert_eq!(bot.post(CONFIG_MAPS, &config_map("x", "1")).await.status, 403);

    let can = |verb: &str| json!({"spec": {"resourceAttributes": {"namespace": "default", "verb": verb, "resource": "configmaps"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let yes = bot.post(reviews, &can("list")).await.json();
    assert_eq!(yes["status"]["allowed"], true);
    assert!(
        yes["status"]["reason"]
            .as_str()
            .unwrap()
            .contains("RoleBinding \"bot/default\" of ClusterRole \"view\"")
    );
    assert_eq!(bot.post(reviews, &can("create")).await.json()["status"]["allowed"], false);

    let review = json!({"spec": {"token": token}});
    let told = admin.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.json();
    assert_eq!(told["status"]["user"]["username"], "system:serviceaccount:default:bot");

    admin.delete(&format!("{accounts}/bot")).await;
    until(&bot, CONFIG_MAPS, 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_what_he_has_not() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let binding = json!({
        "metadata": {"name": "jane"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    admin.post(&format!("{rbac}/namespaces/default/rolebindings"), &binding).await;
    let jane = admin.with("impersonate-user", "jane");
    let roles = format!("{rbac}/namespaces/default/roles");
    until(&jane, CONFIG_MAPS, 200).await;
    let role = |name: &str, resource: &str, verbs: Value| json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]});
    let held = jane.post(&roles, &role("held", "configmaps", json!(["get"]))).await;
    assert_eq!(held.status, 201, "{}", held.text());
    let refused = jane.post(&roles, &role("more", "nodes", json!(["get", "list"]))).await;
    assert_eq!(
        refused.refusal(),
        (
            403,
            "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is \
             attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], \
             Verbs:[\"get\" \"list\"]}"
                .to_owned()
        )
    );
    assert_eq!(jane.send(Method::GET, "/api/v1/nodes", "").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn ways_around_the_roles_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let anonymous = client(&instance, false, &[]);
    assert_eq!(anonymous.get("/version?timeout=99999999999999999999h").await.status, 200);
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({
        "metadata": {"name": "edits"},
        "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "update", "patch"]},
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["*"]},
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
             "verbs": ["get", "list", "create", "update", "patch"]},
        ],
    });
    let escalates = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edits"});
    let mallory = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]);
    let binding = json!({"metadata": {"name": "edits"}, "roleRef": escalates, "subjects": mallory});
    assert_eq!(admin.post(&format!("{rbac}/clusterroles"), &role).await.status, 201);
    assert_eq!(admin.post(&format!("{rbac}/namespaces/default/rolebindings"), &binding).await.status, 201);
    let mallory = admin.with("impersonate-user", "mallory");
    until(&mallory, "/api/v1/namespaces/default", 200).await;
    // Rights in a namespace are none in another.
    assert_eq!(mallory.get("/api/v1/namespaces/kube-system").await.status, 403);
    for path in ["/api/v1/namespaces/default/namespaces/kube-system", "/api/v1/namespaces/default/namespaces"]
    {
        assert_eq!(mallory.get(path).await.status, 404, "{path}");
    }
    // Who may update does not create by it.
    let lease = json!({"metadata": {"name": "x"}}).to_string();
    let made =
        mallory.send(Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/default/leases/x", lease).await;
    assert_eq!(made.status, 403, "{}", made.text());
    assert!(made.text().contains("cannot create resource"), "{}", made.text());
    // Who may write roles gathers no rights in one.
    assert_eq!(admin.post(&format!("{rbac}/clusterrolebindings"), &binding).await.status, 201);
    until(&mallory, &format!("{rbac}/clusterroles"), 200).await;
    let all =
        json!({"clusterRoleSelectors": [{"matchLabels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}]});
    let evil = json!({"metadata": {"name": "evil"}, "aggregationRule": all});
    assert_eq!(mallory.post(&format!("{rbac}/clusterroles"), &evil).await.status, 403);
    let mut labelled = admin.get(&format!("{rbac}/clusterroles/cluster-admin")).await.json();
    labelled["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] = json!("true");
    let path = format!("{rbac}/clusterroles/cluster-admin");
    assert_eq!(mallory.send(Method::PUT, &path, labelled.to_string()).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    admin.post(accounts, &json!({"metadata": {"name": "bot"}})).await;
    let issued = admin.post(&format!("{accounts}/bot/token"), &json!({"spec": {}})).await.json();
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    instance.stop(Duration::from_secs(30)).await;
    let again = start(dir.path()).await;
    let review = json!({"spec": {"token": token}});
    let told = client(&again, true, &[]).post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    assert_eq!(told.json()["status"]["authenticated"], true, "{}", told.text());
    let keys = client(&again, true, &[]).get("/openid/v1/jwks").await.json();
    assert_eq!(keys["keys"][0]["alg"], "ES256");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_for_a_token_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let admin = client(&instance, true, &[]);
    admin.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "old"}})).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({
        "metadata": {"name": "old-token", "annotations": {"kubernetes.io/service-account.name": "old"}},
        "type": "kubernetes.io/service-account-token",
    });
    let made = admin.post(secrets, &secret).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let mut token = String::new();
    for _ in 0..9000 {
        let found = admin.get(&format!("{secrets}/old-token")).await.json();
        if let Some(data) = found["data"]["token"].as_str() {
            token =
                String::from_utf8(base64::engine::general_purpose::STANDARD.decode(data).unwrap()).unwrap();
            assert_eq!(found["data"]["namespace"], "ZGVmYXVsdA==");
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let review = json!({"spec": {"token": token}});
    let told = admin.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await.json();
    assert_eq!(told["status"]["user"]["username"], "system:serviceaccount:default:old", "{told}");
    admin.delete("/api/v1/namespaces/default/serviceaccounts/old").await;
    until(&admin, &format!("{secrets}/old-token"), 404).await;
}
