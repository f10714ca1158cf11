//! Pods that come and go, one after the other: at every step what was acknowledged before still holds.

use std::time::Duration;

use cri::contract::v1::*;
use testkit::Random;

use super::{Kubelet, Site};
use crate::wishes;

/// Lets pods come and go until it is over; how many.
pub(super) fn work(site: &Site, worker: u64, mut random: Random) -> u64 {
    let kubelet = Kubelet::new(site);
    let mut attempt = 0;
    while !site.is_over() {
        life(&kubelet, &format!("churn-{worker}"), attempt, &mut random);
        attempt += 1;
    }
    attempt.into()
}

fn life(kubelet: &Kubelet<'_>, name: &str, attempt: u32, random: &mut Random) {
    let mut config = wishes::pod(name);
    config.metadata.get_or_insert_default().attempt = attempt;
    let pod = kubelet.run_pod(config);
    is_there(kubelet, &[&pod]);
    assert_eq!(kubelet.pod_state(&pod), PodSandboxState::SandboxReady);
    let code = 1 + random.below(200) as i32;
    let ended = kubelet.run(&pod, wishes::container("ended", &["probe", "exit", &code.to_string()]));
    let runs = kubelet.run(&pod, wishes::container("runs", &["probe", "sleep"]));
    let only_created = kubelet.create(&pod, wishes::container("created", &["probe"]));
    is_there(kubelet, &[&pod, &ended, &runs, &only_created]);
    let end = kubelet.until_exited(&ended);
    assert_eq!((end.exit_code, end.reason.as_str()), (code, "Error"), "{end:?}");
    std::thread::sleep(random.duration(Duration::from_millis(300)));
    let running = kubelet.status(&runs);
    assert_eq!(running.state(), ContainerState::ContainerRunning, "{running:?}");
    assert_eq!(kubelet.status(&only_created).state(), ContainerState::ContainerCreated);
    if random.below(2) == 0 {
        kubelet.stop(&runs);
        let status = kubelet.status(&runs);
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 137), "{status:?}");
        kubelet.remove(&runs);
    }
    if random.below(2) == 0 {
        kubelet.stop_pod(&pod);
        assert_eq!(kubelet.pod_state(&pod), PodSandboxState::SandboxNotready);
        let status = kubelet.status(&only_created);
        assert_ne!(status.state(), ContainerState::ContainerRunning, "{status:?}");
    }
    let kept = kubelet.status(&ended);
    assert_eq!((kept.exit_code, kept.reason, kept.finished_at), (code, end.reason, end.finished_at));
    kubelet.remove_pod(&pod, &[&ended, &runs, &only_created]);
    let all = kubelet.all();
    assert!([pod, ended, runs, only_created].iter().all(|id| !all.contains(id)), "{name} is back");
}

fn is_there(kubelet: &Kubelet<'_>, ids: &[&String]) {
    let all = kubelet.all();
    assert!(ids.iter().all(|id| all.contains(id)), "not all of {ids:?} in {all:?}");
}
