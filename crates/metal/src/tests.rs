//! The provider keeps to what controllers rely on, in their process and behind a socket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cpi::caller::Remote;
use cpi::caller::check::{self, Subject, Verdict};
use cpi::contract::{CloudProvider, Node, Service, Services};
use serde_json::json;

use crate::Metal;

/// A cluster without services.
struct Nothing;

impl Services for Nothing {
    fn nodes(&self) -> Vec<Arc<Node>> {
        Vec::new()
    }

    fn all(&self) -> Vec<Arc<Service>> {
        Vec::new()
    }
}

const FILE: &str = "
pools: [{name: lab, addresses: [10.0.0.1-10.0.0.3]}]
instances: [{name: node-1, id: rack/1, type: r640, zone: z, addresses: [{type: InternalIP, address: 10.0.0.9}]}, {name: node-2}]
";

fn subject() -> Subject {
    let node = |name: &str| -> Node { serde_json::from_value(json!({"metadata": {"name": name}})).unwrap() };
    Subject {
        cluster: "kubernetes".into(),
        nodes: vec![node("node-1"), node("node-2")],
        route: None,
        mark: "sextant-check-1".into(),
    }
}

async fn examined(provider: &dyn CloudProvider) -> (Vec<String>, usize) {
    let findings = check::run(provider, &subject()).await;
    let wrong = findings.iter().filter_map(|one| match &one.verdict {
        Verdict::Wrong(how) => Some(format!("{}: {how}", one.rule)),
        _ => None,
    });
    (wrong.collect(), findings.iter().filter(|one| one.verdict == Verdict::Right).count())
}

fn metal(dir: &Path) -> Metal {
    let file = dir.join("metal.yaml");
    std::fs::write(&file, FILE).unwrap();
    let metal = Metal::open(Some(&file)).unwrap();
    // Not a moment ago: of one that is being written nobody is told to be gone.
    metal.live.settle();
    metal
}

#[tokio::test]
async fn it_is_as_a_provider_must_be() {
    let dir = tempfile::tempdir().unwrap();
    let metal = metal(dir.path());
    metal.see_services(Arc::new(Nothing));
    let (wrong, right) = examined(&metal).await;
    assert_eq!(wrong, Vec::<String>::new());
    assert!(right > 20, "{right}");
}

#[tokio::test]
async fn behind_a_socket_it_is_so_as_well_and_gives_no_address() {
    let dir = tempfile::tempdir().unwrap();
    let (metal, socket) = (Arc::new(metal(dir.path())), dir.path().join("metal.sock"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let (served, path) = (metal.clone(), socket.clone());
    let serving = tokio::spawn(async move {
        let until = async { drop(stopped.await) };
        cpi::plugin::serve(served, &path, until, || ready.send(()).unwrap()).await.unwrap();
    });
    is_ready.await.unwrap();
    let remote = Remote::connect(&socket, Duration::from_secs(60)).await.unwrap();
    let (wrong, _) = examined(&remote).await;
    let [one] = wrong.as_slice() else { panic!("{wrong:?}") };
    assert!(one.starts_with("one is made: ") && one.contains("--cloud-provider metal"), "{one}");
    // Shown services there, nothing is wrong with it.
    metal.see_services(Arc::new(Nothing));
    assert_eq!(examined(&remote).await.0, Vec::<String>::new());
    stop.send(()).unwrap();
    serving.await.unwrap();
}
