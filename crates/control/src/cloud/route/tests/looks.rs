//! What the controller does at a look, to the last request.

use cpi::contract::{Error, Route};
use serde_json::{Value, json};

use super::super::super::tests::stand::{Server, Told};
use super::super::{Controller, Trouble, waiting, withdraw};

fn named(name: &str, range: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"podCIDRs": [range]}})
}

/// What a node says of the way to its pods.
fn reason(server: &Server, name: &str) -> String {
    let node = server.node(name).unwrap();
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|one| one["type"] == "NetworkUnavailable");
    found.map(|one| one["reason"].as_str().unwrap().to_owned()).unwrap_or_default()
}

async fn look(server: &Server, cloud: &Told) {
    let context = server.context().await;
    let waiting = waiting(&context);
    Controller { context, routes: cloud, waiting }.look().await.unwrap();
}

#[tokio::test]
async fn routes_are_made_and_said_and_asked_for_no_more() {
    let nodes = [named("node-1", "10.120.0.0/24"), named("node-2", "10.120.1.0/24")];
    let (server, cloud) = (Server::with(nodes), Told::default());
    look(&server, &cloud).await;
    assert_eq!(cloud.calls(), ["list", "create 10.120.0.0/24", "create 10.120.1.0/24"]);
    assert_eq!((reason(&server, "node-1").as_str(), server.state().writes.len()), ("RouteCreated", 2));
    look(&server, &cloud).await;
    assert_eq!(cloud.calls(), ["list"]);
    assert_eq!(server.state().writes.len(), 2, "it is said already");
    // One node goes, and with it its route.
    server.state().nodes.remove("node-2");
    look(&server, &cloud).await;
    assert_eq!(cloud.calls(), ["list", "delete 10.120.1.0/24"]);
}

#[tokio::test]
async fn one_that_fails_is_told_and_the_other_is_made() {
    let nodes = [named("node-1", "10.120.0.0/24"), named("node-2", "10.120.1.0/24")];
    let (server, cloud) = (Server::with(nodes), Told::default());
    cloud.failing.lock().unwrap().push(Error::Failed("throttled".into()));
    look(&server, &cloud).await;
    let reasons = ["node-1", "node-2"].map(|name| reason(&server, name));
    assert_eq!(reasons, ["NoRouteCreated", "RouteCreated"]);
    look(&server, &cloud).await;
    assert_eq!(reason(&server, "node-1"), "RouteCreated");
}

#[tokio::test]
async fn what_is_in_the_way_is_tried_again_at_once_and_not_for_ever() {
    let (server, cloud) = (Server::with([named("node-1", "10.120.0.0/24")]), Told::default());
    let there = || Error::AlreadyExists("another leads there".into());
    cloud.failing.lock().unwrap().extend([there(), there()]);
    look(&server, &cloud).await;
    assert_eq!(cloud.calls().len(), 4, "listed, and asked for three times");
    assert_eq!(reason(&server, "node-1"), "RouteCreated");
    let (server, cloud) = (Server::with([named("node-1", "10.120.0.0/24")]), Told::default());
    cloud.failing.lock().unwrap().extend(std::iter::repeat_with(there).take(100));
    look(&server, &cloud).await;
    assert_eq!(cloud.calls().len(), 6);
    assert_eq!(reason(&server, "node-1"), "NoRouteCreated");
}

/// Ours: of what the provider does not know yet, and says so, nobody is told; of what it cannot do everybody is.
#[tokio::test]
async fn what_passes_by_itself_is_no_failure() {
    let (server, cloud) = (Server::with([named("node-1", "10.120.0.0/24")]), Told::default());
    let context = server.context().await;
    let (waiting, trouble) = (waiting(&context), Trouble::start(&context.client, "host").await);
    let it = Controller { context, routes: &cloud, waiting };
    let passing =
        Error::RetryAfter { message: "not known yet".into(), after: std::time::Duration::from_secs(9) };
    let round = async |error: Option<Error>| {
        *cloud.unlisted.lock().unwrap() = error;
        it.round(&trouble).await;
        trouble.told().await;
        server.state().told.clone()
    };
    assert_eq!(round(Some(passing.clone())).await, [""; 0]);
    assert_eq!(round(Some(Error::Failed("denied".into()))).await, ["SyncRoutesFailed"]);
    assert_eq!(round(Some(passing)).await, ["SyncRoutesFailed"], "that is not over");
    assert_eq!(round(None).await, ["SyncRoutesFailed", "SyncedRoutes"]);
    let text = it.context.metrics.render();
    assert!(text.lines().any(|one| one == "route_controller_route_sync_total 4"), "{text}");
}

/// Ours: a provider may have to wait for somebody for as long as it likes.
#[tokio::test]
async fn a_route_that_is_waited_for_is_told_once() {
    let (server, cloud) = (Server::with([named("node-1", "10.120.0.0/24")]), Told::default());
    let context = server.context().await;
    let it = Controller { waiting: waiting(&context), context, routes: &cloud };
    let after = std::time::Duration::from_secs(9);
    let passing = || Error::RetryAfter { message: "nobody has said so".into(), after };
    let told = async || {
        it.look().await.unwrap();
        it.waiting.events().told().await;
        server.state().told.clone()
    };
    cloud.failing.lock().unwrap().extend([passing(), passing(), passing()]);
    for _ in 0..3 {
        assert_eq!(told().await, ["FailedToCreateRoute"]);
    }
    assert_eq!(reason(&server, "node-1"), "NoRouteCreated");
    // Another failure is one each time.
    cloud.failing.lock().unwrap().extend([Error::Failed("denied".into()), Error::Failed("denied".into())]);
    assert_eq!((told().await.len(), told().await.len()), (2, 3));
    told().await;
    assert_eq!(reason(&server, "node-1"), "RouteCreated");
}

/// Ours: nothing would be scheduled on them for ever.
#[tokio::test]
async fn nodes_wait_for_no_route_that_nobody_makes_any_more() {
    let with = |name: &str, status: &str, reason: &str| {
        let said = json!({"type": "NetworkUnavailable", "status": status, "reason": reason});
        let ready = json!({"type": "Ready", "status": "True"});
        json!({"metadata": {"name": name}, "status": {"conditions": [said, ready]}})
    };
    let nodes = [
        with("waits", "True", "NoRouteCreated"),
        with("has", "False", "RouteCreated"),
        with("others", "True", "CalicoIsDown"),
    ];
    let server = Server::with(nodes);
    withdraw(&*server.context().await).await;
    let reasons = ["waits", "has", "others"].map(|name| reason(&server, name));
    assert_eq!(reasons, ["", "RouteCreated", "CalicoIsDown"]);
    assert_eq!(server.state().writes, ["PATCH waits/status"]);
    assert_eq!(server.node("waits").unwrap()["status"]["conditions"][0]["type"], "Ready");
}

/// What others have in their network is not ours to take.
#[tokio::test]
async fn routes_of_others_stay() {
    let (server, cloud) = (Server::with([named("node-1", "10.120.0.0/24")]), Told::default());
    let others = Route { name: "vpn".into(), destination_cidr: "172.16.0.0/12".into(), ..Route::default() };
    cloud.routes.lock().unwrap().push(others);
    look(&server, &cloud).await;
    assert_eq!(cloud.calls(), ["list", "create 10.120.0.0/24"]);
    assert_eq!(cloud.routes.lock().unwrap().len(), 2);
}
