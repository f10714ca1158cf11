use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grpc::Code;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Event, Offer, watch};
use crate::contract::registration::is_driver_name;
use crate::contract::v1::*;
use crate::plugin::Services;

const PATIENCE: Duration = Duration::from_secs(180);

/// Stands in for a driver: it knows its node.
struct Driver;

impl Node for Driver {
    async fn node_get_info(&self, _: NodeGetInfoRequest) -> Result<NodeGetInfoResponse, grpc::Status> {
        let segments = [("example.com/rack".into(), "r1".into())].into();
        Ok(NodeGetInfoResponse {
            node_id: "n-17".into(),
            max_volumes_per_node: 5,
            accessible_topology: Some(Topology { segments }),
        })
    }
}

/// A kubelet's side; refuses so many drivers first.
struct Kubelet {
    events: mpsc::UnboundedReceiver<Event>,
    watching: JoinHandle<()>,
}

impl Kubelet {
    fn start(folder: &Path, refusals: usize) -> Kubelet {
        let (tell, events) = mpsc::unbounded_channel();
        let folder = folder.to_owned();
        let left = Arc::new(AtomicUsize::new(refusals));
        let watching = tokio::spawn(async move {
            watch(&folder, move |event| {
                let is_refused = matches!(event, Event::Came(_))
                    && left
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                        .is_ok();
                tell.send(event).unwrap();
                std::future::ready(if is_refused { Err("the node is full".into()) } else { Ok(()) })
            })
            .await;
        });
        Kubelet { events, watching }
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

async fn driver(socket: &Path) {
    let (ready, serves) = tokio::sync::oneshot::channel();
    let socket = socket.to_owned();
    tokio::spawn(async move {
        let services = Services::new().node(Arc::new(Driver));
        services.serve(&socket, std::future::pending(), || ready.send(()).unwrap()).await.unwrap();
    });
    serves.await.unwrap();
}

fn offer(dir: &Path) -> Offer {
    let (endpoint, folder) = (dir.join("csi.sock"), dir.join("registry"));
    Offer { driver: "d.example.com".into(), endpoint, folder }
}

/// What is offered, until the handle is aborted or the kubelet refuses it; and who hears that it is registered.
fn offered(offer: &Offer) -> (JoinHandle<Result<(), grpc::Failure>>, mpsc::UnboundedReceiver<()>) {
    let (tell, registered) = mpsc::unbounded_channel();
    let offer = offer.clone();
    let serving =
        tokio::spawn(async move { offer.serve(std::future::pending(), || tell.send(()).unwrap()).await });
    (serving, registered)
}

#[tokio::test]
async fn a_driver_is_registered_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let offer = offer(dir.path());
    // What a killed driver has left stands in nobody's way.
    std::fs::create_dir(&offer.folder).unwrap();
    drop(std::os::unix::net::UnixListener::bind(offer.socket()).unwrap());
    let mut kubelet = Kubelet::start(&offer.folder, 0);
    driver(&offer.endpoint).await;
    let (serving, mut registered) = offered(&offer);
    let came = loop {
        match kubelet.next().await {
            Event::Came(came) => break came,
            Event::Failed { .. } => {}
            gone @ Event::Gone(_) => panic!("{gone:?}"),
        }
    };
    assert_eq!(
        (came.driver.as_str(), came.node.as_str(), came.max_volumes),
        ("d.example.com", "n-17", Some(5))
    );
    assert_eq!(came.endpoint, offer.endpoint);
    assert_eq!(came.topology["example.com/rack"], "r1");
    tokio::time::timeout(PATIENCE, registered.recv()).await.unwrap().unwrap();
    // Its socket is the same with another mode, as it is when a driver takes it from others after it was made.
    std::fs::set_permissions(offer.socket(), std::fs::Permissions::from_mode(0o660)).unwrap();
    // Another socket for the same name.
    let twin = Offer { folder: offer.folder.join("deeper"), ..offer.clone() };
    let (other, _) = offered(&twin);
    let refused = tokio::time::timeout(PATIENCE, other).await.unwrap().unwrap().unwrap_err();
    assert!(refused.message.contains("registered by"), "{refused:?}");
    assert!(matches!(kubelet.next().await, Event::Failed { socket, .. } if socket == twin.socket()));
    serving.abort();
    assert_eq!(kubelet.next().await, Event::Gone("d.example.com".into()));
    assert!(!offer.socket().exists());
}

#[test]
fn a_drivers_name_is_the_name_of_a_file_too() {
    for name in ["d", "csi.sextant.dev", "a-1.b--c", &"a".repeat(63)] {
        assert!(is_driver_name(name), "{name}");
    }
    for name in ["", ".", "..", "-a", "a.", "../../etc/x", "a/b", "a b", "ä", "a\0", &"a".repeat(64)] {
        assert!(!is_driver_name(name), "{name}");
    }
}

#[tokio::test]
async fn a_driver_that_is_refused_hears_why_and_may_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let offer = offer(dir.path());
    let mut kubelet = Kubelet::start(&offer.folder, 1);
    driver(&offer.endpoint).await;
    let (serving, _) = offered(&offer);
    let refused = tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap().unwrap_err();
    assert_eq!(refused.code, Code::FailedPrecondition);
    assert!(refused.message.contains("d.example.com") && refused.message.contains("the node is full"));
    assert!(!offer.socket().exists(), "another socket is another try");
    let (_serving, mut registered) = offered(&offer);
    tokio::time::timeout(PATIENCE, registered.recv()).await.unwrap().unwrap();
    let mut seen = Vec::new();
    while seen.iter().filter(|event| matches!(event, Event::Came(_))).count() < 2 {
        seen.push(kubelet.next().await);
    }
    assert!(!seen.iter().any(|event| matches!(event, Event::Gone(_))), "it never was registered: {seen:?}");
}

#[tokio::test]
async fn a_driver_that_does_not_answer_yet_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let offer = offer(dir.path());
    let mut kubelet = Kubelet::start(&offer.folder, 0);
    let (first, _) = offered(&offer);
    assert!(matches!(kubelet.next().await, Event::Failed { cause, .. } if cause.contains("csi.sock")));
    let _refused = first.await.unwrap().unwrap_err();
    driver(&offer.endpoint).await;
    let (_serving, mut registered) = offered(&offer);
    tokio::time::timeout(PATIENCE, registered.recv()).await.unwrap().unwrap();
}
