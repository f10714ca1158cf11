//! The rights of manifests in `examples`.
#![allow(dead_code, reason = "each test has rights of its own")]

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use crate::rig::Rig;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");

/// Where objects of a kind are made.
fn path(document: &str) -> &'static str {
    let kind = document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap();
    match kind {
        "ConfigMap" => "/api/v1/namespaces/kube-system/configmaps",
        "DaemonSet" => "/apis/apps/v1/namespaces/kube-system/daemonsets",
        "ServiceAccount" => "/api/v1/namespaces/kube-system/serviceaccounts",
        "ClusterRole" => "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "ClusterRoleBinding" => "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        "Role" => "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/roles",
        "RoleBinding" => "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system/rolebindings",
        other => panic!("no path for {other}"),
    }
}

/// Makes what `examples/control.yaml` has, and `kubeconfig`, with which its service account works.
pub(crate) async fn admit(rig: &Rig) {
    admit_to(rig, "control.yaml", "sextant-control").await;
}

/// Makes what a manifest has, and `kubeconfig`, with which its service account of this name works.
pub(crate) async fn admit_to(rig: &Rig, example: &str, account: &str) {
    let manifest = std::fs::read_to_string(format!("{EXAMPLES}/{example}")).unwrap();
    for document in manifest.split("\n---\n") {
        let request = http::Request::post(path(document)).header("content-type", "application/yaml");
        let request = request.body(document.as_bytes().to_vec()).unwrap();
        rig.client.request::<Value>(request).await.unwrap();
    }
    let accounts: Api<ServiceAccount> = rig.objects_of("kube-system");
    let wish: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let token = accounts.create_token_request(account, &PostParams::default(), &wish).await.unwrap();
    let admin = Kubeconfig::read_from(rig.path("data/api/kubeconfig")).unwrap();
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "clusters": admin.clusters,
        "users": [{"name": "control", "user": {"token": token.status.unwrap().token}}],
        "contexts": [{"name": "control", "context": {"cluster": admin.clusters[0].name, "user": "control",
            "namespace": "kube-system"}}],
        "current-context": "control"});
    std::fs::write(rig.path("kubeconfig"), kubeconfig.to_string()).unwrap();
}
