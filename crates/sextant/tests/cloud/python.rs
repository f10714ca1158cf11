//! The provider of `examples/cloud/rack.py`: another language, and another implementation of gRPC, on the other side of the socket.
//! `cargo xtask test --ring interop` fetches its libraries, and names their folder in `SEXTANT_TEST_GRPC_LIBRARY`.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::admit::admit;
use crate::rack::{says, sextant};
use crate::rig::Rig;
use crate::site::{
    NEW, control, event, expose, has_taint, node_is, nodes, nothing_was_forbidden, say_ready, service_is,
    withdraw,
};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/cloud/rack.py");
const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cpi/proto");

/// The program, which ends with this.
struct Provider(Child);

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Serves at `cloud.sock`, by the files in `rack`.
async fn serve(rig: &Rig) -> Provider {
    let libraries =
        std::env::var("SEXTANT_TEST_GRPC_LIBRARY").expect("SEXTANT_TEST_GRPC_LIBRARY names grpcio's folder");
    let words = rig.path("python.words");
    let file = std::fs::File::create(&words).unwrap();
    let mut python = Command::new("python3");
    python.arg(PROGRAM).arg(rig.path("cloud.sock")).arg(rig.path("rack")).arg(PROTO);
    python.env("PYTHONPATH", libraries).env("PYTHONDONTWRITEBYTECODE", "1");
    let child = python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
    rig.until("the provider serves", async |_| {
        std::fs::read_to_string(&words).ok()?.contains("rack: serves").then_some(())
    })
    .await;
    Provider(child)
}

fn machines(rig: &Rig, text: &str) {
    std::fs::write(rig.path("rack/machines"), text).unwrap();
}

#[tokio::test]
#[ignore = "needs grpcio-tools: cargo xtask test --ring interop fetches it"]
async fn the_provider_in_python_is_right_and_works() {
    let mut rig = Rig::bare().await;
    std::fs::create_dir(rig.path("rack")).unwrap();
    machines(&rig, "node-1 4711 large row-1 10.0.0.1 on\nend\n");
    std::fs::write(rig.path("rack/pool"), "192.0.2.10\n").unwrap();
    let provider = serve(&rig).await;
    let endpoint = format!("unix://{}", rig.path("cloud.sock").display());
    let check = ["check", "cpi", endpoint.as_str(), "--node", "node-1=10.0.0.1"];
    let findings = says(&rig, &check);
    assert!(findings.contains("made again it is the same") && !findings.contains("WRONG"), "{findings}");
    assert_eq!(std::fs::read_dir(rig.path("rack/balancers")).unwrap().count(), 0, "it is taken away");
    machines(&rig, "node-1 4711 lar");
    let output = sextant(&rig, &check);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("does not end with `end`"), "{said}");

    machines(&rig, "node-1 4711 large row-1 10.0.0.1 on\nend\n");
    admit(&rig).await;
    control(&mut rig, &[]);
    rig.words_have("control", "has cloud provider rack").await;
    let taint = json!({"key": NEW, "value": "true", "effect": "NoSchedule"});
    rig.make::<cpi::contract::Node>(json!({"metadata": {"name": "node-1"}, "spec": {"taints": [taint]}}))
        .await;
    say_ready(&rig, "node-1", "True").await;
    let node = node_is(&rig, "node-1", "initialized", |node| {
        !has_taint(node, NEW) && node["status"]["addresses"].is_array()
    })
    .await;
    assert_eq!(node["spec"]["providerID"], "rack://4711");
    assert_eq!(node["metadata"]["labels"]["topology.kubernetes.io/zone"], "row-1");
    expose(&rig, "web").await;
    let is_reachable =
        |web: &serde_json::Value| web["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.10";
    service_is(&rig, "web", "reachable", is_reachable).await;
    expose(&rig, "late").await;
    event(&rig, "late", "SyncLoadBalancerFailed", "no address is left for late").await;
    // It is killed, and started again: what it has made it finds by the files.
    drop(provider);
    let _provider = serve(&rig).await;
    withdraw(&rig, "web").await;
    service_is(&rig, "late", "reachable", is_reachable).await;
    machines(&rig, "end\n");
    say_ready(&rig, "node-1", "Unknown").await;
    rig.until("node-1 is gone", async |rig| nodes(rig).get_opt("node-1").await.ok()?.is_none().then_some(()))
        .await;
    nothing_was_forbidden(&rig);
}
