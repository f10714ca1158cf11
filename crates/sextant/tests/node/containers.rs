//! The life of a container.

use std::time::{Duration, Instant};

use cri::contract::Code;
use cri::contract::v1::*;

use crate::Test;
use crate::bench::Bench;
use crate::wishes::{container, with_limits};

pub(crate) const TESTS: &[Test] = &[
    ("exit_codes_and_times_are_kept", codes),
    ("what_cannot_start_says_why", no_program),
    ("a_container_that_eats_is_oom_killed", oom),
    ("stop_sends_the_signal_and_then_insists", stop),
    ("a_running_container_is_removed", removed),
    ("of_several_attempts_the_newest_comes_first", attempts),
];

fn codes(b: &Bench) {
    let pod = b.host_pod("codes");
    for (name, words, code, reason) in [
        ("good", &["probe"][..], 0, "Completed"),
        ("bad", &["probe", "exit", "3"], 3, "Error"),
        ("killed", &["probe", "die", "USR1"], 138, "Error"),
    ] {
        // In a PID namespace of its own the first process is deaf to its own signals.
        let mut config = container(name, words);
        if name == "killed" {
            let options = NamespaceOption { pid: NamespaceMode::Node.into(), ..NamespaceOption::default() };
            let linux = config.linux.get_or_insert_default();
            linux.security_context.get_or_insert_default().namespace_options = Some(options);
        }
        let id = b.create(&pod, config);
        let status = b.status(&id);
        assert_eq!((status.state(), status.started_at), (ContainerState::ContainerCreated, 0));
        b.start_container(&id);
        let status = b.until_exited(&id);
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{name}");
        assert!(
            status.created_at <= status.started_at && status.started_at <= status.finished_at,
            "{status:?}"
        );
        let request = StartContainerRequest { container_id: id.clone() };
        let error = b.wait(async |c| c.start_container(request).await).unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition);
    }
    // By default the image's command.
    let id = b.run_as(&pod, container("default", &[]));
    b.until_exited(&id);
    assert!(b.log("codes", "default").ends_with(" stdout F by default\n"));
    b.remove_pod(&pod);
}

fn no_program(b: &Bench) {
    let pod = b.host_pod("none");
    let id = b.create(&pod, container("c", &["nosuch"]));
    let request = StartContainerRequest { container_id: id.clone() };
    let error = b.wait(async |c| c.start_container(request).await).unwrap_err();
    assert!(error.to_string().contains("nosuch"), "{error}");
    let status = b.status(&id);
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 127));
    assert_eq!(status.reason, "StartError");
    assert!(status.message.contains("nosuch"), "{status:?}");
    b.remove(&id);
    b.remove_pod(&pod);
}

fn oom(b: &Bench) {
    let pod = b.host_pod("oom");
    let limits = LinuxContainerResources {
        memory_limit_in_bytes: 32 << 20,
        memory_swap_limit_in_bytes: 32 << 20,
        ..LinuxContainerResources::default()
    };
    let id = b.run_as(&pod, with_limits(container("c", &["probe", "eat"]), limits));
    let status = b.until_exited(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    b.remove_pod(&pod);
}

fn stop(b: &Bench) {
    let pod = b.host_pod("stop");
    let trap = |name: &str, signal: &str| {
        let id = b.create(&pod, container(name, &["probe", "trap", signal, "then", "exit", "4"]));
        b.start_container(&id);
        b.until_logged("stop", name, "ready");
        id
    };
    let polite = trap("polite", "TERM");
    b.stop(&polite, 60);
    assert_eq!(b.status(&polite).exit_code, 4);
    b.stop(&polite, 60);
    // Another signal, asked for by the pod's author.
    let mut config = container("other", &["probe", "trap", "USR1", "then", "exit", "5"]);
    config.stop_signal = Signal::Sigusr1.into();
    let other = b.run_as(&pod, config);
    b.until_logged("stop", "other", "ready");
    assert_eq!(b.status(&other).stop_signal(), Signal::Sigusr1);
    b.stop(&other, 60);
    assert_eq!(b.status(&other).exit_code, 5);
    // Deaf to TERM, as a first process without a handler is.
    let deaf = b.run(&pod, "deaf", &["probe", "sleep"]);
    let began = Instant::now();
    b.stop(&deaf, 1);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(b.status(&deaf).exit_code, 137);
    // A patient stop is overtaken by an impatient one.
    let slow = b.run(&pod, "slow", &["probe", "sleep"]);
    let patient = b.connect().unwrap();
    let id = slow.clone();
    let waiting = std::thread::spawn(move || {
        let request = StopContainerRequest { container_id: id, timeout: 10_000 };
        patient.wait(async |c| c.stop_container(request).await).unwrap();
    });
    std::thread::sleep(Duration::from_millis(200));
    b.stop(&slow, 0);
    b.until("the patient stop has ended too", || waiting.is_finished());
    waiting.join().unwrap();
    b.remove_pod(&pod);
}

fn removed(b: &Bench) {
    let pod = b.host_pod("removed");
    let id = b.run(&pod, "c", &["probe", "sleep"]);
    b.remove(&id);
    b.remove(&id);
    assert!(b.containers().is_empty());
    // Its name is free again.
    let again = b.run(&pod, "c", &["probe", "sleep"]);
    assert_ne!(id, again);
    let request = RemovePodSandboxRequest { pod_sandbox_id: pod };
    b.ok(async |c| c.remove_pod_sandbox(request).await);
    assert!(b.containers().is_empty() && b.pods().is_empty());
}

/// A kubelet with EventedPLEG takes the first of a name for the last attempt.
fn attempts(b: &Bench) {
    let pod = b.host_pod("attempts");
    for attempt in 0..6 {
        let mut config = container("c", &["probe"]);
        config.metadata.get_or_insert_default().attempt = attempt;
        b.create(&pod, config);
    }
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: false };
    let answer = b.ok(async |c| c.pod_sandbox_status(request).await);
    let metadata = answer.containers_statuses.into_iter().filter_map(|status| status.metadata);
    assert_eq!(metadata.map(|metadata| metadata.attempt).collect::<Vec<_>>(), [5, 4, 3, 2, 1, 0]);
    b.remove_pod(&pod);
}
