//! A definition made from a Rust type, and its objects.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, CustomResource, CustomResourceExt as _, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::server::Server;
use super::{in_time, refusal};

/// What a box should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, CustomResource)]
#[kube(
    group = "rs.example.com",
    version = "v1",
    kind = "Box",
    plural = "boxes",
    namespaced,
    status = "BoxStatus"
)]
#[kube(
    derive = "PartialEq",
    shortname = "bx",
    printcolumn = r#"{"name":"Size","type":"integer","jsonPath":".spec.size"}"#
)]
#[kube(scale(spec_replicas_path = ".spec.size", status_replicas_path = ".status.seen"))]
#[kube(selectable = ".spec.color")]
pub(super) struct BoxSpec {
    /// How big.
    #[schemars(range(min = 1, max = 9))]
    pub(super) size: i32,
    /// Red, unless something is said.
    #[serde(default = "red")]
    pub(super) color: String,
    /// What is in it.
    #[serde(default)]
    pub(super) content: Option<Vec<String>>,
}

fn red() -> String {
    "red".into()
}

/// What a box is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct BoxStatus {
    /// The size that was seen.
    pub(super) seen: i32,
}

/// Has the server define boxes.
pub(super) async fn define(client: &Client) -> Api<Box> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .patch("boxes.rs.example.com", &PatchParams::apply("test").force(), &Patch::Apply(Box::crd()))
        .await
        .unwrap();
    let established = await_condition(definitions, "boxes.rs.example.com", conditions::is_crd_established());
    in_time(established).await.unwrap();
    Api::default_namespaced(client.clone())
}

#[tokio::test]
async fn a_type_is_a_definition() {
    let server = Server::start();
    let client = server.client().await;
    let boxes = define(&client).await;
    let spec = |size| BoxSpec { size, color: "blue".into(), content: Some(vec!["x".into()]) };
    let made = boxes.create(&PostParams::default(), &Box::new("b", spec(3))).await.unwrap();
    assert_eq!((made.spec.clone(), made.status.clone()), (spec(3), None));
    let (code, reason, message) =
        refusal(boxes.create(&PostParams::default(), &Box::new("c", spec(10))).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(
        message.contains("spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9"),
        "{message}"
    );
    // What is left out has its default.
    let head = json!({"apiVersion": "rs.example.com/v1", "kind": "Box", "metadata": {"name": "d"}});
    let with = |spec: Value| {
        let mut said = head.clone();
        said["spec"] = spec;
        Patch::Apply(said)
    };
    let said = with(json!({"size": 1, "more": 5}));
    let made = boxes.patch("d", &PatchParams::apply("test"), &said).await;
    // Server-side apply knows no such field; Kubernetes answers that with 500, too.
    let (code, _, message) = refusal(made);
    assert!(code == 500 && message.contains(".spec.more: field not declared in schema"), "{code} {message}");
    let said = with(json!({"size": 1}));
    let made = boxes.patch("d", &PatchParams::apply("test"), &said).await.unwrap();
    assert_eq!(made.spec.color, "red");
    // Status and scale are subresources of their own.
    let status = json!({"status": {"seen": 3}, "spec": {"size": 9}});
    let told = boxes.patch_status("b", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!((told.spec.size, told.status), (3, Some(BoxStatus { seen: 3 })));
    let scale = boxes
        .patch_scale("b", &PatchParams::default(), &Patch::Merge(json!({"spec": {"replicas": 4}})))
        .await
        .unwrap();
    assert_eq!(scale.status.unwrap().replicas, 3);
    assert_eq!(boxes.get("b").await.unwrap().spec.size, 4);
    let red = boxes.list(&ListParams::default().fields("spec.color=red")).await.unwrap();
    assert_eq!(red.iter().map(|found| found.name_any()).collect::<Vec<_>>(), ["d"]);

    // By discovery alone.
    let discovered = in_time(kube::discovery::group(&client, "rs.example.com")).await.unwrap();
    let (resource, can) = discovered.recommended_kind("Box").unwrap();
    assert!(resource.plural == "boxes" && can.supports_operation("watch"), "{resource:?}");
    let dynamic: Api<kube::api::DynamicObject> = Api::default_namespaced_with(client, &resource);
    assert_eq!(dynamic.get("d").await.unwrap().data["spec"]["color"], "red");
}
