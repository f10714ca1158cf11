//! A pod of a hundred containers, and what an idle shim costs.

use std::fs;

use crate::{Pod, plain};

#[test]
fn a_hundred_containers_in_one_shim() {
    let mut pod = Pod::new(plain());
    for n in 0..100 {
        let id = format!("c{n:03}");
        let request = pod.request(&id, &format!("echo I am {n}; read x; exit {n}"), |_| {});
        pod.client
            .create(&shim::protocol::CreateRequest { stdin: true, stdin_once: true, ..request })
            .unwrap();
        pod.client.start(&id).unwrap();
    }
    let list = pod.client.list().unwrap();
    assert!(list.len() == 100 && list.iter().all(|s| s.running));
    for n in (0..100).rev() {
        let id = format!("c{n:03}");
        let mut client = pod.connect();
        let attach =
            shim::protocol::AttachRequest { container: id.clone(), stdin: true, ..Default::default() };
        client.attach(&attach).unwrap();
        drop(client);
        assert_eq!(pod.client.wait(&id, "").unwrap().code, n);
        assert_eq!(pod.log(&id), [format!("stdout F I am {n}")]);
    }
    for state in pod.client.list().unwrap() {
        pod.client.delete(&state.container).unwrap();
    }
    // The creator's connection, the socket, the epoll, the standard streams, and descriptor 4.
    let open = fs::read_dir(format!("/proc/{}/fd", pod.shim.pid)).unwrap().count();
    assert!(open <= 8, "{open} descriptors are left");
    pod.end();
}

/// What a pod's shim costs beside 49 others, kilobytes. Run by hand with SEXTANT_TEST_SHIM naming the small build:
/// `cargo build -p shim --profile shim`.
#[test]
#[ignore = "measures; its figure is the small build's"]
fn what_an_idle_shim_costs() {
    let mut pods: Vec<Pod> = (0..50).map(|_| Pod::new(plain())).collect();
    for pod in &mut pods {
        pod.run("a", "exec sleep 600");
        let (out, code) = pod.exec("a", "echo in");
        assert_eq!((out.as_str(), code), ("in\n", 0));
    }
    let field = |pid: i32, name: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = text.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    for name in ["Rss:", "Pss:", "Pss_Anon:", "Pss_File:", "Private_Dirty:"] {
        let all: u64 = pods.iter().map(|p| field(p.shim.pid, name)).sum();
        println!("{name} {} kB", all / 50);
    }
    println!("{}", fs::read_to_string(format!("/proc/{}/smaps", pods[0].shim.pid)).unwrap());
    pods.into_iter().for_each(Pod::end);
}
