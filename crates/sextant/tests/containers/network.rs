//! Networks and published ports.

use std::fs::File;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use kernel::namespace::{in_netns, in_new_netns};
use kernel::netlink::{Address, Batch, IpNet, Kind, NewLink, Peer, Protocol, SetLink, Socket, link_by_name};

use crate::Test;
use crate::bench::Bench;
use crate::probe::ask;

pub(crate) const TESTS: &[Test] = &[
    ("published_ports_are_reached_from_everywhere", published),
    ("published_ports_by_address_range_and_chance", forms),
    ("a_port_is_published_once", conflict),
    ("containers_reach_each_other", neighbours),
    ("other_networks", modes),
    ("a_network_is_shared", shared),
];

fn serve(b: &Bench, name: &str, options: &[&str]) -> String {
    let all = [&["run", "-d", "--name", name], options, &["t", "probe", "serve", "80", name]].concat();
    b.ok(&all);
    b.until_logged(name, "serving");
    b.inspect(name, "/network/addresses/0").as_str().unwrap().to_owned()
}

/// The answer to a datagram, which may get lost.
fn ask_udp(at: &str) -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut answer = [0; 100];
    for _ in 0..10 {
        socket.send_to(b"?", at).unwrap();
        if let Ok((n, _)) = socket.recv_from(&mut answer) {
            return String::from_utf8_lossy(&answer[..n]).into_owned();
        }
    }
    panic!("no answer from {at}");
}

/// A machine next to this one, on a wire of its own: 192.0.2.1 here, 192.0.2.2 there.
struct Outside(File);

impl Outside {
    fn new() -> Self {
        let netns = in_new_netns(|| Ok(File::open("/proc/thread-self/ns/net").unwrap())).unwrap();
        let peer = Peer { name: "eth0", mac: None, mtu: None, netns: Some(netns.as_fd()) };
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut batch = Batch::new();
        batch.add_link(&NewLink { up: true, ..NewLink::new("uplink", Kind::Veth { peer }) });
        socket.run(&batch).unwrap();
        address(&mut socket, "uplink", "192.0.2.1/24");
        let outside = Self(netns);
        outside.run(|| {
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let mut batch = Batch::new();
            batch.set_link(&SetLink::named("lo").up(true));
            batch.set_link(&SetLink::named("eth0").up(true));
            socket.run(&batch).unwrap();
            address(&mut socket, "eth0", "192.0.2.2/24");
        });
        outside
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(self.0.as_fd(), || Ok(work())).unwrap()
    }

    fn remove(self) {
        kernel::netlink::delete_link("uplink").unwrap();
    }
}

fn address(socket: &mut Socket, link: &str, text: &str) {
    let index = link_by_name(socket, link).unwrap().unwrap().index;
    let net: IpNet = text.parse().unwrap();
    let mut batch = Batch::new();
    batch.add_address(&Address::new(index, net));
    socket.run(&batch).unwrap();
}

fn published(b: &Bench) {
    let outside = Outside::new();
    let address = serve(b, "web", &["-p", "8080:80", "-p", "5353:80/udp"]);
    assert!(ask("127.0.0.1:8080").unwrap().starts_with("web "));
    assert!(ask("192.0.2.1:8080").unwrap().starts_with("web "));
    assert!(ask_udp("127.0.0.1:5353").starts_with("web "));
    // From outside, with the address it came from.
    assert_eq!(outside.run(|| ask("192.0.2.1:8080")).unwrap(), "web 192.0.2.2");
    assert_eq!(outside.run(|| ask_udp("192.0.2.1:5353")), "web 192.0.2.2");
    // From the container itself, and from another one, by the way round.
    let words = ["probe", "ask", "192.0.2.1:8080"];
    assert!(b.ok(&[&["exec", "web"], &words[..]].concat()).starts_with("web "));
    assert!(b.ok(&[&["run", "--rm", "t"], &words[..]].concat()).starts_with("web "));
    assert!(ask(&format!("{address}:80")).unwrap().starts_with("web "), "the bridge is this machine's too");
    b.ok(&["rm", "-f", "web"]);
    assert!(std::net::TcpStream::connect("127.0.0.1:8080").is_err());
    outside.remove();
}

fn forms(b: &Bench) {
    serve(b, "web", &["-p", "127.0.0.1:8080:80", "-p", "80", "-p", "9000-9001:80-81"]);
    assert!(ask("127.0.0.1:8080").unwrap().starts_with("web "));
    assert!(ask("127.0.0.1:9000").unwrap().starts_with("web "));
    let ports = b.inspect("web", "/network/ports");
    let chosen = ports
        .as_array()
        .unwrap()
        .iter()
        .find(|p| !p["hostIP"].is_string() && p["hostPort"] != 9000 && p["hostPort"] != 9001);
    let chosen = chosen.unwrap_or_else(|| panic!("{ports}"))["hostPort"].as_u64().unwrap();
    assert!(ask(&format!("127.0.0.1:{chosen}")).unwrap().starts_with("web "));
    assert!(b.ok(&["ps"]).contains(&format!("*:{chosen}->80/tcp")));
    b.ok(&["rm", "-f", "web"]);
    for port in ["http", "80:80:80:80", "99999:80", "80:80/icmp", "8000-8001:80"] {
        let text = b.fails(125, &["run", "--rm", "-p", port, "t"]);
        assert!(text.contains(&format!("{port:?}")) && text.matches("cannot").count() == 1, "{text}");
    }
}

fn conflict(b: &Bench) {
    serve(b, "first", &["-p", "8080:80"]);
    let text = b.fails(125, &["run", "-d", "--name", "second", "-p", "8080:80", "t"]);
    assert!(text.contains("8080") && text.contains("first"), "{text}");
    b.fails(125, &["run", "--rm", "-p", "8080:80", "t"]);
    assert!(b.fails(125, &["run", "-p", "81:80", "-p", "81:81", "t"]).contains("81/tcp"));
    b.ok(&["rm", "-f", "first"]);
    let _listener = std::net::TcpListener::bind("0.0.0.0:8090").unwrap();
    let text = b.fails(125, &["run", "--rm", "-p", "8090:80", "t"]);
    assert!(text.contains("8090"), "{text}");
    b.ok(&["run", "--rm", "-p", "8080:80", "t"]);
}

fn neighbours(b: &Bench) {
    let address = serve(b, "web", &[]);
    let seen = b.look(&[], &["/etc/hosts"]);
    assert_eq!(seen["links"], serde_json::json!(["lo", "eth0"]));
    let answer = b.ok(&["run", "--rm", "t", "probe", "ask", &format!("{address}:80")]);
    let prefix = address.rsplit_once('.').unwrap().0;
    assert!(answer.starts_with(&format!("web {prefix}.")), "{answer} at {address}");
    b.ok(&["rm", "-f", "web"]);
}

fn modes(b: &Bench) {
    assert_eq!(b.look(&["--network", "none"], &[])["links"], serde_json::json!(["lo"]));
    let host = b.look(&["--network", "host"], &[]);
    assert_eq!(host["hostname"], rustix::system::uname().nodename().to_str().unwrap());
    let text = b.fails(125, &["run", "--rm", "--network", "nosuch", "t"]);
    assert!(text.contains("\"nosuch\"") && text.contains("bridge") && text.contains("none"), "{text}");
    assert!(b.fails(125, &["run", "--rm", "--network", "container:x", "t"]).contains("\"x\""));
    let text = b.fails(125, &["run", "--rm", "--network", "none", "-p", "80:80", "t"]);
    assert!(text.contains("--publish") && text.contains("none"), "{text}");
    let text = b.fails(125, &["run", "--rm", "--network", "host", "-p", "80:80", "t"]);
    assert!(text.contains("--publish") && text.contains("host"), "{text}");
}

fn shared(b: &Bench) {
    serve(b, "web", &[]);
    let out = b.ok(&["run", "--rm", "--network", "container:web", "t", "probe", "ask", "127.0.0.1:80"]);
    assert_eq!(out, "web 127.0.0.1\n");
    b.ok(&["stop", "-t", "0", "web"]);
    let text = b.fails(125, &["run", "--rm", "--network", "container:web", "t"]);
    assert!(text.contains("web") && text.contains("not running"), "{text}");
    b.ok(&["rm", "web"]);
}
