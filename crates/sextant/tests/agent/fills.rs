//! What pods fill, and what goes when it is too much.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::io::AsyncBufReadExt as _;
use futures_util::stream::StreamExt as _;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::LogParams;
use oci_image::contract::{
    ContainerConfig, Descriptor, Digest, ImageConfig, ImageManifest, MediaType, Platform,
};
use oci_image::layer::tar::{Header, Writer};
use serde_json::{Value, json};
use testkit::faulty::{Faulty, answer};

use crate::Test;
use crate::rig::{NODE, OTHER, Rig, condition, container, with};

pub(crate) const TESTS: &[Test] = &[
    ("logs_are_rotated_and_followed_across_that", |rig| Box::pin(logs(rig))),
    ("images_that_nobody_uses_go_when_the_disk_is_full", |rig| Box::pin(images(rig))),
    ("pods_go_when_memory_runs_short_and_others_do_not_begin", |rig| Box::pin(memory(rig))),
    ("volumes_on_disk_have_limits", |rig| Box::pin(volumes(rig))),
    ("a_pod_that_is_evicted_waits_for_no_image", |rig| Box::pin(pulling(rig))),
];

/// The agent with other limits; afterwards it has its own again.
async fn limited(rig: &Rig, limits: &[&str], test: impl AsyncFnOnce()) {
    rig.kill("agent");
    rig.agent_with(&[&["--housekeeping-interval", "1"], limits].concat());
    test().await;
    rig.kill("agent");
    rig.agent();
}

async fn logs(rig: &Rig) {
    let limits = ["--container-log-max-size", "2Ki", "--container-log-max-files", "3"];
    limited(rig, &limits, async || {
        let pod = rig.pod("rotated", json!({"containers": [container("main", &["tick", "/never"])]})).await;
        rig.ready("rotated").await;
        // Far more than one file holds.
        let wish = LogParams { follow: true, ..LogParams::default() };
        let lines = rig.pods().log_stream("rotated", &wish).await.unwrap().lines();
        let lines: Vec<_> = lines.take(600).collect().await;
        assert_eq!(lines.len(), 600);
        assert!(lines.iter().all(|line| line.as_ref().is_ok_and(|line| line == "tick")));
        let folder = rig.path(&format!("logs/default_rotated_{}/main", pod.metadata.uid.unwrap()));
        let names = || {
            let entries = std::fs::read_dir(&folder).unwrap().flatten();
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let compressed = async || names().iter().any(|name| name.ends_with(".gz")).then_some(());
        rig.until("a log is compressed", compressed).await;
        // One more while one is on its way.
        let all = names();
        assert!(all.len() <= 4 && all.iter().all(|name| name.starts_with("0.log")), "{all:?}");
    })
    .await;
}

async fn images(rig: &Rig) {
    rig.pod("user", json!({"containers": [container("main", &["sleep"])]})).await;
    let fields = json!({"image": OTHER, "imagePullPolicy": "Never"});
    let once =
        json!({"containers": [with(container("main", &["exit", "0"]), fields)], "restartPolicy": "Never"});
    let pod = rig.pod("once", once.clone()).await;
    rig.ready("user").await;
    rig.status("once", "is done", |status| status["phase"] == "Succeeded").await;
    rig.delete("once", 0).await;
    // Its folder goes after its container, which has the image.
    let folder = rig.path(&format!("data/agent/pods/{}", pod.metadata.uid.unwrap()));
    rig.until("nothing is left of the pod", async || (!folder.exists()).then_some(())).await;
    let limits = [
        "--image-gc-high-threshold",
        "0",
        "--image-gc-low-threshold",
        "0",
        "--minimum-image-ttl-duration",
        "0",
    ];
    limited(rig, &limits, async || {
        // No disk can be all free.
        rig.told(NODE, "FreeDiskSpaceFailed", "Failed to garbage collect required amount of images.").await;
        rig.pod("again", once).await;
        rig.told("again", "ErrImageNeverPull", OTHER).await;
        rig.pod("user-too", json!({"containers": [container("main", &["sleep"])]})).await;
        rig.ready("user-too").await;
    })
    .await;
    rig.image(OTHER);
}

async fn memory(rig: &Rig) {
    let asks = json!({"resources": {"requests": {"memory": "1Gi"}}});
    let asks = with(container("main", &["sleep"]), asks);
    rig.pod("asks", json!({"containers": [asks], "terminationGracePeriodSeconds": 0})).await;
    rig.pod("takes", json!({"containers": [container("main", &["sleep"])]})).await;
    rig.ready("asks").await;
    rig.ready("takes").await;
    limited(rig, &["--eviction-hard", "memory.available<64Ti"], async || {
        let evicted = |status: &Value| status["phase"] == "Failed" && status["reason"] == "Evicted";
        let status = rig.status("takes", "is evicted", evicted).await;
        let message = status["message"].as_str().unwrap();
        let low = "The node was low on resource: memory. Threshold quantity: 64Ti, available: ";
        assert!(message.starts_with(low) && message.contains("Container main was using "), "{message}");
        assert_eq!(condition(&status, "DisruptionTarget"), "True", "{status}");
        rig.told("takes", "Evicted", low).await;
        rig.told(NODE, "EvictionThresholdMet", "Attempting to reclaim memory").await;
        let nodes: Api<Node> = Api::all(rig.client.clone());
        let short = async || {
            let status = json!(nodes.get(NODE).await.unwrap().status);
            (condition(&status, "MemoryPressure") == "True").then_some(())
        };
        rig.until("the node says so", short).await;
        rig.pod("late", json!({"containers": [container("main", &["sleep"])]})).await;
        let status = rig.status("late", "is refused", evicted).await;
        assert_eq!(status["message"], "Pod was rejected: The node had condition: [MemoryPressure]. ");
        assert!(status["containerStatuses"].is_null(), "kubectl would show what they wait for: {status}");
    })
    .await;
}

async fn volumes(rig: &Rig) {
    limited(rig, &[], async || {
        let mounts = json!({"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]});
        let words = ["await", "/cache/go", "then", "write", "/cache/file", "some text", "then", "sleep"];
        let main = with(container("main", &words), mounts);
        let volume = json!({"name": "cache", "emptyDir": {"sizeLimit": "1Ki"}});
        let pod = rig.pod("full", json!({"containers": [main], "volumes": [volume]})).await;
        rig.ready("full").await;
        let uid = pod.metadata.uid.unwrap();
        let folder = rig.path(&format!("data/agent/pods/{uid}/volumes/kubernetes.io~empty-dir/cache"));
        std::fs::write(folder.join("go"), "").unwrap();
        let status = rig.status("full", "is evicted", |status| status["reason"] == "Evicted").await;
        assert_eq!(status["message"], "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Ki\". ");
    })
    .await;
}

async fn pulling(rig: &Rig) {
    limited(rig, &[], async || {
        let (begun, left) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let image = format!("{}/slow:1", slow(begun.clone(), left.clone()).addr);
        let volume = json!({"name": "cache", "emptyDir": {"sizeLimit": "1Ki"}});
        let main = with(container("main", &["sleep"]), json!({"image": image}));
        let pod = rig.pod("pulls", json!({"containers": [main], "volumes": [volume]})).await;
        rig.told("pulls", "Pulling", &image).await;
        rig.until("it is on its way", async || begun.load(Ordering::Acquire).then_some(())).await;
        let uid = pod.metadata.uid.unwrap();
        let folder = rig.path(&format!("data/agent/pods/{uid}/volumes/kubernetes.io~empty-dir/cache"));
        std::fs::write(folder.join("file"), [b'x'; 64 << 10]).unwrap();
        let status = rig.status("pulls", "is evicted", |status| status["reason"] == "Evicted").await;
        assert_eq!(status["message"], "Usage of EmptyDir volume \"cache\" exceeds the limit \"1Ki\". ");
        assert_eq!(
            rig.events("pulls", "Failed").await,
            [""; 0],
            "the pull did not come to an end of its own"
        );
        rig.until("the runtime gives it up", async || left.load(Ordering::Acquire).then_some(())).await;
    })
    .await;
}

/// A registry of an image whose layer takes longer to come than anybody here waits, and never so long for a piece of it that a runtime has
/// a reason to give it up. It tells when the layer has begun, and when nobody wants more of it.
fn slow(begun: Arc<AtomicBool>, left: Arc<AtomicBool>) -> Faulty {
    const SIZE: u64 = 32 << 20;
    let mut tar = Writer::new(Vec::new());
    tar.append(&Header::file("file", 0o644, SIZE), &mut std::io::repeat(0).take(SIZE)).unwrap();
    let tar = tar.finish().unwrap();
    let layer = Descriptor::of(MediaType::OCI_LAYER, &tar);
    let config = ImageConfig::new(&Platform::host(), ContainerConfig::default(), vec![layer.digest.clone()]);
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = ImageManifest::new(Descriptor::of(MediaType::OCI_CONFIG, &config), vec![layer]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let config_path = format!("/blobs/{}", Digest::sha256(&config));
    let of_manifest = format!("content-type: {}\r\n", MediaType::OCI_MANIFEST);
    Faulty::start(move |_, head, stream| {
        if head.contains("/manifests/") {
            return answer(stream, 200, &of_manifest, &manifest);
        }
        if head.contains(&config_path) {
            return answer(stream, 200, "", &config);
        }
        begun.store(true, Ordering::Release);
        let announced = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", tar.len());
        let is_left = announced.is_err()
            || tar.chunks(4096).any(|piece| {
                std::thread::sleep(Duration::from_millis(100));
                stream.write_all(piece).is_err()
            });
        left.store(is_left, Ordering::Release);
    })
}
