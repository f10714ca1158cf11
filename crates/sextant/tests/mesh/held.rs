//! Very many connections at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use testkit::whoami::{ask, connect};

use crate::objects::{self, WEB};
use crate::people::said;
use crate::{Pods, cluster, until};

/// What is wanted, and the least that is worth a try.
const WANTED: u64 = 10_000;
const LEAST: u64 = 500;

/// How many a process may hold of what is wanted: this one, and the proxy, which has the same limits. The other half is for all else that they hold: other
/// tests are in this one.
fn most() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, ..limit }).unwrap();
    maximum.map_or(WANTED, |most| (most / 2).min(WANTED))
}

#[tokio::test]
async fn ten_thousand_connections_are_held_and_each_goes_by_what_holds_now() {
    let count = most();
    assert!(count >= LEAST, "no more than {count} connections");
    println!("{count} connections");
    let (mut rig, runtime) = cluster([1, 0]).await;
    let pods = Pods::new(1);
    objects::pod(&rig, "member", true).await;
    runtime.add("s0", "member", &pods.pin(0, &rig));
    rig.words_have("mesh", "serves pod default/member").await;
    let mut held = pods.pods[0].run(|| {
        let one = |_| {
            let mut stream = connect((WEB, 80));
            assert_eq!(ask(&mut stream).who, "v1");
            stream
        };
        (0..count).map(one).collect::<Vec<_>>()
    });
    let status = said(&mut rig, "status", &["mesh", "status", "-o", "json"]).await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert!(status["connections"].as_u64() >= Some(count), "{status:#}");
    // New ones are served, and of the old ones none was closed.
    assert_eq!(pods.asks(0), "v1");
    held.iter_mut().for_each(|stream| assert_eq!(ask(stream).who, "v1"));
    objects::weigh(&rig, [0, 1]).await;
    until(&rig, "all goes to v2", || pods.asks(0) == "v2").await;
    held.iter_mut().for_each(|stream| assert_eq!(ask(stream).who, "v2"));
    drop(held);
    until(&rig, "the pod is served", || pods.asks(0) == "v2").await;
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
    assert_eq!(pods.tables(0), Vec::<String>::new());
}
