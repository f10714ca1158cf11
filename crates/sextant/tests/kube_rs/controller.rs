//! A controller as Sextant's own will be: what an object wants is made, belongs to it, comes back when it is taken away, and is
//! tidied up before the object goes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{self, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::json;

use super::definition::{Box, BoxSpec, define};
use super::in_time;
use super::server::Server;

const FINALIZER: &str = "rs.example.com/tidy";

/// Makes `made-NAME` of a box, and writes `tidied-NAME` before it goes.
async fn reconcile(object: Arc<Box>, client: Arc<Client>) -> Result<Action, finalizer::Error<kube::Error>> {
    let maps: Api<ConfigMap> = Api::default_namespaced((*client).clone());
    let boxes: Api<Box> = Api::default_namespaced((*client).clone());
    finalizer(&boxes, FINALIZER, object, async |event| match event {
        finalizer::Event::Apply(object) => {
            let name = format!("made-{}", object.name_any());
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": name, "ownerReferences": [object.controller_owner_ref(&()).unwrap()]},
                "data": {"size": object.spec.size.to_string()}});
            maps.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(map)).await?;
            let seen = json!({"status": {"seen": object.spec.size}});
            boxes.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(seen)).await?;
            Ok(Action::await_change())
        }
        finalizer::Event::Cleanup(object) => {
            let map = json!({"metadata": {"name": format!("tidied-{}", object.name_any())}});
            maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await?;
            Ok(Action::await_change())
        }
    })
    .await
}

#[tokio::test]
async fn a_controller_keeps_what_belongs_to_an_object() {
    let server = Server::start();
    let client = server.client().await;
    let boxes = define(&client).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let config = Config::default().streaming_lists();
    let controller = Controller::new(boxes.clone(), config.clone()).owns(maps.clone(), config);
    let again = |_, _: &finalizer::Error<kube::Error>, _| Action::requeue(Duration::from_millis(200));
    let running = controller.run(reconcile, again, Arc::new(client)).for_each(|_| async {});
    let running = tokio::spawn(running);

    let spec = BoxSpec { size: 2, color: "red".into(), content: None };
    let made = boxes.create(&PostParams::default(), &Box::new("b", spec)).await.unwrap();
    let has = |size: &'static str| {
        move |map: Option<&ConfigMap>| {
            map.is_some_and(|map| map.data.as_ref().is_some_and(|data| data["size"] == size))
        }
    };
    let child = in_time(await_condition(maps.clone(), "made-b", has("2"))).await.unwrap().unwrap();
    assert_eq!(child.owner_references()[0].uid, made.uid().unwrap());
    // Another wish, and somebody who takes away what was made.
    boxes.patch("b", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": 5}}))).await.unwrap();
    in_time(await_condition(maps.clone(), "made-b", has("5"))).await.unwrap();
    maps.delete("made-b", &DeleteParams::default()).await.unwrap();
    let other = move |map: Option<&ConfigMap>| map.is_some_and(|map| map.uid() != child.uid());
    let child = in_time(await_condition(maps.clone(), "made-b", other)).await.unwrap().unwrap();
    let seen = |object: Option<&Box>| {
        object.is_some_and(|found| found.status.as_ref().is_some_and(|status| status.seen == 5))
    };
    in_time(await_condition(boxes.clone(), "b", seen)).await.unwrap();

    // It goes when it was tidied up, and what belongs to it goes after it.
    boxes.delete("b", &DeleteParams::default()).await.unwrap();
    in_time(await_condition(boxes.clone(), "b", conditions::is_deleted(&made.uid().unwrap()))).await.unwrap();
    maps.get("tidied-b").await.unwrap();
    in_time(await_condition(maps.clone(), "made-b", conditions::is_deleted(&child.uid().unwrap())))
        .await
        .unwrap();
    running.abort();
}
