//! The situations of Kubernetes' own tests of this controller (node_lifecycle_controller_test.go), by their names there.

use super::super::tests::stand::{Server, Told, was_told};
use super::super::trouble::OfNodes;
use super::*;

async fn controller(server: &Server) -> Controller {
    let context = server.context().await;
    let failing = OfNodes::start(&context).await.check;
    Controller::new(context, failing)
}

fn node(ready: Option<&str>, tainted: &[&str]) -> Node {
    let conditions: Vec<Value> =
        ready.iter().map(|status| json!({"type": "Ready", "status": status})).collect();
    let taints: Vec<Value> = tainted.iter().map(|key| json!({"key": key, "effect": "NoSchedule"})).collect();
    serde_json::from_value(
        json!({"metadata": {"name": "n"}, "spec": {"taints": taints}, "status": {"conditions": conditions}}),
    )
    .unwrap()
}

/// Upstream: a node that is ready is never asked about, "maybe a bug in provider"; any other is.
#[test]
fn only_nodes_that_are_not_ready_are_asked_about() {
    assert_eq!(plan(&node(Some("True"), &[])), Plan::Nothing);
    assert_eq!(plan(&node(Some("True"), &["other"])), Plan::Nothing);
    for ready in [Some("False"), Some("Unknown"), None] {
        assert_eq!(plan(&node(ready, &[])), Plan::Ask, "{ready:?}");
        assert_eq!(plan(&node(ready, &[SHUTDOWN])), Plan::Ask, "{ready:?}");
    }
}

#[test]
fn one_that_is_ready_again_loses_the_taint_of_its_stop_alone() {
    let Plan::Taint(left) = plan(&node(Some("True"), &["a", SHUTDOWN, "b"])) else { panic!("no taints") };
    assert_eq!(left, json!([{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoSchedule"}]));
}

#[test]
fn an_answer_holds_for_the_node_that_was_asked_about() {
    let with = |of: Value| {
        let mut whole = serde_json::to_value(node(Some("Unknown"), &[])).unwrap();
        for (field, fields) in of.as_object().unwrap() {
            whole[field].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        }
        serde_json::from_value::<Node>(whole).unwrap()
    };
    let (uid, labelled) =
        (json!({"metadata": {"uid": "1"}}), json!({"metadata": {"uid": "1", "labels": {"a": "b"}}}));
    let named = |mut of: Value| {
        of["spec"] = json!({"providerID": "stand://1"});
        with(of)
    };
    let asked = with(uid.clone());
    assert!(is_meant(&asked, &with(json!({"metadata": {"uid": "1", "resourceVersion": "9"}}))));
    for (now, why) in [
        (with(json!({"metadata": {"uid": "2"}})), "another has its name"),
        (
            with(
                json!({"metadata": {"uid": "1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            ),
            "ready",
        ),
        (named(uid.clone()), "it has got its id"),
        (with(labelled.clone()), "its instance is found by its labels, too"),
    ] {
        assert!(!is_meant(&asked, &now), "{why}");
    }
    assert!(is_meant(&named(uid), &named(labelled)), "found by its id alone");
}

#[test]
fn one_that_is_stopped_is_tainted_once() {
    let taints = shut_down(&node(Some("False"), &["a"])).unwrap();
    assert_eq!(taints[0]["key"], "a");
    assert_eq!(taints[1], json!({"key": SHUTDOWN, "effect": "NoSchedule"}));
    assert_eq!(shut_down(&node(Some("False"), &[SHUTDOWN])), None);
}

/// Upstream: "node is not ready and does not exist", "provider returns err", "still exists", "InstanceID returning
/// InstanceNotFound gets deleted", "error when getting providerID".
#[test]
fn only_what_is_known_to_be_gone_is() {
    for (said, gone) in [
        (Ok(false), Some(true)),
        (Ok(true), Some(false)),
        (Err(Error::InstanceNotFound), Some(true)),
        (Err(Error::Failed("timeout".into())), None),
        (Err(Error::NotImplemented), None),
    ] {
        assert_eq!(is_gone(&said), gone, "{said:?}");
    }
}

/// What comes of a node that says this, whose provider says that: whether it is there still, its taints, and what people are told.
async fn looked_at(ready: Option<&str>, tainted: &[&str], cloud: &Told) -> (bool, Vec<String>, Vec<String>) {
    let server = Server::with([serde_json::to_value(node(ready, tainted)).unwrap()]);
    let it = controller(&server).await;
    it.round(cloud, cloud).await;
    // What is told last says that all else was.
    it.events.normal(&node(None, &[]), "Last", "last").await;
    while server.state().told.last().is_none_or(|told| told != "Last") {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let left = server.node("n");
    let taints = left.iter().flat_map(|node| node["spec"]["taints"].as_array().cloned().unwrap_or_default());
    let taints = taints.map(|taint| taint["key"].as_str().unwrap().to_owned()).collect();
    let mut told = server.state().told.clone();
    told.pop();
    (left.is_some(), taints, told)
}

type Row<'a> = (
    &'a str,
    Option<&'a str>,
    &'a [&'a str],
    Result<bool, Error>,
    Result<bool, Error>,
    bool,
    &'a [&'a str],
    &'a [&'a str],
);

/// Test_NodesDeleted and Test_NodesShutdown, those of InstancesV2.
#[tokio::test]
async fn nodes_deleted_and_nodes_shutdown() {
    let failed = || Error::Failed("err!".into());
    let (no, yes) = (|| Ok(false), || Ok(true));
    let rows: &[Row<'_>] = &[
        ("node is not ready and does not exist", Some("False"), &[], no(), no(), false, &[], &["exists"]),
        (
            "node is not ready and provider returns err",
            Some("False"),
            &[],
            Err(failed()),
            no(),
            true,
            &[],
            &["exists"],
        ),
        (
            "node is not ready but still exists",
            Some("False"),
            &[],
            yes(),
            no(),
            true,
            &[],
            &["exists", "shutdown"],
        ),
        (
            "node ready condition is unknown, node doesn't exist",
            Some("Unknown"),
            &[],
            no(),
            no(),
            false,
            &[],
            &["exists"],
        ),
        (
            "node ready condition is unknown, node exists",
            Some("Unknown"),
            &[],
            yes(),
            no(),
            true,
            &[],
            &["exists", "shutdown"],
        ),
        ("node is ready, but provider said it is deleted", Some("True"), &[], no(), no(), true, &[], &[]),
        (
            "node is not ready and was shutdown, but exists",
            Some("False"),
            &[],
            yes(),
            yes(),
            true,
            &[SHUTDOWN],
            &["exists", "shutdown"],
        ),
        (
            "it has the taint already",
            Some("False"),
            &[SHUTDOWN],
            yes(),
            yes(),
            true,
            &[SHUTDOWN],
            &["exists", "shutdown"],
        ),
        (
            "node is not ready, but there is error checking if node is shutdown",
            Some("False"),
            &[],
            yes(),
            Err(failed()),
            true,
            &[],
            &["exists", "shutdown"],
        ),
        (
            "shutdown is not implemented",
            Some("False"),
            &[],
            yes(),
            Err(Error::NotImplemented),
            true,
            &[],
            &["exists", "shutdown"],
        ),
        (
            "node is not ready and is not shutdown",
            Some("False"),
            &[],
            yes(),
            no(),
            true,
            &[],
            &["exists", "shutdown"],
        ),
        (
            "node is ready but provider says it's shutdown",
            Some("True"),
            &["a", SHUTDOWN],
            yes(),
            yes(),
            true,
            &["a"],
            &[],
        ),
        (
            "node is shutdown but provider says it does not exist",
            Some("Unknown"),
            &[SHUTDOWN],
            no(),
            yes(),
            false,
            &[],
            &["exists"],
        ),
        (
            "node with InstanceID returning InstanceNotFound gets deleted",
            Some("Unknown"),
            &[],
            Err(Error::InstanceNotFound),
            no(),
            false,
            &[],
            &["exists"],
        ),
        ("a node without a condition", None, &[], no(), no(), false, &[], &["exists"]),
    ];
    for (name, ready, tainted, exists, shutdown, stays, taints, calls) in rows {
        let cloud = Told { exists: exists.clone(), shutdown: shutdown.clone(), ..Told::default() };
        let (is_there, left, told) = looked_at(*ready, tainted, &cloud).await;
        assert_eq!(
            (is_there, &left[..]),
            (*stays, &taints.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{name}"
        );
        // Ours: what cannot be asked is told of the node.
        let has_failed = [exists, shutdown].iter().any(|said| matches!(said, Err(Error::Failed(_))));
        let wanted = match (has_failed, *stays) {
            (true, _) => vec!["InstanceCheckFailed"],
            (false, true) => vec![],
            (false, false) => vec!["DeletingNode"],
        };
        assert_eq!(told, wanted, "{name}");
        let asked: Vec<String> = calls.iter().map(|call| format!("{call} n")).collect();
        assert_eq!(cloud.calls(), asked, "{name}");
    }
}

/// A node that becomes ready, or is made anew under its name, while the cloud is asked, stays.
#[tokio::test]
async fn an_answer_about_what_a_node_was_deletes_nothing() {
    for now in [
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        json!({"spec": {"providerID": "fake://new"}}),
    ] {
        let server = Server::with([serde_json::to_value(node(Some("Unknown"), &[])).unwrap()]);
        let cloud = Told { exists: Ok(false), ..Told::default() };
        let its = server.clone();
        *cloud.during.lock().unwrap() = Some(Box::new(move || {
            let mut node = its.node("n").unwrap();
            for (field, value) in now.as_object().unwrap() {
                node[field].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            }
            its.put(node);
        }));
        let it = controller(&server).await;
        it.round(&cloud, &cloud).await;
        assert!(server.node("n").is_some() && server.state().writes.is_empty());
    }
}

/// Ours: once as long as it is the same, and once that it is over.
#[tokio::test]
async fn a_node_that_cannot_be_asked_about_is_told_once() {
    let server = Server::with([serde_json::to_value(node(Some("Unknown"), &[])).unwrap()]);
    let it = controller(&server).await;
    let say = |why: &str| Told { exists: Err(Error::Failed(why.into())), ..Told::default() };
    for cloud in [say("asked 1 s ago"), say("asked 2 s ago"), say("denied"), Told::default(), Told::default()]
    {
        it.round(&cloud, &cloud).await;
    }
    it.events.told().await;
    let told = server.state().told.clone();
    assert_eq!(told, ["InstanceCheckFailed", "InstanceCheckFailed", "InstanceChecked"]);
}

/// Ours: one that is ready again is not asked about, and what was told of it is over; also what the process before has told.
#[tokio::test]
async fn a_node_that_is_ready_again_is_told_that_it_is() {
    for was_another in [false, true] {
        let server = Server::with([serde_json::to_value(node(Some("True"), &[])).unwrap()]);
        if was_another {
            server.state().events.push(was_told(
                "n",
                "InstanceCheckFailed",
                "cannot look after node n: denied",
            ));
        }
        let it = controller(&server).await;
        if !was_another {
            let of = it.context.nodes.all()[0].object_ref(&());
            assert!(it.failing.fails(&of, "cannot look after node n: denied").await);
            it.events.told().await;
            server.state().told.clear();
        }
        let cloud = Told::default();
        for _ in 0..2 {
            it.round(&cloud, &cloud).await;
        }
        it.events.told().await;
        assert_eq!(server.state().told, ["InstanceChecked"], "{was_another}");
        assert_eq!(cloud.calls(), [""; 0]);
    }
}

/// Ours: what the process before has told is not told again, and is over once it is.
#[tokio::test]
async fn what_the_process_before_has_told_of_a_node_is_known() {
    let server = Server::with([serde_json::to_value(node(Some("Unknown"), &[])).unwrap()]);
    server.state().events.push(was_told(
        "n",
        "InstanceCheckFailed",
        "cannot look after node n: denied 1 s ago",
    ));
    let it = controller(&server).await;
    let denied = Told { exists: Err(Error::Failed("denied 2 s ago".into())), ..Told::default() };
    it.round(&denied, &denied).await;
    it.events.told().await;
    assert_eq!(server.state().told, [""; 0]);
    let cloud = Told::default();
    it.round(&cloud, &cloud).await;
    it.events.told().await;
    assert_eq!(server.state().told, ["InstanceChecked"]);
}
