use super::*;
use crate::contract::Object;
use crate::contract::field::FieldErrors;
use crate::resource::{Column, Names, Part, Strategy, Verbs};
use crate::schema::{Arena, Node, Schema, builtin};
use std::sync::Arc;

/// A kind of which only the schema is looked at.
struct Kind {
    builtin: Option<&'static str>,
    arena: Arena,
    openapi: Option<Value>,
    parts: Vec<Part>,
}

impl Strategy for Kind {
    fn schema(&self) -> Schema<'_> {
        self.builtin.map_or_else(|| self.arena.schema(0), |name| builtin(name).unwrap())
    }
    fn openapi(&self) -> Option<Value> {
        self.openapi.clone()
    }
    fn default(&self, _: &mut Object) {}
    fn prepare_update(&self, _: Part, _: &mut Object, _: &Object) {}
    fn validate(&self, _: &Object) -> FieldErrors {
        FieldErrors::default()
    }
    fn validate_update(&self, _: Part, _: &Object, _: &Object) -> FieldErrors {
        FieldErrors::default()
    }
    fn name_errors(&self, _: &str, _: bool) -> Vec<String> {
        Vec::new()
    }
    fn parts(&self) -> &[Part] {
        &self.parts
    }
    fn columns(&self) -> Vec<Column> {
        Vec::new()
    }
    fn row(&self, _: &Object, _: i64) -> Vec<Value> {
        Vec::new()
    }
}

fn resource(group: &'static str, plural: &'static str, kind: &'static str, strategy: Kind) -> Resource {
    Resource {
        names: Names {
            group: group.into(),
            version: "v1".into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            short: Vec::new(),
            categories: Vec::new(),
        },
        namespaced: true,
        verbs: Verbs::ALL,
        stored_as: plural.into(),
        storage_version: "v1".into(),
        strategy: Arc::new(strategy),
    }
}

fn resources() -> Vec<Resource> {
    let own = |name, parts| Kind { builtin: Some(name), arena: Arena::default(), openapi: None, parts };
    let foo = json!({
        "type": "object", "description": "A foo.",
        "properties": {"spec": {"type": "object", "properties": {"default": {"type": "integer", "default": 3}}}},
    });
    let arena = Arena { nodes: vec![Node::default()] };
    vec![
        resource("", "pods", "Pod", own("io.k8s.api.core.v1.Pod", vec![Part::Status])),
        resource(
            "apps",
            "deployments",
            "Deployment",
            own("io.k8s.api.apps.v1.Deployment", vec![Part::Status, Part::Scale]),
        ),
        resource("x.io", "foos", "Foo", Kind { builtin: None, arena, openapi: Some(foo), parts: Vec::new() }),
    ]
}

/// Every reference leads somewhere.
fn complete(document: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
            }
            map.values().for_each(|value| complete(document, value));
        }
        Value::Array(list) => list.iter().for_each(|value| complete(document, value)),
        _ => {}
    }
}

#[test]
fn the_second_version_has_what_kubectl_looks_for() {
    let document = v2(&resources());
    complete(&document, &document);
    let pod = &document["definitions"]["io.k8s.api.core.v1.Pod"];
    assert_eq!(
        pod["x-kubernetes-group-version-kind"],
        json!([{"group": "", "kind": "Pod", "version": "v1"}])
    );
    let ports = &document["definitions"]["io.k8s.api.core.v1.Container"]["properties"]["ports"];
    assert_eq!(ports["x-kubernetes-patch-merge-key"], "containerPort");
    assert_eq!(ports["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    assert!(patch["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == "dryRun"));
    let quantity = &document["definitions"]["io.k8s.apimachinery.pkg.api.resource.Quantity"];
    assert_eq!(quantity["type"], "string");
    // A field that is called like a keyword is a field.
    let spec = &document["definitions"]["io.x.v1.Foo"]["properties"]["spec"];
    assert_eq!(spec["properties"]["default"], json!({"type": "integer"}));
}

#[test]
fn the_third_version_has_a_document_for_each_group_version() {
    let resources = resources();
    let index = v3_paths(&resources);
    let paths: Vec<&String> = index["paths"].as_object().unwrap().keys().collect();
    let told = [
        ".well-known/openid-configuration",
        "api",
        "api/v1",
        "apis",
        "apis/apps",
        "apis/apps/v1",
        "apis/x.io",
        "apis/x.io/v1",
        "openid/v1/jwks",
        "version",
    ];
    assert_eq!(paths, told);
    for place in told {
        let document = v3(&resources, place).unwrap();
        complete(&document, &document);
        assert!(!document["paths"].as_object().unwrap().is_empty(), "{place}");
    }
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");

    let group = v3(&resources, "apis/apps").unwrap();
    assert_eq!(group["paths"]["/apis/apps/"]["get"]["operationId"], "getAppsAPIGroup");

    let core = v3(&resources, "api/v1").unwrap();
    let pod = "/api/v1/namespaces/{namespace}/pods/{name}";
    assert_eq!(core["paths"][format!("{pod}/log")]["get"]["operationId"], "readCoreV1NamespacedPodLog");
    let exec = &core["paths"][format!("{pod}/exec")]["post"];
    assert_eq!(exec["operationId"], "connectCoreV1PostNamespacedPodExec");
    assert_eq!(exec["x-kubernetes-group-version-kind"]["kind"], "PodExecOptions");
    assert_eq!(exec["responses"]["200"]["content"]["*/*"]["schema"], json!({"type": "string"}));
    let watch = &core["paths"]["/api/v1/watch/namespaces/{namespace}/pods/{name}"]["get"];
    assert_eq!(watch["operationId"], "watchCoreV1NamespacedPod");
    let watches = &core["paths"]["/api/v1/watch/pods"]["get"];
    assert_eq!(watches["operationId"], "watchCoreV1PodListForAllNamespaces");
    assert_eq!(core["paths"]["/api/v1/"]["get"]["operationId"], "getCoreV1APIResources");

    let apps = v3(&resources, "apis/apps/v1").unwrap();
    complete(&apps, &apps);
    let schemas = &apps["components"]["schemas"];
    assert_eq!(
        schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["selector"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"
    );
    assert_eq!(schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["default"], "TCP");
    assert_eq!(
        schemas["io.k8s.api.autoscaling.v1.Scale"]["x-kubernetes-group-version-kind"][0]["kind"],
        "Scale"
    );
    assert_eq!(schemas["io.k8s.api.apps.v1.DeploymentList"]["properties"]["items"]["type"], "array");
    assert!(
        apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"].is_object()
    );
    assert!(schemas.get("io.x.v1.Foo").is_none());

    let custom = v3(&resources, "apis/x.io/v1").unwrap();
    complete(&custom, &custom);
    let foo = &custom["components"]["schemas"]["io.x.v1.Foo"];
    assert_eq!(foo["description"], "A foo.");
    assert_eq!(foo["properties"]["spec"]["properties"]["default"]["default"], 3);
    assert!(v3(&resources, "apis/y.io/v1").is_none());
    assert!(v3(&resources, "apis/y.io").is_none());
    assert!(v3(&resources, "nowhere").is_none());
}

#[test]
fn the_index_changes_with_what_it_tells() {
    let resources = resources();
    let url = |resources: &[Resource]| v3_paths(resources)["paths"]["api/v1"]["serverRelativeURL"].clone();
    assert_eq!(url(&resources), url(&resources));
    assert_ne!(url(&resources), url(&resources[..1]));
}

#[test]
fn the_second_version_tells_of_custom_resources_what_kubectl_can_read() {
    let custom = |plural, kind, openapi| {
        let arena = Arena { nodes: vec![Node::default()] };
        resource(
            "x.io",
            plural,
            kind,
            Kind { builtin: None, arena, openapi: Some(openapi), parts: Vec::new() },
        )
    };
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut known = free.clone();
    known["properties"] = json!({"a": {"type": "string"}});
    let spec = json!({
        "type": "object", "required": ["maybe", "free"],
        "properties": {"free": known, "maybe": {"type": "string", "nullable": true}},
    });
    let resources = [
        custom("gadgets", "Gadget", free),
        custom("widgets", "Widget", json!({"type": "object", "properties": {"spec": spec}})),
    ];
    let second = v2(&resources);
    let gadget = &second["definitions"]["io.x.v1.Gadget"];
    let kinds = json!([{"group": "x.io", "kind": "Gadget", "version": "v1"}]);
    assert_eq!(*gadget, json!({"type": "object", "x-kubernetes-group-version-kind": kinds}));
    let spec = &second["definitions"]["io.x.v1.Widget"]["properties"]["spec"];
    assert_eq!(spec["properties"]["free"], json!({"x-kubernetes-preserve-unknown-fields": true}));
    assert_eq!(spec["properties"]["maybe"], json!({}));
    assert_eq!(spec["required"], json!(["free"]));
    let third = v3(&resources, "apis/x.io/v1").unwrap();
    let told = &third["components"]["schemas"]["io.x.v1.Widget"]["properties"]["spec"]["properties"]["free"];
    assert_eq!(told["properties"]["a"]["type"], "string", "v3 tells all of it");
}
