//! What plugins hear, and what comes of what they answer: through a socket.

mod rig;

use std::path::Path;
use std::time::{Duration, Instant};

use oci_runtime::contract::Spec;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::connection::Connection;
use super::launch;
use super::plugin::Plugin;
use super::wire::{
    self, ContainerAdjustment, ContainerEviction, ContainerUpdate, Event, KeyValue, LinuxContainerAdjustment,
    LinuxContainerUpdate, LinuxCpu, LinuxResources,
};
use crate::contract::v1::LinuxContainerResources;
use rig::{TIMEOUT, connect, nothing, plugin, refusal};

const UNIMPLEMENTED: i32 = 12;

/// Everything that happens to a pod and a container in it.
async fn life(nri: &super::Nri) {
    let (pod, container) = (rig::pod(), rig::container());
    nri.run_pod(&pod.record).await.unwrap();
    nri.create_container(&pod.record, "con1", &rig::config(), &mut Spec::default()).await.unwrap();
    nri.created_container(&pod, &container).await;
    nri.start_container(&pod, &container).await.unwrap();
    nri.started_container(&pod, &container).await;
    nri.update_container(&pod, &container, &LinuxContainerResources::default()).await.unwrap();
    nri.updated_container(&pod, &container).await;
    nri.update_pod(&pod, None, Some(&LinuxContainerResources { cpu_shares: 5, ..Default::default() }))
        .await
        .unwrap();
    nri.updated_pod(&pod).await;
    nri.stop_container(&pod.record, &container).await;
    nri.stop_container(&pod.record, &container).await;
    nri.remove_container(&pod, &container).await;
    nri.stop_pod(&pod).await;
    nri.stop_pod(&pod).await;
    nri.remove_pod(&pod).await;
}

const LIFE: [&str; 15] = [
    "Configure",
    "RunPodSandbox",
    "CreateContainer",
    "ValidateContainerAdjustment",
    "PostCreateContainer",
    "StartContainer",
    "PostStartContainer",
    "UpdateContainer",
    "PostUpdateContainer",
    "UpdatePodSandbox",
    "PostUpdatePodSandbox",
    "StopContainer",
    "RemoveContainer",
    "StopPodSandbox",
    "RemovePodSandbox",
];

#[tokio::test]
async fn every_event_is_told_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    let fake = plugin(&nri, "10-a", |_| nothing()).await;
    life(&nri).await;
    assert_eq!(fake.methods(), LIFE);
    let configure: wire::ConfigureRequest = fake.request("Configure");
    let timeout = TIMEOUT.as_millis() as i64;
    assert_eq!((configure.config.as_str(), configure.request_timeout), ("settings", timeout));
    let pod = fake.request::<wire::PodEvent>("RunPodSandbox").pod.unwrap();
    assert_eq!((pod.id.as_str(), pod.name.as_str(), pod.uid.as_str()), ("pod1", "p", "u"));
    assert_eq!((pod.namespace.as_str(), pod.ips), ("n", vec!["10.0.0.7".to_owned()]));
    let event: wire::ContainerEvent = fake.request("CreateContainer");
    let container = event.container.unwrap();
    assert_eq!((container.id.as_str(), container.name.as_str()), ("con1", "c"));
    assert_eq!((container.pod_sandbox_id.as_str(), event.pod.unwrap().id.as_str()), ("pod1", "pod1"));
    assert_eq!(container.annotations["a"], "b");
    let started = fake.request::<wire::ContainerEvent>("StartContainer").container.unwrap();
    assert_eq!(started.state(), wire::ContainerState::Created);
    let limits = fake.request::<wire::UpdatePodSandboxRequest>("UpdatePodSandbox").linux_resources.unwrap();
    assert_eq!(limits.cpu.unwrap().shares, Some(5));
}

#[tokio::test]
async fn a_plugin_hears_what_it_wants_alone() {
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    let fake = plugin(&nri, "10-a", |asked| match asked.method.as_str() {
        "Configure" => {
            let events = Event::StartContainer.bit() | Event::RemovePodSandbox.bit();
            Some(Ok(wire::ConfigureResponse { events }.encode_to_vec()))
        }
        _ => nothing(),
    })
    .await;
    life(&nri).await;
    assert_eq!(fake.methods(), ["Configure", "StartContainer", "RemovePodSandbox"]);
    assert!(nri.wanting(Event::RunPodSandbox).is_none());
}

#[tokio::test]
async fn an_event_that_is_not_known_is_no_plugins() {
    let (connection, _fake) =
        connect(|_| Some(Ok(wire::ConfigureResponse { events: 1 << 20 }.encode_to_vec())));
    let configured = Plugin::configure("10-a".into(), connection, String::new(), [TIMEOUT; 2]).await;
    assert!(configured.unwrap_err().contains("0x100000"));
}

#[tokio::test]
async fn plugins_of_old_are_told_by_state_change() {
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    let known = ["Configure", "CreateContainer", "UpdateContainer", "StopContainer", "StateChange"];
    let judging = "ValidateContainerAdjustment";
    let fake = plugin(&nri, "10-a", move |asked| match asked.method.as_str() {
        "Configure" => {
            let events = Event::ALL & !Event::ValidateContainerAdjustment.bit();
            Some(Ok(wire::ConfigureResponse { events }.encode_to_vec()))
        }
        method if known.contains(&method) => nothing(),
        _ => refusal(UNIMPLEMENTED, "no such method"),
    })
    .await;
    life(&nri).await;
    let heard = fake.heard.lock().unwrap();
    let changes: Vec<&str> = heard
        .iter()
        .filter(|(method, _)| method != "RunPodSandbox")
        .map(|(method, payload)| match method.as_str() {
            "StateChange" => wire::StateChangeEvent::decode(&**payload).unwrap().event().method(),
            other => other,
        })
        .collect();
    assert_eq!(changes, LIFE.into_iter().filter(|method| *method != judging).collect::<Vec<_>>());
    assert_eq!(
        heard.iter().filter(|(method, _)| method == "RunPodSandbox").count(),
        1,
        "asked once, and not again"
    );
}

#[tokio::test]
async fn what_makes_something_can_be_refused_and_what_ends_it_not() {
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    plugin(&nri, "10-a", |asked| match asked.method.as_str() {
        "Configure" => nothing(),
        _ => refusal(2, "not today"),
    })
    .await;
    let after = plugin(&nri, "20-b", |_| nothing()).await;
    let (pod, container) = (rig::pod(), rig::container());
    let refused = nri.run_pod(&pod.record).await.unwrap_err().to_string();
    assert!(refused.contains("10-a") && refused.contains("RunPodSandbox") && refused.contains("not today"));
    nri.create_container(&pod.record, "con1", &rig::config(), &mut Spec::default()).await.unwrap_err();
    nri.start_container(&pod, &container).await.unwrap_err();
    nri.update_container(&pod, &container, &Default::default()).await.unwrap_err();
    assert_eq!(after.methods(), ["Configure"]);
    nri.undo_container(&pod.record, "con1", &rig::config()).await;
    nri.stop_container(&pod.record, &container).await;
    nri.undo_pod(&pod.record).await;
    let ends = ["StopContainer", "RemoveContainer", "StopContainer", "StopPodSandbox", "RemovePodSandbox"];
    assert_eq!(after.methods()[1..], ends);
}

#[tokio::test]
async fn one_that_does_not_answer_is_dropped_and_holds_nobody_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    let dead = plugin(&nri, "10-a", |asked| match asked.method.as_str() {
        "Configure" => nothing(),
        _ => None,
    })
    .await;
    let alive = plugin(&nri, "20-b", |_| nothing()).await;
    let begun = Instant::now();
    life(&nri).await;
    assert!(begun.elapsed() < TIMEOUT * 3, "{:?}", begun.elapsed());
    assert_eq!(alive.methods(), LIFE);
    assert_eq!(dead.methods(), ["Configure", "RunPodSandbox"]);
    // As whoever has taken it on does once it is gone.
    drop(nri);
    let reason = tokio::time::timeout(Duration::from_secs(180), dead.connection.closed()).await;
    reason.expect("the plugin sees the end of the connection");
}

#[tokio::test]
async fn adjustments_of_two_plugins_are_in_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    let answer = |key: &str, value: &str, shares: Option<u64>| {
        let cpu = LinuxCpu { shares, ..Default::default() };
        let other =
            LinuxResources { cpu: Some(LinuxCpu { quota: Some(9000), ..cpu.clone() }), ..Default::default() };
        wire::CreateContainerResponse {
            adjust: Some(ContainerAdjustment {
                env: vec![KeyValue { key: key.into(), value: value.into() }],
                cdi_devices: vec![wire::CdiDevice { name: format!("v.com/c={key}") }],
                linux: Some(LinuxContainerAdjustment {
                    resources: Some(LinuxResources { cpu: Some(cpu), ..Default::default() }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            update: shares
                .map(|_| ContainerUpdate {
                    container_id: "other".into(),
                    linux: Some(LinuxContainerUpdate { resources: Some(other) }),
                    ignore_failure: true,
                })
                .into_iter()
                .collect(),
            evict: vec![ContainerEviction { container_id: key.into(), reason: "test".into() }],
        }
        .encode_to_vec()
    };
    let answers = [answer("A", "1", Some(77)), answer("B", "2", None)];
    let mut fakes = Vec::new();
    for (name, answer) in ["20-second", "10-first"].into_iter().zip(answers.into_iter().rev()) {
        let create = move |asked: &super::connection::Asked| match asked.method.as_str() {
            "CreateContainer" => Some(Ok(answer.clone())),
            _ => nothing(),
        };
        fakes.push(plugin(&nri, name, create).await);
    }
    let mut spec = Spec::default();
    let beside = nri.create_container(&rig::pod().record, "con1", &rig::config(), &mut spec).await.unwrap();
    assert_eq!(spec.process.unwrap().env, ["A=1", "B=2"]);
    assert_eq!(spec.linux.unwrap().resources.unwrap().cpu.unwrap().shares, Some(77));
    assert_eq!(beside.devices, ["v.com/c=A", "v.com/c=B"]);
    assert_eq!(beside.limits.unwrap().cpu.unwrap().shares, Some(77));
    assert_eq!((beside.others.updates.len(), beside.others.evictions.len()), (1, 2));
    // The second saw what the first wanted; the judges see who wanted what.
    let seen = fakes[0].request::<wire::ContainerEvent>("CreateContainer").container.unwrap();
    assert_eq!(seen.env, ["A=1"]);
    let judged: wire::ValidateContainerAdjustmentRequest = fakes[1].request("ValidateContainerAdjustment");
    let owners = &judged.owners.unwrap().owners["con1"].compound[&(wire::Field::Env as i32)].owners;
    assert_eq!((owners["A"].as_str(), owners["B"].as_str()), ("10-first", "20-second"));
    assert!(judged.container.unwrap().env.is_empty());
    assert_eq!(judged.plugins.iter().map(|p| p.index.as_str()).collect::<Vec<_>>(), ["10", "20"]);
}

#[tokio::test]
async fn a_judge_may_reject() {
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    plugin(&nri, "10-judge", |asked| match asked.method.as_str() {
        "ValidateContainerAdjustment" => {
            let answer =
                wire::ValidateContainerAdjustmentResponse { reject: true, reason: "too much".into() };
            Some(Ok(answer.encode_to_vec()))
        }
        _ => nothing(),
    })
    .await;
    let created =
        nri.create_container(&rig::pod().record, "con1", &rig::config(), &mut Spec::default()).await;
    let text = created.unwrap_err().to_string();
    assert!(text.contains("10-judge") && text.contains("too much"), "{text}");
}

#[tokio::test]
async fn limits_that_change_are_what_plugins_make_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    plugin(&nri, "10-a", |asked| match asked.method.as_str() {
        "UpdateContainer" => {
            let update = |id: &str, cpus: &str| {
                let cpu = Some(LinuxCpu { cpus: cpus.into(), ..Default::default() });
                let resources = Some(LinuxResources { cpu, ..Default::default() });
                ContainerUpdate {
                    container_id: id.into(),
                    linux: Some(LinuxContainerUpdate { resources }),
                    ignore_failure: false,
                }
            };
            let update = vec![update("con1", "0"), update("other", "1")];
            Some(Ok(wire::UpdateContainerResponse { update, evict: vec![] }.encode_to_vec()))
        }
        _ => nothing(),
    })
    .await;
    let asked = LinuxContainerResources { cpu_shares: 8, cpuset_cpus: "0-1".into(), ..Default::default() };
    let wanted = nri.update_container(&rig::pod(), &rig::container(), &asked).await.unwrap();
    let (limits, others) = wanted.unwrap();
    let cpu = limits.cpu.unwrap();
    assert_eq!((cpu.shares, cpu.cpus.as_str()), (Some(8), "0"));
    assert_eq!(others.updates.iter().map(|u| u.container_id.as_str()).collect::<Vec<_>>(), ["other"]);
}

#[tokio::test]
async fn bytes_that_are_no_protocol_end_the_connection() {
    let request = |payload: &[u8]| {
        let mut pieces = Vec::new();
        wire::encode(wire::PLUGIN, payload, &mut pieces);
        pieces
    };
    for bad in [
        vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
        request(&[0xff, 0, 0, 0, 0, 0, 0, 1, 2, 0]),
        request(&[0, 0, 0, 0, 0, 0, 0, 1, 9, 0]),
        request(&[0, 0, 0, 1, 0, 0, 0, 1, 2, 0, 0xff]),
    ] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (connection, _requests) = Connection::new(ours, wire::PLUGIN, wire::RUNTIME);
        let call =
            connection.call::<wire::Empty>(wire::PLUGIN_SERVICE, "Shutdown", &wire::Empty {}, TIMEOUT * 10);
        let (answer, ()) = tokio::join!(call, async {
            let mut bytes = [0; 8];
            theirs.read_exact(&mut bytes).await.unwrap();
            theirs.write_all(&bad).await.unwrap();
        });
        let text = answer.unwrap_err().to_string();
        assert!(text.contains("cannot read") || text.contains("failed to decode"), "{text}");
        assert!(connection.is_closed());
    }
}

#[tokio::test]
async fn a_plugin_that_reads_nothing_does_not_hold_a_call_up() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let (connection, _requests) = Connection::new(ours, wire::PLUGIN, wire::RUNTIME);
    let big = wire::SynchronizeRequest {
        pods: vec![wire::PodSandbox { name: "x".repeat(3 << 20), ..Default::default() }],
        ..Default::default()
    };
    let begun = Instant::now();
    let calls =
        [0, 1].map(|_| connection.call::<wire::Empty>(wire::PLUGIN_SERVICE, "Synchronize", &big, TIMEOUT));
    for call in calls {
        call.await.unwrap_err();
    }
    assert!(begun.elapsed() < TIMEOUT * 3);
    let too_big = wire::PodSandbox { name: "x".repeat(5 << 20), ..Default::default() };
    let (connection, _fake) = connect(|_| nothing());
    let error =
        connection.call::<wire::Empty>(wire::PLUGIN_SERVICE, "X", &too_big, TIMEOUT).await.unwrap_err();
    assert!(matches!(error, super::connection::Error::TooLong(_)));
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_list_too_long_for_one_message_comes_in_parts() {
    let container = |id: usize| wire::Container {
        id: id.to_string(),
        args: vec!["x".repeat(1 << 20)],
        ..Default::default()
    };
    let update = ContainerUpdate { container_id: "7".into(), ..Default::default() };
    let last = wire::SynchronizeResponse { update: vec![update], more: false }.encode_to_vec();
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    let fake = plugin(&nri, "10-a", move |asked| match asked.method.as_str() {
        "Synchronize" if wire::SynchronizeRequest::decode(&*asked.payload).unwrap().more => {
            Some(Ok(wire::SynchronizeResponse { update: vec![], more: true }.encode_to_vec()))
        }
        "Synchronize" => Some(Ok(last.clone())),
        _ => nothing(),
    })
    .await;
    let plugins = nri.wanting(Event::RunPodSandbox).unwrap();
    let updates = plugins[0].synchronize(vec![], (0..8).map(container).collect()).await.unwrap();
    assert_eq!(updates.len(), 1);
    assert!(fake.methods().len() > 2);
    let stubborn = plugin(&nri, "20-b", |_| nothing()).await;
    let plugins = nri.wanting(Event::RunPodSandbox).unwrap();
    plugins[1].synchronize(vec![], (0..8).map(container).collect()).await.unwrap_err();
    assert_eq!(stubborn.methods(), ["Configure", "Synchronize"]);
}

/// Writes a program by another process: one that this process has open for writing, any child that it makes has open,
/// too, until it executes, and then the program cannot be executed (ETXTBSY).
fn install(dir: &Path, name: &str, text: &str, mode: &str) {
    let write = r#"printf '%s' "$1" > "$2" && chmod "$3" "$2""#;
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", write, "sh", text])
        .arg(dir.join(name))
        .arg(mode)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A plugin that tells what it was started with, and does not end by itself.
const STUBBORN: &str =
    "#!/bin/sh\necho \"$NRI_PLUGIN_NAME $NRI_PLUGIN_IDX $NRI_PLUGIN_SOCKET\" >&3\nexec sleep 200\n";

#[test]
fn installed_plugins_are_found_with_their_configurations() {
    let dir = tempfile::tempdir().unwrap();
    for (name, mode) in [("20-b", "755"), ("10-a", "755"), ("30-data", "644"), ("nameless", "755")] {
        install(dir.path(), name, STUBBORN, mode);
    }
    let configs = dir.path().join("conf.d");
    std::fs::create_dir(&configs).unwrap();
    for (name, text) in [("10-a.conf", "own"), ("a.conf", "any a's"), ("b.conf", "any b's")] {
        std::fs::write(configs.join(name), text).unwrap();
    }
    let (found, problems) = launch::installed(dir.path(), &configs);
    let seen: Vec<_> = found.iter().map(|plugin| (plugin.name(), plugin.config.as_str())).collect();
    assert_eq!(seen, [("10-a".to_owned(), "own"), ("20-b".to_owned(), "any b's")]);
    assert!(problems.len() == 1 && problems[0].contains("nameless"), "{problems:?}");
}

/// What a started plugin says, and whether it has ended after `end`.
fn said(mut socket: std::os::unix::net::UnixStream, end: impl FnOnce()) -> String {
    use std::io::Read;
    socket.set_nonblocking(false).unwrap();
    // So that a fault is a failure, and not a test that hangs.
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut line = [0; 7];
    socket.read_exact(&mut line).unwrap();
    end();
    // This ends with the last process that has the other side.
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    String::from_utf8(line.to_vec()).unwrap()
}

#[test]
fn plugins_that_were_started_end_with_who_started_them_however_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let programs = dir.path().join("plugins");
    std::fs::create_dir(&programs).unwrap();
    for name in ["10-a", "20-b", "30-c"] {
        install(&programs, name, STUBBORN, "755");
    }
    let ledger = ledger::Ledger::open(&dir.path().join("run"), &dir.path().join("data")).unwrap();
    let (found, _) = launch::installed(&programs, dir.path());
    let processes = launch::Processes::new(ledger.clone());
    assert!(ledger.owners().unwrap().is_empty(), "without plugins there is no record");
    // One that is not wanted any more.
    let (socket, record) = processes.start(&found[0]).unwrap();
    assert_eq!(said(socket, || processes.end(record).unwrap()), "a 10 3\n");
    processes.end(record).unwrap();
    // A node that is told to end.
    let (socket, _) = processes.start(&found[1]).unwrap();
    assert_eq!(said(socket, || assert!(processes.end_all().is_empty())), "b 20 3\n");
    assert!(ledger.owners().unwrap().is_empty());
    // A node that is killed: its lock goes with it, and whoever comes next finds the record.
    let (socket, _) = processes.start(&found[2]).unwrap();
    let others = || ledger.converge(&|_| false);
    assert_eq!(others().busy.len(), 1, "while it is held nobody takes it");
    let killed = || {
        drop(processes);
        // A child of another test, forked meanwhile, has the lock until it executes.
        let report = std::iter::repeat_with(others).find(|report| report.busy.is_empty()).unwrap();
        assert_eq!(report.undone.len(), 1);
    };
    assert_eq!(said(socket, killed), "c 30 3\n");
}

#[tokio::test]
async fn a_plugin_that_comes_does_not_hold_back_what_is_made_next() {
    let dir = tempfile::tempdir().unwrap();
    let nri = rig::nri(&dir);
    let hanging = nri.enter().await;
    assert!(nri.alone(Duration::from_millis(20)).await.is_none());
    drop(tokio::time::timeout(TIMEOUT, nri.enter()).await.expect("the plugin has given up"));
    drop(hanging);
    assert!(nri.alone(TIMEOUT).await.is_some());
}
