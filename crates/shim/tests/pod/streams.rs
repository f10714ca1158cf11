//! Input and output of a pod's containers.

use shim::protocol::{AttachRequest, Input};

use crate::{Pod, exec_request, plain, rig};

fn attach(container: &str, stdin: bool) -> AttachRequest {
    AttachRequest { container: container.into(), stdin, exec_id: String::new() }
}

#[test]
fn with_stdin_once_the_first_clients_end_is_the_end_of_input() {
    let mut pod = Pod::new(plain());
    for (id, once) in [("once", true), ("open", false)] {
        let mut request =
            pod.request(id, "while read line; do echo got $line; done; echo end; exit 3", |_| {});
        (request.stdin, request.stdin_once) = (true, once);
        pod.client.create(&request).unwrap();
        pod.client.start(id).unwrap();
        let mut client = pod.connect();
        // One that only looks on is not the one.
        let mut looks = pod.connect();
        looks.attach(&attach(id, false)).unwrap();
        drop(looks);
        let stream = client.attach(&attach(id, true)).unwrap();
        client.send_input(stream, &Input { data: b"first\n".to_vec(), ..Input::default() }).unwrap();
        pod.wait_for_log(id, "got first");
        drop(client);
        if once {
            assert_eq!(pod.client.wait(id, "").unwrap().code, 3);
            continue;
        }
        let mut client = pod.connect();
        let stream = client.attach(&attach(id, true)).unwrap();
        client.send_input(stream, &Input { data: b"second\n".to_vec(), ..Input::default() }).unwrap();
        pod.wait_for_log(id, "got second");
        assert!(pod.client.state(id, "").unwrap().running);
        client.send_input(stream, &Input { close: true, ..Input::default() }).unwrap();
        assert_eq!(rig::drain(&mut client, stream), ("got second\nend\n".into(), String::new(), 3));
    }
    pod.end();
}

#[test]
fn containers_do_not_wait_for_each_others_readers() {
    let mut pod = Pod::new(plain());
    pod.run("loud", "echo up; read x; while :; do echo much and more; done");
    let mut request = pod.request("loud2", "echo up; exec yes", |_| {});
    request.log = String::new();
    pod.client.create(&request).unwrap();
    // Nobody reads this one's output.
    let mut stuck = pod.connect();
    stuck.attach(&attach("loud2", false)).unwrap();
    pod.client.start("loud2").unwrap();
    pod.run("quick", "echo quick; exit 4");
    assert_eq!(pod.client.wait("quick", "").unwrap().code, 4);
    let (out, code) = pod.exec("loud", "echo in");
    assert_eq!((out.as_str(), code), ("in\n", 0));
    pod.end();
}

#[test]
fn one_connection_carries_many_execs() {
    let mut pod = Pod::new(plain());
    pod.run("a", "exec sleep 3600");
    pod.run("b", "exec sleep 3600");
    let mut clients: Vec<_> = (0..30).map(|_| pod.connect()).collect();
    let mut streams = Vec::new();
    for (n, client) in clients.iter_mut().enumerate() {
        let container = if n % 2 == 0 { "a" } else { "b" };
        let request = exec_request(container, &format!("echo {n}; exit {n}"));
        streams.push(client.exec(&request).unwrap().0);
    }
    for (n, (client, stream)) in clients.iter_mut().zip(streams).enumerate() {
        assert_eq!(rig::drain(client, stream), (format!("{n}\n"), String::new(), n as i32));
    }
    // The same process id may be in both.
    let mut same = exec_request("a", "sleep 3; exit 5");
    let (first, _) = pod.client.exec(&same).unwrap();
    assert!(pod.connect().exec(&same).unwrap_err().to_string().contains("taken"));
    same.container = "b".into();
    let mut other = pod.connect();
    let (second, _) = other.exec(&same).unwrap();
    assert_eq!(rig::drain(&mut pod.client, first).2, 5);
    assert_eq!(rig::drain(&mut other, second).2, 5);
    pod.end();
}
