//! What people and programs are told of what the mesh does.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;
use testkit::whoami::{ask, connect};

use crate::objects::{self, WEB};
use crate::rig::Rig;
use crate::{Pods, cluster, cluster_with, is_dead};

/// What a command says that ends well.
pub(crate) async fn said(rig: &mut Rig, name: &str, args: &[&str]) -> String {
    rig.spawn(name, args);
    assert_eq!(rig.wait(name).await, Some(0), "{}", rig.words(name));
    rig.words(name)
}

/// The same, of one that says JSON.
async fn told(rig: &mut Rig, name: &str, args: &[&str]) -> Value {
    let args = [args, &["-o", "json"]].concat();
    let text = said(rig, name, &args).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The same, of one that looks on: the pod asks until it has ended.
async fn seen(rig: &mut Rig, name: &str, args: &[&str], pods: &Pods) -> String {
    rig.spawn(name, args);
    let pid = rig.pid(name);
    while !is_dead(pid) {
        assert_eq!(pods.asks(0), "v1");
    }
    assert_eq!(rig.wait(name).await, Some(0), "{}", rig.words(name));
    rig.words(name)
}

/// The page at an address of the machine.
pub(crate) fn page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// The lines of a log that are whole, each read as JSON.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The one of a list that has this value in this field.
fn one<'v>(list: &'v Value, field: &str, value: &str) -> &'v Value {
    let found = list.as_array().unwrap().iter().find(|one| one[field] == value);
    found.unwrap_or_else(|| panic!("no {field} {value} in {list:#}"))
}

#[tokio::test]
async fn what_passes_is_shown_to_people_and_counted_for_programs() {
    let log = std::env::temp_dir().join(format!("sextant-mesh-{}.log", std::process::id()));
    let more = ["--metrics", "127.0.0.1:0", "--access-log", log.to_str().unwrap()];
    let (mut rig, runtime) = cluster_with([1, 0], &more).await;
    let pods = Pods::new(1);
    objects::pod(&rig, "member", true).await;
    runtime.add("s0", "member", &pods.pin(0, &rig));
    rig.words_have("mesh", "serves pod default/member").await;
    // Over one connection.
    pods.pods[0].run(|| {
        let mut open = connect((WEB, 80));
        (0..3).for_each(|_| assert_eq!(ask(&mut open).who, "v1"));
    });
    let status = told(&mut rig, "status", &["mesh", "status"]).await;
    assert_eq!((&status["node"], &status["requests"]), (&"node-1".into(), &3.into()), "{status:#}");
    assert_eq!(status["pods"][0]["pod"], "default/member");
    assert_eq!(status["pods"][0]["mode"], "permissive");
    let table = said(&mut rig, "status-table", &["mesh", "status"]).await;
    assert!(table.contains("default/member") && table.contains("node-1"), "{table}");

    let routes = told(&mut rig, "routes", &["mesh", "routes", "default/web"]).await;
    assert_eq!(routes["frontends"].as_array().unwrap().len(), 1, "{routes:#}");
    let rule = &one(&routes["frontends"], "service", "default/web:80")["rules"][0];
    assert_eq!(rule["from"], "TrafficSplit/default/web/0");
    // In thousandths, as quantities of the older versions may be.
    assert_eq!(one(&rule["backends"], "to", "default/web-v1:80")["weight"], 1000);
    let endpoint = one(&routes["endpoints"], "service", "default/web-v1:80");
    assert_eq!(endpoint["address"], "10.55.0.3:8080");
    assert_eq!(endpoint["clients"][0]["client"], "default/member");
    let table = said(&mut rig, "routes-table", &["mesh", "routes"]).await;
    assert!(table.contains("TrafficSplit/default/web/0"), "{table}");

    let args = ["mesh", "top", "--once", "--by", "backend", "-o", "json"];
    let top: Value = serde_json::from_str(&seen(&mut rig, "top", &args, &pods).await).unwrap();
    let rate = one(&top, "to", "default/web-v1:80");
    assert_eq!(rate["client"], "default/member");
    assert!(rate["requestsPerSecond"].as_f64().unwrap() > 0.0, "{rate}");
    assert_eq!(rate["successRate"], 1.0);
    assert!(rate["p50Us"].as_u64() <= rate["p99Us"].as_u64() && rate["p50Us"].is_u64(), "{rate}");

    let args = ["mesh", "tap", "--service", "default/web", "--count", "2", "-o", "json"];
    let events = seen(&mut rig, "tap", &args, &pods).await;
    assert_eq!(events.lines().count(), 2, "{events}");
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&event["client"], &event["path"]), (&"default/member".into(), &"/".into()), "{event}");
        assert_eq!((&event["status"], &event["endpoint"]), (&200.into(), &"10.55.0.3:8080".into()));
    }

    let why = told(&mut rig, "why", &["mesh", "why", "default/member", "web"]).await;
    assert_eq!(why["outcome"], "answered", "{why:#}");
    assert_eq!(one(&why["endpoints"], "address", "10.55.0.3:8080")["isAsked"], true);
    let why = said(&mut rig, "why-table", &["mesh", "why", "member", "web.default:80"]).await;
    assert!(why.contains("TrafficSplit/default/web/0"), "{why}");
    rig.spawn("why-not", &["mesh", "why", "nobody", "web"]);
    assert_eq!(rig.wait("why-not").await, Some(1));
    assert!(rig.words("why-not").contains("default/nobody"), "{}", rig.words("why-not"));

    let words = rig.words("mesh");
    let (_, rest) = words.split_once("answers http://").unwrap();
    let address = rest.split('/').next().unwrap();
    let text = page(address);
    let of_split = r#"sextant_mesh_requests_total{client_namespace="default",client_pod="member",namespace="default",service="web",port="80",rule="TrafficSplit/default/web/0",backend_namespace="default",backend="web-v1",backend_port="80","#;
    assert!(text.lines().any(|line| line.starts_with(of_split) && line.contains("status=\"2xx\"")), "{text}");
    assert!(text.contains("sextant_mesh_pods 1\n"), "{text}");

    // All of it is in the log once it has ended.
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
    let all = lines(&log);
    std::fs::remove_file(&log).unwrap();
    assert!(all.len() > 5, "{all:?}");
    assert!(
        all.iter().all(|event| event["client"] == "default/member" && event["kind"] == "request"),
        "{all:?}"
    );
    assert!(!rig.path("run/mesh-admin.sock").exists());
    rig.spawn("nobody", &["mesh", "status"]);
    assert_eq!(rig.wait("nobody").await, Some(1));
    assert!(
        rig.words("nobody").contains("no `sextant mesh` of this instance runs"),
        "{}",
        rig.words("nobody")
    );
}

#[tokio::test]
async fn nothing_is_told_that_nobody_asked_for() {
    let (mut rig, _runtime) = cluster([1, 0]).await;
    assert!(!rig.words("mesh").contains("/metrics"), "{}", rig.words("mesh"));
    let status = told(&mut rig, "status", &["mesh", "status"]).await;
    assert_eq!((&status["pods"], &status["lostLines"]), (&Value::Array(vec![]), &0.into()), "{status:#}");
    // An option of the daemon is not left aside.
    rig.spawn("both", &["mesh", "--node", "node-1", "status"]);
    assert_eq!(rig.wait("both").await, Some(2), "{}", rig.words("both"));
    assert_eq!(rig.end("mesh"), Some(0));
}
