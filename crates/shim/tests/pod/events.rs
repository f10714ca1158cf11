//! What a daemon hears.

use std::fs;

use serde_json::json;
use shim::client::Client;
use shim::protocol::{Code, ContainerEvent, Happened, KillRequest};

use crate::{Pod, plain};

fn until(client: &mut Client, stream: u32, last: Happened) -> Vec<ContainerEvent> {
    let mut events = Vec::new();
    loop {
        let event = client.next_event(stream).expect("an event");
        let done = event.happened() == last;
        events.push(event);
        if done {
            return events;
        }
    }
}

fn names(events: &[ContainerEvent]) -> Vec<(String, Happened)> {
    events.iter().map(|e| (e.container.clone(), e.happened())).collect()
}

#[test]
fn a_newcomer_hears_of_all_there_is_and_then_of_all_that_happens() {
    let mut pod = Pod::new(plain());
    pod.run("ended", "exit 7");
    assert_eq!(pod.client.wait("ended", "").unwrap().code, 7);
    pod.run("running", "exec sleep 3600");
    let request = pod.request("made", "exit 1", |_| {});
    pod.client.create(&request).unwrap();
    let mut other = pod.connect();
    let stream = other.watch().unwrap();
    let first = until(&mut other, stream, Happened::Current);
    assert_eq!(
        names(&first),
        [
            ("ended".into(), Happened::Exited),
            ("made".into(), Happened::Created),
            ("running".into(), Happened::Started),
            (String::new(), Happened::Current),
        ]
    );
    assert_eq!(first[0].exited.as_ref().unwrap().code, 7);
    assert_eq!(first[2].pid, pod.client.state("running", "").unwrap().pid);
    pod.client.start("made").unwrap();
    let then = until(&mut other, stream, Happened::Exited);
    assert_eq!(names(&then), [("made".into(), Happened::Started), ("made".into(), Happened::Exited)]);
    assert_eq!(then[1].exited, Some(pod.client.wait("made", "").unwrap()));
    pod.client.delete("made").unwrap();
    assert_eq!(names(&until(&mut other, stream, Happened::Deleted)), [("made".into(), Happened::Deleted)]);
    assert!(pod.client.state("made", "").unwrap_err().to_string().contains("not here"));
    let list = pod.client.list().unwrap();
    let listed: Vec<_> = list.iter().map(|s| (s.container.as_str(), s.running)).collect();
    assert_eq!(listed, [("ended", false), ("running", true)]);
    assert!(list[1].started_at > list[0].started_at && list[0].started_at > 0);
    pod.end();
}

#[test]
fn who_does_not_read_is_cut_off_and_holds_nobody_up() {
    let mut pod = Pod::new(plain());
    let mut deaf = pod.connect();
    deaf.watch().unwrap();
    pod.run("a", "exec sleep 3600");
    // Each newcomer makes the shim tell nobody; ends and beginnings of a container do.
    let id = "x".repeat(200);
    for _ in 0..4000 {
        let request = pod.request(&id, "true", |_| {});
        pod.client.create(&request).unwrap();
        pod.client.delete(&id).unwrap();
        if deaf_is_cut(&mut deaf) {
            break;
        }
    }
    assert!(deaf_is_cut(&mut deaf), "it is still connected");
    assert!(pod.client.state("a", "").unwrap().running);
    pod.end();
}

/// Whether the other side has closed, with all that came before still unread.
fn deaf_is_cut(client: &mut Client) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let socket = client.socket();
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    poll(&mut fds, Some(&rustix::time::Timespec::default())).is_ok_and(|ready| ready > 0)
}

#[test]
fn an_exit_is_on_disk_before_anybody_hears_of_it() {
    let mut pod = Pod::new(plain());
    for n in 0..20 {
        let id = format!("c{n}");
        pod.run(&id, &format!("exit {n}"));
        let code = pod.client.wait(&id, "").unwrap().code;
        let text = fs::read_to_string(pod.path(&id, "exit.json")).expect("exit.json");
        let exit: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((exit["code"].clone(), code), (json!(n), n));
    }
    pod.end();
}

#[test]
fn a_signal_is_128_and_its_number() {
    let mut pod = Pod::new(plain());
    for signal in [1, 9, 15, 34] {
        let id = format!("s{signal}");
        pod.run(&id, "exec sleep 3600");
        let kill = |pod: &mut Pod| {
            pod.client.kill(&KillRequest { container: id.clone(), signal, ..KillRequest::default() })
        };
        // A namespace's first process has no default action: it takes SIGKILL from outside alone.
        kill(&mut pod).unwrap();
        if signal != 9 {
            assert!(pod.client.state(&id, "").unwrap().running);
            assert_eq!(pod.stop(&id), 137);
        } else {
            assert_eq!(pod.client.wait(&id, "").unwrap().code, 137);
        }
    }
    pod.run("trap", "trap 'exit 42' TERM; echo up; while :; do sleep 0.01; done");
    pod.wait_for_log("trap", "up");
    pod.client.kill(&KillRequest { container: "trap".into(), signal: 15, ..KillRequest::default() }).unwrap();
    assert_eq!(pod.client.wait("trap", "").unwrap().code, 42);
    pod.end();
}

#[test]
fn a_program_that_is_not_there_has_ended_with_127() {
    let mut pod = Pod::new(plain());
    let request = pod.request("a", "", |c| c["process"]["args"] = json!(["/no/such"]));
    let made = pod.client.create(&request);
    let error = match made {
        Ok(_) => pod.client.start("a").unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.code(), Some(Code::NotFound as i32), "{error}");
    if let Ok(state) = pod.client.state("a", "") {
        assert_eq!(state.exited.unwrap().code, 127);
        pod.client.delete("a").unwrap();
    }
    pod.run("a", "exit 0");
    assert_eq!(pod.client.wait("a", "").unwrap().code, 0);
    pod.end();
}

/// Who starts a container knows by the code what is wrong with it.
#[test]
fn a_container_that_does_not_start_has_ended_with_126_or_128() {
    let mut pod = Pod::new(plain());
    for (id, expected, code) in [("text", 126, Code::FailedPrecondition), ("hook", 128, Code::Internal)] {
        let request = pod.request(id, "exec sleep 3600", |config| match expected {
            126 => config["process"]["args"] = json!(["/etc/passwd"]),
            _ => config["hooks"] = json!({"startContainer": [{"path": "/bin/false"}]}),
        });
        pod.client.create(&request).expect("it is found when the container starts");
        let error = pod.client.start(id).unwrap_err();
        assert_eq!(error.code(), Some(code as i32), "{error}");
        assert_eq!(pod.client.wait(id, "").unwrap().code, expected, "{error}");
        assert_eq!(pod.client.state(id, "").unwrap().exited.unwrap().code, expected, "{error}");
        pod.client.delete(id).unwrap();
    }
    pod.end();
}

#[test]
fn who_is_meant_must_be_said_and_be_there() {
    let mut pod = Pod::new(plain());
    assert!(pod.client.start("").unwrap_err().to_string().contains("no container is made yet"));
    pod.run("a", "exec sleep 3600");
    assert!(pod.client.state("", "").unwrap().running, "the only one needs no name");
    pod.run("b", "exec sleep 3600");
    assert!(pod.client.state("", "").unwrap_err().to_string().contains("one of 2 containers must be named"));
    assert!(pod.client.pids("c").unwrap_err().to_string().contains("\"c\" is not here"));
    let again = pod.request("a", "true", |_| {});
    assert!(pod.client.create(&again).unwrap_err().to_string().contains("already"));
    assert!(pod.client.delete("a").unwrap_err().to_string().contains("running"));
    assert!(pod.client.shutdown().unwrap_err().to_string().contains("running"));
    pod.end();
}
