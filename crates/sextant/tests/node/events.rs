//! Container events: as they happen, and what was missed.

use std::time::Duration;

use cri::contract::v1::*;

use crate::Test;
use crate::bench::Bench;
use crate::wishes::container;

pub(crate) const TESTS: &[Test] = &[
    ("events_come_in_order_with_the_pod", order),
    ("what_happened_while_nobody_listened_is_told_once", missed),
    ("what_ended_while_the_node_was_down_is_told", down),
];

/// A listener of its own.
macro_rules! listen {
    ($cri:expr) => {
        $cri.wait(async |c| c.get_container_events(GetEventsRequest {}).await).unwrap()
    };
}

/// The next event within some seconds; the macro, because a test need not name the stream's type.
macro_rules! next {
    ($cri:expr, $events:expr, $seconds:expr) => {
        $cri.wait(async |_| tokio::time::timeout(Duration::from_secs($seconds), $events.next()).await)
            .ok()
            .map(|event| event.unwrap().unwrap())
    };
}

type Seen = (ContainerEventType, String);

fn seen(event: &ContainerEventResponse) -> Seen {
    (event.container_event_type(), event.container_id.clone())
}

fn order(b: &Bench) {
    use ContainerEventType::*;
    let cri = b.connect().unwrap();
    let mut events = listen!(cri);
    while next!(cri, events, 1).is_some() {}
    let pod = b.host_pod("order");
    let id = b.run(&pod, "c", &["probe", "exit", "3"]);
    b.until_exited(&id);
    b.remove(&id);
    b.remove_pod(&pod);
    let want = [
        (ContainerCreatedEvent, &pod),
        (ContainerStartedEvent, &pod),
        (ContainerCreatedEvent, &id),
        (ContainerStartedEvent, &id),
        (ContainerStoppedEvent, &id),
        (ContainerDeletedEvent, &id),
        (ContainerStoppedEvent, &pod),
        (ContainerDeletedEvent, &pod),
    ];
    for (kind, id) in want {
        let event = next!(cri, events, 60).unwrap();
        assert_eq!(seen(&event), (kind, id.clone()));
        assert!(event.created_at > 0);
        assert_eq!(event.pod_sandbox_status.unwrap().metadata.unwrap().name, "order");
    }
}

fn missed(b: &Bench) {
    // Whoever listened before is noticed to be gone.
    std::thread::sleep(Duration::from_secs(5));
    let cri = b.connect().unwrap();
    {
        let mut events = listen!(cri);
        while next!(cri, events, 1).is_some() {}
    }
    drop(cri);
    std::thread::sleep(Duration::from_secs(5));
    let pod = b.host_pod("missed");
    let ended = b.run(&pod, "ended", &["probe", "exit", "3"]);
    let runs = b.run(&pod, "runs", &["probe", "sleep"]);
    let gone = b.run(&pod, "gone", &["probe"]);
    b.until_exited(&ended);
    b.remove(&gone);
    let cri = b.connect().unwrap();
    let mut events = listen!(cri);
    let mut told: Vec<Seen> = (0..3).map(|_| seen(&next!(cri, events, 60).unwrap())).collect();
    assert!(next!(cri, events, 1).is_none(), "no more than that");
    told.sort();
    let mut want = vec![
        (ContainerEventType::ContainerStartedEvent, pod.clone()),
        (ContainerEventType::ContainerStoppedEvent, ended),
        (ContainerEventType::ContainerStartedEvent, runs),
    ];
    want.sort();
    assert_eq!(told, want);
    b.remove_pod(&pod);
}

fn down(b: &Bench) {
    let pod = b.host_pod("down");
    let go = b.path("down-go");
    let mut config = container("c", &["probe", "await", "/go/down-go", "then", "exit", "9"]);
    config.mounts = vec![Mount {
        container_path: "/go".into(),
        host_path: b.dir().display().to_string(),
        ..Mount::default()
    }];
    let id = b.run_as(&pod, config);
    let cri = b.connect().unwrap();
    let mut events = listen!(cri);
    while next!(cri, events, 1).is_some() {}
    drop((events, cri));
    b.kill();
    std::fs::write(&go, "").unwrap();
    b.until_written(&id);
    b.start();
    let cri = b.connect().unwrap();
    let mut events = listen!(cri);
    let event = next!(cri, events, 60).unwrap();
    assert_eq!(seen(&event), (ContainerEventType::ContainerStoppedEvent, id.clone()));
    let status = event.containers_statuses.into_iter().find(|status| status.id == id).unwrap();
    assert_eq!((status.exit_code, status.reason.as_str()), (9, "Error"));
    assert!(next!(cri, events, 1).is_none(), "once");
    std::fs::remove_file(go).unwrap();
    b.remove_pod(&pod);
}
