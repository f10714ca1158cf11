use http::Method;
use serde_json::{Value, json};

use crate::rig::{CONFIG_MAPS, Rig, config_map};

#[tokio::test]
async fn an_object_lives_through_every_verb() {
    let rig = Rig::start().await;
    let made = rig.client.post(CONFIG_MAPS, &config_map("a", "1")).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let path = format!("{CONFIG_MAPS}/a");
    let mut object = rig.client.get(&path).await.json();
    assert_eq!(object["data"]["key"], "1");
    object["data"]["key"] = "2".into();
    let put = rig.client.with("content-type", "application/json");
    let put = put.send(Method::PUT, &path, object.to_string()).await;
    assert_eq!((put.status.as_u16(), put.json()["data"]["key"].clone()), (200, json!("2")));
    let merge = rig.client.with("content-type", "application/merge-patch+json");
    let patched = merge.send(Method::PATCH, &path, "{\"data\":{\"key\":\"3\"}}").await;
    assert_eq!(patched.json()["data"]["key"], "3", "{}", patched.text());
    let list = rig.client.get(CONFIG_MAPS).await.json();
    assert_eq!((list["kind"].as_str(), list["items"].as_array().unwrap().len()), (Some("ConfigMapList"), 1));
    let gone = rig.client.delete(&path).await.json();
    assert_eq!(gone["status"], "Success");
    let missing = rig.client.get(&path).await;
    assert_eq!(missing.refusal(), (404, "configmaps \"a\" not found".to_owned()));
}

#[tokio::test]
async fn answers_come_in_the_form_that_was_asked_for() {
    let rig = Rig::start().await;
    rig.client.post(CONFIG_MAPS, &config_map("a", "first\nsecond\n")).await;
    let path = format!("{CONFIG_MAPS}/a");
    let yaml = rig.client.with("accept", "application/yaml").get(&path).await;
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert!(yaml.text().contains("data:\n  key: |\n    first\n    second\n"), "{}", yaml.text());
    let table =
        rig.client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io").get(CONFIG_MAPS).await;
    let table = table.json();
    assert_eq!((table["kind"].as_str(), table["rows"][0]["cells"][0].as_str()), (Some("Table"), Some("a")));
    let only = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let metadata = rig.client.with("accept", only).get(&path).await.json();
    assert_eq!((metadata["kind"].as_str(), metadata.get("data")), (Some("PartialObjectMetadata"), None));
    let pretty = rig.client.get(&format!("{path}?pretty=true")).await;
    assert!(pretty.text().starts_with("{\n  \""), "{}", pretty.text());
    let curl = rig.client.with("user-agent", "curl/8").get(&path).await;
    assert!(curl.text().starts_with("{\n"));
}

#[tokio::test]
async fn tables_and_metadata_come_in_the_version_that_was_asked_for() {
    let rig = Rig::start().await;
    rig.client.post(CONFIG_MAPS, &config_map("a", "1")).await;
    let path = format!("{CONFIG_MAPS}/a");
    for version in ["v1", "v1beta1"] {
        let as_of = |kind: &str| {
            let accept = format!("application/json;as={kind};v={version};g=meta.k8s.io");
            rig.client.with("accept", &accept)
        };
        let told = |object: &Value| format!("{} {}", object["kind"], object["apiVersion"]).replace('"', "");
        let (table, metadata) = (as_of("Table"), as_of("PartialObjectMetadata"));
        let whole = format!("Table meta.k8s.io/{version}");
        let part = format!("PartialObjectMetadata meta.k8s.io/{version}");
        for path in [CONFIG_MAPS, &path] {
            let table = table.get(path).await.json();
            assert_eq!(told(&table), whole);
            assert_eq!(told(&table["rows"][0]["object"]), part);
        }
        let list = as_of("PartialObjectMetadataList").get(CONFIG_MAPS).await.json();
        assert_eq!(told(&list), format!("PartialObjectMetadataList meta.k8s.io/{version}"));
        assert_eq!(told(&list["items"][0]), part);
        assert_eq!(told(&metadata.get(&path).await.json()), part);
        let initial =
            "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
        for (client, wanted) in [(&table, &whole), (&metadata, &part)] {
            let mut frames = client.watch(&format!("{CONFIG_MAPS}?{initial}")).await;
            for kind in ["ADDED", "BOOKMARK"] {
                let frame = frames.next().await.unwrap();
                assert_eq!((&frame["type"], told(&frame["object"])), (&json!(kind), wanted.clone()));
                if wanted == &whole {
                    assert_eq!(told(&frame["object"]["rows"][0]["object"]), part);
                }
            }
        }
    }
    let other = rig.client.with("accept", "application/json;as=Table;v=v2;g=meta.k8s.io").get(&path).await;
    assert_eq!(other.status, 406, "{}", other.text());
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_as_kubernetes_does() {
    let rig = Rig::start().await;
    let client = &rig.client;
    let told = |answer: &crate::client::Answer| answer.refusal();
    assert_eq!(
        told(&client.get("/api/v1/namespaces/default/widgets").await),
        (404, "the server could not find the requested resource".to_owned())
    );
    assert_eq!(client.get("/apis/nope.io/v1/things").await.text(), "404 page not found\n");
    for path in ["/apis/apps/v9/deployments", "/apis/apps/v9", "/api/v2", "/api/v2/pods"] {
        let nothing = client.get(path).await;
        assert_eq!(
            told(&nothing),
            (404, "the server could not find the requested resource".to_owned()),
            "{path}"
        );
        assert!(nothing.text().ends_with("}\n"));
    }
    assert_eq!(client.get("/api/v1/namespaces//configmaps").await.json()["kind"], "ConfigMapList");
    assert_eq!(told(&client.get("/api/v1/configmaps/a").await).0, 404);
    assert_eq!(told(&client.send(Method::PUT, CONFIG_MAPS, "{}").await).0, 405);
    assert_eq!(told(&client.send(Method::OPTIONS, CONFIG_MAPS, "").await).0, 405);
    assert_eq!(told(&client.with("accept", "text/csv").get(CONFIG_MAPS).await).0, 406);
    let protobuf = client.with("accept", "application/vnd.kubernetes.protobuf");
    assert_eq!(told(&protobuf.get(CONFIG_MAPS).await).0, 406);
    let text = client.with("content-type", "text/plain").send(Method::POST, CONFIG_MAPS, "x").await;
    assert_eq!(
        told(&text),
        (
            415,
            "the body of the request was in an unknown format - accepted media types include: application/json, \
             application/yaml, application/vnd.kubernetes.protobuf"
                .to_owned()
        )
    );
    let patch = client.with("content-type", "application/json");
    let patch = patch.send(Method::PATCH, &format!("{CONFIG_MAPS}/a"), "{}").await;
    assert_eq!(told(&patch), (415, "415: Unsupported Media Type".to_owned()));
    assert_eq!(
        told(&client.get(&format!("{CONFIG_MAPS}?limit=x")).await),
        (400, "strconv.ParseInt: parsing \"x\": invalid syntax".to_owned())
    );
    assert_eq!(told(&client.get("/api/v1/namespaces/%zz").await).0, 400);
    assert_eq!(told(&client.get(&format!("{CONFIG_MAPS}?timeout=soon")).await).0, 400);
}

#[tokio::test]
async fn a_body_of_more_than_3_mib_is_refused_before_it_is_kept() {
    let rig = Rig::start().await;
    let large = config_map("large", &"x".repeat(3 * 1024 * 1024)).to_string();
    let client = rig.client.with("content-type", "application/json");
    let refused = client.send(Method::POST, CONFIG_MAPS, large).await;
    assert_eq!(refused.refusal(), (413, "Request entity too large: limit is 3145728".to_owned()));
    assert_eq!(refused.json()["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn large_lists_are_compressed_for_those_who_take_it() {
    use std::io::Read as _;
    let rig = Rig::start().await;
    for name in ["a", "b"] {
        rig.client.post(CONFIG_MAPS, &config_map(name, &"x".repeat(100 * 1024))).await;
    }
    let plain = rig.client.get(CONFIG_MAPS).await;
    assert!(plain.header("content-encoding").is_empty());
    let packed = rig.client.with("accept-encoding", "gzip").get(CONFIG_MAPS).await;
    assert_eq!(packed.header("content-encoding"), "gzip");
    assert!(packed.body.len() * 10 < plain.body.len());
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    let items = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap()["items"].clone();
    assert_eq!(items(&unpacked), items(&plain.body));
}
