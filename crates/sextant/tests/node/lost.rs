//! What ends without being stopped: a pod's shim by a kill, everything by a reboot.

use std::fs;
use std::path::{Path, PathBuf};

use cri::contract::Code;
use cri::contract::v1::*;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::{Pid, Signal, kill_process};
use testkit::{Random, instance_name};

use crate::Test;
use crate::bench::Bench;
use crate::gate::Gate;
use crate::logs::counted;
use crate::machine;
use crate::wishes::container;

pub(crate) const TESTS: &[Test] = &[
    ("a_pod_whose_shim_is_killed_ends", shim_killed),
    ("a_shim_that_is_killed_while_the_daemon_is_down_is_noticed", both_killed),
    ("after_a_reboot_ends_and_logs_are_known", reboot),
    ("after_a_reboot_plugins_of_others_are_told", reboot_with_foreign_network),
];

/// A pod's containers: one that had ended, one that ran, one that was only created.
struct Three {
    pod: String,
    ended: String,
    ran: String,
    created: String,
}

impl Three {
    fn up(b: &Bench, name: &str) -> Self {
        let pod = b.pod(name);
        let ended = b.run(&pod, "ended", &["probe", "say", "done", "then", "exit", "3"]);
        let ran = b.run(&pod, "ran", &["probe", "count"]);
        let created = b.create(&pod, container("created", &["probe"]));
        b.until_exited(&ended);
        b.until_logged(name, "ran", "line 10");
        Self { pod, ended, ran, created }
    }

    /// It is down and told so, and what was known of it is known.
    fn check_down(&self, b: &Bench, name: &str) {
        let pod = b.pod_status(&self.pod);
        assert_eq!((pod.state(), pod.network.unwrap().ip.as_str()), (PodSandboxState::SandboxNotready, ""));
        let ended = b.status(&self.ended);
        assert_eq!((ended.state(), ended.exit_code), (ContainerState::ContainerExited, 3), "{ended:?}");
        assert!(ended.started_at > 0 && ended.finished_at >= ended.started_at, "{ended:?}");
        let ran = b.status(&self.ran);
        assert_eq!((ran.state(), ran.exit_code), (ContainerState::ContainerExited, 137), "{ran:?}");
        assert!(!ran.reason.is_empty() && ran.finished_at > ran.created_at, "{ran:?}");
        assert!(fs::read_to_string(&ended.log_path).unwrap().ends_with(" stdout F done\n"));
        // The last line may have been cut off with its writer.
        let log = b.log(name, "ran");
        assert!(counted(log.get(..=log.rfind('\n').unwrap()).unwrap()) >= 10);
        let request = StartContainerRequest { container_id: self.created.clone() };
        let error = b.wait(async |c| c.start_container(request).await).unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        let request = ExecSyncRequest {
            container_id: self.ran.clone(),
            cmd: vec!["probe".into()],
            ..ExecSyncRequest::default()
        };
        let error = b.wait(async |c| c.exec_sync(request).await).unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    }

    fn remove(&self, b: &Bench) {
        b.remove(&self.ended);
        b.remove_pod(&self.pod);
    }
}

fn shim_killed(b: &Bench) {
    let (hit, spared) = (Three::up(b, "hit"), b.pod("spared"));
    let runs = b.run(&spared, "runs", &["probe", "sleep"]);
    kill(&machine::shims_of(b.dir(), &hit.pod));
    b.until("the pod is not ready", || b.pod_status(&hit.pod).state() != PodSandboxState::SandboxReady);
    b.until_exited(&hit.ran);
    b.until("its processes are gone", || machine::processes(&instance(b).join(&hit.ran)).is_empty());
    hit.check_down(b, "hit");
    // The same metadata is another pod once this one is gone.
    hit.remove(b);
    let again = b.pod("hit");
    assert_ne!(again, hit.pod);
    assert_eq!(b.exec(&runs, &["probe", "say", "x"]).stdout, "x\n");
    b.remove_pod(&again);
    b.remove_pod(&spared);
}

fn both_killed(b: &Bench) {
    let (hit, spared) = (Three::up(b, "hit-down"), b.pod("spared-down"));
    let runs = b.run(&spared, "runs", &["probe", "sleep"]);
    b.kill();
    kill(&machine::shims_of(b.dir(), &hit.pod));
    b.start();
    hit.check_down(b, "hit-down");
    b.until("its processes are gone", || machine::processes(&instance(b).join(&hit.ran)).is_empty());
    let ended = b.status(&hit.ran);
    assert_eq!(b.exec(&runs, &["probe", "say", "x"]).stdout, "x\n");
    b.kill();
    b.start();
    assert_eq!(b.status(&hit.ran), ended, "it is written down");
    hit.remove(b);
    b.remove_pod(&spared);
}

fn reboot(b: &Bench) {
    let three = Three::up(b, "rebooted");
    let host = b.host_pod("rebooted-host");
    b.run(&host, "c", &["probe", "sleep"]);
    let stopped = b.pod("rebooted-stopped");
    let before = b.run(&stopped, "c", &["probe", "exit", "5"]);
    b.until_exited(&before);
    b.stop_pod(&stopped);
    let known = b.status(&before);
    b.kill();
    machine_goes_down(b);
    b.start();
    three.check_down(b, "rebooted");
    assert!(b.pods().iter().all(|pod| pod.state() == PodSandboxState::SandboxNotready));
    assert!(b.containers().iter().all(|c| c.state() != ContainerState::ContainerRunning));
    // When it started, the shim knew to some microseconds otherwise.
    let now = ContainerStatus { started_at: known.started_at, ..b.status(&before) };
    assert_eq!(now, known);
    let ended = b.status(&three.ran);
    // As a kubelet goes on: new pods first, then the old ones away.
    let next = b.pod("next");
    let c = b.run(&next, "c", &["probe", "sleep"]);
    b.kill();
    b.start();
    assert_eq!(b.status(&three.ran), ended, "it is written down");
    assert_eq!(b.exec(&c, &["probe", "say", "x"]).stdout, "x\n");
    three.remove(b);
    [&host, &stopped, &next].iter().for_each(|pod| b.remove_pod(pod));
    assert!(b.pods().is_empty() && b.containers().is_empty());
    // What an instance has from its first pod on.
    b.warm_up();
}

fn reboot_with_foreign_network(b: &Bench) {
    let gate = Gate::new(b);
    gate.open();
    let pod = b.pod("foreign");
    assert_eq!(gate.calls(), ["ADD"]);
    b.kill();
    machine_goes_down(b);
    b.start();
    b.remove_pod(&pod);
    assert_eq!(gate.calls(), ["ADD", "DEL"], "an address that is kept on disk would be taken for ever");
    drop(gate);
    b.warm_up();
}

/// Everything ends but what is on disk: processes, mounts, cgroups, the network, the boot and what is in memory.
fn machine_goes_down(b: &Bench) {
    let run = b.path("run");
    kill(&machine::shims(b.dir()));
    kill(&machine::processes(&instance(b)));
    b.until("no process is left", || machine::processes(&instance(b)).is_empty());
    for cgroup in machine::cgroups(&instance(b)) {
        let gone = || fs::remove_dir(&cgroup).is_ok() || !cgroup.exists();
        b.until(&format!("{} is removed", cgroup.display()), gone);
    }
    for mount in machine::mounts_below(&run) {
        unmount(&mount, UnmountFlags::DETACH).unwrap();
    }
    fs::remove_dir_all(&run).unwrap();
    // The network is another, and so are the mounts: the old ones go with their last process.
    testkit::own_namespaces();
    let id = b.path("boot-id");
    let boot = Random::fresh().1;
    fs::write(&id, format!("{:08x}-0b5e-4f5c-9a54-0f1c6f1b5d01\n", boot as u32)).unwrap();
    let told = Path::new("/proc/sys/kernel/random/boot_id");
    // Not over that of the last time: the file would be a mount point itself, which nobody can remove.
    let _ = unmount(told, UnmountFlags::DETACH);
    mount_bind(&id, told).unwrap();
}

/// The cgroup of the instance, below a hierarchy's root.
fn instance(b: &Bench) -> PathBuf {
    instance_name(&b.path("run")).into()
}

fn kill(processes: &[i32]) {
    for pid in processes {
        // It may be gone already, with its PID namespace.
        let _ = kill_process(Pid::from_raw(*pid).unwrap(), Signal::KILL);
    }
}
