//! `sextant services` beside `sextant api`: a Service is reached by its address and by its name, whichever process is killed.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../control/rig.rs"]
mod rig;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kernel::netlink::{self, Address, Batch, Kind, NewLink, Protocol, Socket};
use rig::Rig;
use serde_json::json;

/// A bridge with an address, and no way to anywhere else.
fn network() {
    let mut socket = Socket::open(Protocol::Route).unwrap();
    let mut batch = Batch::new();
    let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
    batch.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) });
    socket.run(&batch).unwrap();
    let index = netlink::link_by_name(&mut socket, "br0").unwrap().unwrap().index;
    let mut batch = Batch::new();
    batch.add_address(&Address::new(index, "10.9.0.1/24".parse().unwrap()));
    socket.run(&batch).unwrap();
}

fn ask(at: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(8)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// What the C library's resolver finds, with the search domains that a pod has.
fn resolved(name: &str) -> String {
    let output = std::process::Command::new("getent").args(["ahostsv4", name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_service_is_reached_by_address_and_name_whoever_is_killed() {
    let mut rig = Rig::bare().await;
    network();
    let listener = TcpListener::bind("10.9.0.1:8080").unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"here");
        }
    });
    rig.spawn("services", &["services", "--node", "node-1", "--upstream", "127.0.0.1:1"]);
    rig.words_have("services", "all Services are reached").await;
    let service: Service = rig
        .make_here(
            json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80, "targetPort": 8080}]}}),
        )
        .await;
    let address = service.spec.unwrap().cluster_ip.unwrap();
    let at: SocketAddr = format!("{address}:80").parse().unwrap();
    rig.make_here::<EndpointSlice>(
        json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.9.0.1"], "nodeName": "node-1", "conditions": {"ready": true}}]}),
    )
    .await;
    rig.until("the Service is reached", async |_| ask(at).filter(|text| text == "here")).await;
    let resolv_conf = rig.path("resolv.conf");
    let domains =
        "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 attempts:1\n";
    std::fs::write(&resolv_conf, format!("nameserver 10.96.0.10\n{domains}")).unwrap();
    rustix::mount::mount_bind(&resolv_conf, "/etc/resolv.conf").unwrap();
    for name in ["web", "web.default", "web.default.svc.cluster.local"] {
        assert!(resolved(name).contains(&address), "{name}: {:?}\n{}", resolved(name), rig.words("services"));
    }
    assert_eq!(resolved("nobody.default"), "");
    // The server of names is a Service as any other.
    let system = rig.objects_of::<Service>("kube-system");
    let dns = rig.until("kube-dns is there", async |_| system.get_opt("kube-dns").await.unwrap()).await;
    assert_eq!(dns.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.10"));
    assert!(resolved("kube-dns.kube-system").contains("10.96.0.10"));
    // What no Service has is refused at once.
    for at in ["10.96.200.200:80".into(), format!("{address}:81")] {
        let refused = TcpStream::connect_timeout(&at.parse().unwrap(), Duration::from_secs(180)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{at}");
    }
    // An element that somebody deletes is there again.
    let flush = ["flush", "map", "inet"];
    let table = rig
        .words("services")
        .split_once("nftables table inet ")
        .unwrap()
        .1
        .split_once('\n')
        .unwrap()
        .0
        .to_owned();
    let flushed = std::process::Command::new("nft").args(flush).args([&table, "service4"]).status().unwrap();
    assert!(flushed.success());
    rig.until("the Service is reached again", async |_| ask(at).filter(|text| text == "here")).await;
    // It is reached while nobody looks after it, and after the next one has begun.
    rig.kill("services");
    assert_eq!(ask(at).as_deref(), Some("here"));
    rig.again("services");
    rig.until("it looks after Services again", async |rig| {
        (rig.words("services").matches("all Services are reached").count() == 2).then_some(())
    })
    .await;
    assert_eq!(ask(at).as_deref(), Some("here"));
    assert!(resolved("web").contains(&address));
    assert_eq!(rig.end("services"), Some(0), "{}", rig.words("services"));
    rig.spawn("remove", &["services", "--remove"]);
    assert_eq!(rig.wait("remove").await, Some(0), "{}", rig.words("remove"));
    assert_eq!(ask(at), None);
    let routes = netlink::routes(&mut Socket::open(Protocol::Route).unwrap()).unwrap();
    assert!(routes.iter().all(|route| route.destination.to_string() != "10.96.0.0/16"), "{routes:?}");
    let there = netlink::addresses(&mut Socket::open(Protocol::Route).unwrap(), None).unwrap();
    assert!(there.iter().all(|known| known.net.to_string() != "10.96.0.10/32"), "{there:?}");
}
