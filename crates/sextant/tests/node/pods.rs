//! Pods: what their containers share, and what they are told of the network.

use std::fs;

use cri::contract::Code;
use cri::contract::v1::*;
use serde_json::Value;

use crate::Test;
use crate::bench::Bench;
use crate::probe::ask;
use crate::wishes::{container, host_pod, pod, with_namespaces};

pub(crate) const TESTS: &[Test] = &[
    ("containers_of_a_pod_share_its_network", shared_network),
    ("a_pod_on_the_nodes_network", host_network),
    ("a_pid_namespace_is_the_pods_or_its_own", pid_namespaces),
    ("ports_lead_into_the_pod_until_it_stops", ports),
    ("names_and_sysctls_are_as_asked", names),
    ("the_same_pod_twice_is_one_and_another_is_refused", twice),
    ("a_stopped_pod_is_kept_and_runs_nothing", stopped),
    ("a_network_that_is_put_right_is_used_and_its_fault_is_told_once", no_plugin),
];

fn text<'a>(seen: &'a Value, path: &str) -> &'a str {
    seen["paths"][path]["text"].as_str().unwrap_or_else(|| panic!("no {path} in {seen}"))
}

fn shared_network(b: &Bench) {
    let (one, other) = (b.pod("one"), b.pod("other"));
    let address = b.pod_status(&one).network.unwrap().ip;
    b.run(&one, "web", &["probe", "serve", "80", "web"]);
    b.until_logged("one", "web", "serving");
    let beside = b.run(&one, "beside", &["probe", "sleep"]);
    assert_eq!(b.exec(&beside, &["probe", "ask", "127.0.0.1:80"]).stdout, "web 127.0.0.1\n");
    let far = b.run(&other, "far", &["probe", "sleep"]);
    let said = b.exec(&far, &["probe", "ask", &format!("{address}:80")]);
    let from = b.pod_status(&other).network.unwrap().ip;
    assert_eq!(said.stdout, format!("web {from}\n"), "{said:?}");
    assert_eq!(b.look(&far, &[])["links"], serde_json::json!(["lo", "eth0"]));
    [one, other].iter().for_each(|pod| b.remove_pod(pod));
}

fn host_network(b: &Bench) {
    let pod = b.host_pod("host");
    assert_eq!(b.pod_status(&pod).network.unwrap().ip, "");
    b.run(&pod, "web", &["probe", "serve", "8080", "web"]);
    b.until_logged("host", "web", "serving");
    assert_eq!(ask("127.0.0.1:8080").unwrap(), "web 127.0.0.1");
    let c = b.run(&pod, "c", &["probe", "sleep"]);
    let node = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    assert_eq!(b.look(&c, &[])["hostname"], node);
    b.remove_pod(&pod);
}

fn pid_namespaces(b: &Bench) {
    let pids = |id: &str| {
        let seen = b.look(id, &["/proc/1/cmdline", "/proc/self/status"]);
        text(&seen, "/proc/1/cmdline").replace('\0', " ").trim().to_owned()
    };
    let options = NamespaceOption { pid: NamespaceMode::Pod.into(), ..host_options() };
    let shared = b.run_pod(with_namespaces(pod("shared"), options.clone()));
    let with = |name: &str, options: NamespaceOption| {
        let mut config = container(name, &["probe", "sleep"]);
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().namespace_options = Some(options);
        config
    };
    let [one, two] = ["one", "two"].map(|name| b.run_as(&shared, with(name, options.clone())));
    for id in [&one, &two] {
        assert!(!pids(id).contains("probe"), "the pod's own first process: {}", pids(id));
    }
    let own = NamespaceOption { pid: NamespaceMode::Container.into(), ..host_options() };
    let alone = b.run_as(&shared, with("alone", own));
    assert_eq!(pids(&alone), "probe sleep");
    // A debugger joins what it looks at.
    let target =
        NamespaceOption { pid: NamespaceMode::Target.into(), target_id: alone.clone(), ..host_options() };
    let debugger = b.run_as(&shared, with("debugger", target));
    assert_eq!(pids(&debugger), "probe sleep");
    b.stop(&alone, 0);
    b.until_exited(&debugger);
    let node = NamespaceOption { pid: NamespaceMode::Node.into(), ..host_options() };
    let nodes = b.run_as(&shared, with("nodes", node));
    let init = fs::read_to_string("/proc/1/cmdline").unwrap().replace('\0', " ");
    assert_eq!(pids(&nodes), init.trim());
    b.remove_pod(&shared);
}

fn host_options() -> NamespaceOption {
    NamespaceOption { network: NamespaceMode::Node.into(), ..NamespaceOption::default() }
}

fn ports(b: &Bench) {
    let mut config = pod("ports");
    config.port_mappings = vec![PortMapping {
        protocol: Protocol::Tcp.into(),
        container_port: 80,
        host_port: 18080,
        host_ip: String::new(),
    }];
    let id = b.run_pod(config);
    b.run(&id, "web", &["probe", "serve", "80", "web"]);
    b.until_logged("ports", "web", "serving");
    assert!(ask("127.0.0.1:18080").unwrap().starts_with("web "));
    b.stop_pod(&id);
    assert!(std::net::TcpStream::connect("127.0.0.1:18080").is_err());
    b.remove_pod(&id);
}

fn names(b: &Bench) {
    let mut config = pod("names");
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.96.0.10".into()],
        searches: vec!["svc.cluster.local".into()],
        options: vec!["ndots:5".into()],
    });
    let sysctls = [("kernel.shm_rmid_forced", "1"), ("net.ipv4.ip_local_port_range", "2000 3000")];
    config.linux.get_or_insert_default().sysctls =
        sysctls.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let id = b.run_pod(config);
    let c = b.run(&id, "c", &["probe", "sleep"]);
    let paths = [
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/hosts",
        "/proc/sys/kernel/shm_rmid_forced",
        "/proc/sys/net/ipv4/ip_local_port_range",
    ];
    let seen = b.look(&c, &paths);
    assert_eq!(text(&seen, paths[0]), "search svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n");
    assert_eq!((text(&seen, paths[1]), &seen["hostname"]), ("names\n", &"names".into()));
    let address = b.pod_status(&id).network.unwrap().ip;
    assert!(text(&seen, paths[2]).contains(&format!("{address}\tnames")), "{seen}");
    assert_eq!(text(&seen, paths[3]).trim(), "1");
    assert_eq!(text(&seen, paths[4]).split_whitespace().collect::<Vec<_>>(), ["2000", "3000"]);
    b.remove_pod(&id);
    // Of the host's network they are not a pod's to change.
    let mut config = host_pod("names");
    config.linux.get_or_insert_default().sysctls =
        [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into();
    let request = b.pod_request(config);
    let error = b.wait(async |c| c.run_pod_sandbox(request).await).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().contains("ip_forward"), "{error}");
}

fn twice(b: &Bench) {
    let id = b.pod("twin");
    assert_eq!(b.pod("twin"), id);
    let mut config = pod("twin");
    config.hostname = "another".into();
    let request = b.pod_request(config);
    let error = b.wait(async |c| c.run_pod_sandbox(request).await).unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    assert!(error.to_string().contains(&id), "{error}");
    let c = b.create(&id, container("c", &["probe"]));
    assert_eq!(b.create(&id, container("c", &["probe"])), c);
    assert_eq!((b.pods().len(), b.containers().len()), (1, 1));
    b.remove_pod(&id);
}

fn stopped(b: &Bench) {
    let id = b.pod("stopped");
    let c = b.run(&id, "c", &["probe", "sleep"]);
    b.stop_pod(&id);
    b.stop_pod(&id);
    let status = b.pod_status(&id);
    assert_eq!(status.state(), PodSandboxState::SandboxNotready);
    assert_eq!(status.network.unwrap().ip, "");
    assert_eq!((b.status(&c).state(), b.status(&c).exit_code), (ContainerState::ContainerExited, 137));
    let request = CreateContainerRequest {
        pod_sandbox_id: id.clone(),
        config: Some(container("late", &["probe"])),
        sandbox_config: None,
    };
    let error = b.wait(async |client| client.create_container(request).await).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    b.remove_pod(&id);
    b.remove_pod(&id);
}

fn no_plugin(b: &Bench) {
    let directory = b.path("networks");
    // As installers of add-ons do it: the directory is made anew.
    fs::remove_dir(&directory).unwrap();
    fs::create_dir(&directory).unwrap();
    let network = r#"{"cniVersion": "1.0.0", "name": "misspelt", "plugins": [{"type": "nothere"}]}"#;
    fs::write(directory.join("10-wrong.conflist"), network).unwrap();
    b.until("the node sees the network", || b.network().contains("misspelt"));
    let request = b.pod_request(pod("unconnected"));
    let error = b.wait(async |c| c.run_pod_sandbox(request).await).unwrap_err().to_string();
    assert!(error.contains("tests/unconnected"), "{error}");
    assert_eq!(error.matches("cannot find plugin \"nothere\"").count(), 1, "{error}");
    fs::remove_file(directory.join("10-wrong.conflist")).unwrap();
    b.until("the network is the node's own", || !b.network().contains("misspelt"));
    let pod = b.pod("unconnected");
    b.remove_pod(&pod);
}
