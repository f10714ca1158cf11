//! A daemon that is killed and comes again.

use cri::contract::v1::*;

use crate::Test;
use crate::bench::Bench;
use crate::logs::counted;
use crate::wishes::container;

pub(crate) const TESTS: &[Test] = &[
    ("pods_run_on_without_the_daemon", run_on),
    ("codes_of_what_ended_meanwhile_are_known", codes),
    ("commands_leave_the_nodes_pods_alone", commands),
];

fn run_on(b: &Bench) {
    let pod = b.pod("on");
    let id = b.run(&pod, "c", &["probe", "count"]);
    let waiting = b.create(&pod, container("waiting", &["probe", "say", "late"]));
    b.until_logged("on", "c", "line 10");
    let (pods, containers) = (b.pods(), b.containers());
    let (status, pod_status) = (b.status(&id), b.pod_status(&pod));
    let seen = b.log("on", "c").lines().count();
    b.kill();
    b.until("its log goes on", || b.log("on", "c").lines().count() > seen + 20);
    b.start();
    assert_eq!((b.pods(), b.containers()), (pods, containers));
    // When it started, the shim knows to some microseconds otherwise.
    let now = ContainerStatus { started_at: status.started_at, ..b.status(&id) };
    assert_eq!((now, b.pod_status(&pod)), (status, pod_status));
    assert_eq!(b.exec(&id, &["probe", "say", "x"]).stdout, "x\n");
    b.start_container(&waiting);
    assert_eq!(b.until_exited(&waiting).exit_code, 0);
    b.stop(&id, 0);
    assert_eq!(b.status(&id).exit_code, 137);
    assert!(counted(&b.log("on", "c")) > 20);
    b.remove_pod(&pod);
}

fn codes(b: &Bench) {
    let pod = b.host_pod("codes-down");
    let mount =
        Mount { container_path: "/go".into(), host_path: b.dir().display().to_string(), ..Mount::default() };
    let ids: Vec<(i32, String)> = (1..=5)
        .map(|code| {
            let words = ["probe", "await", "/go/codes-go", "then", "exit", &code.to_string()];
            let config =
                ContainerConfig { mounts: vec![mount.clone()], ..container(&format!("c{code}"), &words) };
            (code, b.run_as(&pod, config))
        })
        .collect();
    b.kill();
    std::fs::write(b.path("codes-go"), "").unwrap();
    ids.iter().for_each(|(_, id)| b.until_written(id));
    b.start();
    for (code, id) in ids {
        let status = b.status(&id);
        assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, code));
        assert!(status.started_at > status.created_at && status.finished_at > status.started_at);
    }
    std::fs::remove_file(b.path("codes-go")).unwrap();
    b.remove_pod(&pod);
}

fn commands(b: &Bench) {
    let pod = b.pod("beside");
    let id = b.run(&pod, "c", &["probe", "sleep"]);
    let ok = |args: &[&str]| {
        let done = b.command(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    for up in [true, false] {
        if !up {
            b.kill();
        }
        assert_eq!(ok(&["run", "--rm", "t", "probe", "say", "hello"]), "hello\n");
        ok(&["run", "-d", "--name", "mine", "t", "probe", "sleep"]);
        assert_eq!(ok(&["ps", "-aq"]).lines().count(), 1, "pods are not listed there");
        ok(&["rm", "-f", "mine"]);
        ok(&["prune", "--force"]);
    }
    b.start();
    assert_eq!(b.status(&id).state(), ContainerState::ContainerRunning);
    assert_eq!(b.exec(&id, &["probe", "say", "x"]).stdout, "x\n");
    b.remove_pod(&pod);
}
