use http::Method;
use serde_json::json;

use crate::rig::Rig;

#[tokio::test]
async fn groups_and_resources_are_told() {
    let rig = Rig::start().await;
    let api = rig.client.get("/api").await.json();
    assert_eq!(api["kind"], "APIVersions");
    assert_eq!(api["versions"], json!(["v1"]));
    assert_eq!(api["serverAddressByClientCIDRs"][0]["serverAddress"], rig.client.address.to_string());
    let core = rig.client.get("/api/v1").await.json();
    assert_eq!(core["groupVersion"], "v1");
    let found =
        core["resources"].as_array().unwrap().iter().find(|resource| resource["name"] == "configmaps");
    let found = found.unwrap();
    assert_eq!(found["shortNames"], json!(["cm"]));
    assert_eq!(
        found["verbs"],
        json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"])
    );
    // As the real server has it for ConfigMaps that are kept in v1.
    assert_eq!(found["storageVersionHash"], "qFsyl6wFWjQ=");
    let groups = rig.client.get("/apis").await.json();
    assert_eq!(groups["kind"], "APIGroupList");
    assert_eq!(rig.client.get("/apis/nope.io").await.text(), "404 page not found\n");
}

#[tokio::test]
async fn aggregated_discovery_is_told_once() {
    let rig = Rig::start().await;
    let asking = rig.client.with(
        "accept",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
    );
    let answer = asking.get("/api").await;
    let kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    assert_eq!(answer.header("content-type"), kind);
    let told = answer.json();
    assert_eq!(told["apiVersion"], "apidiscovery.k8s.io/v2");
    let resources = told["items"][0]["versions"][0]["resources"].as_array().unwrap();
    let namespaces = resources.iter().find(|resource| resource["resource"] == "namespaces").unwrap();
    assert_eq!(namespaces["scope"], "Cluster");
    assert_eq!(namespaces["responseKind"], json!({"group": "", "version": "v1", "kind": "Namespace"}));
    let tag = answer.header("etag").to_owned();
    let again = asking.with("if-none-match", &tag).get("/api").await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    let other = rig.client.with("accept", "application/json").get("/api").await;
    assert_eq!(other.header("content-type"), "application/json");
}

#[tokio::test]
async fn version_health_and_metrics_are_there() {
    let rig = Rig::start().await;
    let version = rig.client.get("/version").await;
    assert_eq!(version.version, http::Version::HTTP_11);
    let version = version.json();
    assert_eq!((version["major"].as_str(), version["minor"].as_str()), (Some("1"), Some("36")));
    assert!(version["gitVersion"].as_str().unwrap().starts_with("v1.36.2+sextant"));
    for probe in ["healthz", "livez", "readyz"] {
        assert_eq!(rig.client.get(&format!("/{probe}")).await.text(), "ok");
        let told = rig.client.get(&format!("/{probe}?verbose")).await;
        assert!(told.text().starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n"), "{}", told.text());
        assert!(told.text().ends_with(&format!("{probe} check passed\n")), "{}", told.text());
        assert_eq!(rig.client.get(&format!("/{probe}/etcd")).await.text(), "ok");
        assert_eq!(rig.client.get(&format!("/{probe}/nope")).await.status, 404);
    }
    let excluded = rig.client.get("/livez?verbose&exclude=etcd&exclude=no&exclude=never").await;
    let warned =
        "warn: some health checks cannot be excluded: no matches for \"never\",\"no\"\nlivez check passed\n";
    assert!(excluded.text().contains("\n[+]etcd excluded: ok\n"), "{}", excluded.text());
    assert!(excluded.text().ends_with(warned), "{}", excluded.text());
    let metrics = rig.client.get("/metrics").await;
    let text = metrics.text();
    assert!(text.contains("apiserver_storage_objects{resource=\"namespaces\"} 1\n"), "{text}");
    let posted = "apiserver_request_total{code=\"201\",group=\"\",resource=\"namespaces\",subresource=\"\",\
                  verb=\"POST\",version=\"v1\"} 1\n";
    assert!(text.contains(posted), "{text}");
    let refused =
        rig.client.with("content-type", "application/json").send(Method::PUT, "/version", "{}").await;
    assert_eq!(
        refused.refusal(),
        (405, "the server does not allow this method on the requested resource".to_owned())
    );
    assert_eq!(rig.client.get("/nowhere").await.text(), "404 page not found\n");
    let head = rig.client.send(Method::HEAD, "/version", "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert!(!head.header("audit-id").is_empty());
}
