//! Datagrams to a pod, by whose address they come from.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::netlink::{Protocol, Socket, sysctl};
use kernel::nft::{Count, Transaction, chain_exists};
use mesh::capture::{Counted, FAMILY, admit, admit_all, counted};
use mesh::datagrams::{Admissions, Admitted};
use smi::contract::Name;
use smi::model::{Delta, Entry, Key, Mode, Policy, Ports, Principal, Shared, TcpAllow, Workload};
use testkit::netns::{Netns, addresses};

use crate::site::{PATIENCE, Site, names, until};
use crate::there;

/// The pod, and two who send to it.
const POD: &str = "10.55.0.2";
const FRONT: &str = "10.55.0.3";
const BACK: &str = "10.55.0.4";
/// The port that policies name, and another.
const PORT: u16 = 5300;
const ELSEWHERE: u16 = 5301;

/// What a pod takes if its policies name the accounts of members at these addresses, and these ports.
fn admitted(sources: &[&str], ports: Ports) -> Arc<Admitted> {
    let identity = |of: &str| format!("spiffe://cluster.local/ns/shop/sa/{of}");
    let pod = |name: &str, address: &str, policies: Vec<Name>| {
        let addresses = vec![address.parse().unwrap()];
        let (identity, mode) = (identity(name), Mode::Permissive);
        let workload = Workload { addresses, node: None, identity, mode, policies };
        Shared { key: Key::Workload(Name::new("shop", name)), entry: Arc::new(Entry::Workload(workload)) }
    };
    let name = Name::new("shop", "named");
    let mut set = vec![pod("dns", POD, vec![name.clone()])];
    set.extend(sources.iter().enumerate().map(|(number, at)| pod(&number.to_string(), at, Vec::new())));
    let named = (0..sources.len())
        .map(|number| Principal { identity: identity(&number.to_string()), addresses: None });
    let tcp = TcpAllow { ports: Ports::All, http: None };
    let policy = Policy { sources: named.collect(), tcp, udp: ports };
    set.push(Shared { key: Key::Policy(name), entry: Arc::new(Entry::Policy(policy)) });
    let mut admissions = Admissions::default();
    admissions.take(&Delta { set, removed: Vec::new() });
    admissions.of(&Name::new("shop", "dns")).unwrap()
}

fn port() -> Ports {
    Ports::Listed(vec![PORT])
}

fn socket(netns: &Netns, address: &str, port: u16) -> UdpSocket {
    let socket = netns.run(|| UdpSocket::bind((address, port)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn send(from: &UdpSocket, to: (&str, u16), text: &str) {
    from.send_to(text.as_bytes(), to).unwrap();
}

/// What has come next.
fn heard(socket: &UdpSocket) -> String {
    let mut text = [0; 64];
    let count = socket.recv(&mut text).unwrap();
    String::from_utf8(text[..count].to_vec()).unwrap()
}

#[test]
fn a_pod_hears_those_alone_who_are_named_at_the_ports_that_are() {
    let site = Site::new();
    let (server, other) = (socket(&site.pod, POD, PORT), socket(&site.pod, POD, ELSEWHERE));
    let (front, back) = (socket(&site.far, FRONT, 0), socket(&site.far, BACK, 0));
    // Without rules everybody is heard.
    send(&back, (POD, PORT), "anybody");
    assert_eq!(heard(&server), "anybody");
    admit(&site.pod, &names(), &admitted(&[FRONT], port()), None).unwrap();
    assert_eq!(there(&site), ["test-mesh-udp"]);
    for _ in 0..10 {
        // It was heard before, and goes on; and the same from a socket of its own.
        send(&back, (POD, PORT), "refused");
        send(&socket(&site.far, BACK, 0), (POD, PORT), "refused");
        send(&front, (POD, ELSEWHERE), "refused");
        send(&front, (POD, PORT), "let in");
        assert_eq!(heard(&server), "let in");
        // What the pod says to itself is its own.
        send(&socket(&site.pod, POD, 0), (POD, ELSEWHERE), "own");
        assert_eq!(heard(&other), "own");
    }
    admit_all(&site.pod, &names()).unwrap();
    assert_eq!(there(&site), [""; 0]);
    send(&back, (POD, PORT), "anybody");
    assert_eq!(heard(&server), "anybody");
    // Twice is as good as once.
    admit_all(&site.pod, &names()).unwrap();
}

#[test]
fn answers_to_the_pod_come_in_and_nothing_else_of_who_answers() {
    let site = Site::new();
    let pod = socket(&site.pod, POD, 0);
    let (asked, server) = (socket(&site.far, BACK, PORT), socket(&site.pod, POD, PORT));
    admit(&site.pod, &names(), &admitted(&[], port()), None).unwrap();
    for _ in 0..10 {
        send(&pod, (BACK, PORT), "question");
        let mut text = [0; 64];
        let (count, asker) = asked.recv_from(&mut text).unwrap();
        assert_eq!(&text[..count], b"question");
        send(&asked, (POD, PORT), "refused");
        asked.send_to(b"answer", asker).unwrap();
        assert_eq!(heard(&pod), "answer");
    }
    // Nothing has come there in all that time.
    server.set_nonblocking(true).unwrap();
    assert!(server.recv(&mut [0; 64]).is_err());
}

#[test]
fn flows_from_before_are_forgotten_until_that_is_done() {
    let site = Site::new();
    let pod = socket(&site.pod, POD, 0);
    let (asked, front) = (socket(&site.far, BACK, PORT), socket(&site.far, FRONT, 0));
    let own = pod.local_addr().unwrap();
    let now = admitted(&[FRONT], Ports::All);
    let table = names().datagrams;
    let nft = || Socket::open(Protocol::Netfilter).unwrap();
    let is_settled = || site.pod.run(|| chain_exists(&mut nft(), FAMILY, &table, "settled").unwrap());
    admit(&site.pod, &names(), &now, None).unwrap();
    assert!(is_settled());
    send(&pod, (BACK, PORT), "question");
    assert_eq!(heard(&asked), "question");
    // Made anew by the next process it knows that the pod has asked.
    admit(&site.pod, &names(), &now, None).unwrap();
    asked.send_to(b"answer", own).unwrap();
    assert_eq!(heard(&pod), "answer");
    // The one before was killed when it had made the table.
    site.pod.run(|| {
        let mut change = Transaction::new();
        change.delete_chain(FAMILY, &table, "settled");
        change.commit(&mut nft()).unwrap();
    });
    admit(&site.pod, &names(), &now, None).unwrap();
    assert!(is_settled());
    asked.send_to(b"refused", own).unwrap();
    front.send_to(b"let in", own).unwrap();
    assert_eq!(heard(&pod), "let in");
}

#[test]
fn who_was_let_in_is_not_when_it_is_not_named_any_more() {
    let site = Site::new();
    let server = socket(&site.pod, POD, PORT);
    let (front, back) = (socket(&site.far, FRONT, 0), socket(&site.far, BACK, 0));
    let mut before: Option<Arc<Admitted>> = None;
    for round in 0..20 {
        let (named, is_front) = if round % 2 == 0 { (FRONT, true) } else { (BACK, false) };
        // Every third time all is made anew, as by the next process, or for other ports.
        let ports = if round % 3 == 0 { Ports::All } else { port() };
        let now = admitted(&[named], ports);
        admit(&site.pod, &names(), &now, before.as_deref()).unwrap();
        before = (round % 5 != 0).then_some(now);
        let (one, other) = if is_front { (&front, &back) } else { (&back, &front) };
        send(other, (POD, PORT), "refused");
        send(one, (POD, PORT), &format!("round {round}"));
        assert_eq!(heard(&server), format!("round {round}"));
        // Their flow is open both ways, and that does not help who is not named in the next round.
        let peer = one.local_addr().unwrap();
        server.send_to(b"answer", peer).unwrap();
        assert_eq!(heard(one), "answer");
    }
}

#[test]
fn while_rules_change_nobody_else_is_heard() {
    let site = Site::new();
    let server = socket(&site.pod, POD, PORT);
    let (front, back) = (socket(&site.far, FRONT, 0), socket(&site.far, BACK, 0));
    let lists = [admitted(&[FRONT], port()), admitted(&[FRONT, "10.55.0.5"], port())];
    admit(&site.pod, &names(), &lists[0], None).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // It ends by itself where the other ends by panicking.
            for _ in 0..100_000 {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                send(&back, (POD, PORT), "refused");
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        for round in 0..100 {
            // By elements, and all of it.
            let before = (round % 4 != 0).then(|| &*lists[(round + 1) % 2]);
            admit(&site.pod, &names(), &lists[round % 2], before).unwrap();
            send(&front, (POD, PORT), &format!("round {round}"));
            assert_eq!(heard(&server), format!("round {round}"));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_somebody_has_changed_is_made_anew() {
    let site = Site::new();
    let server = socket(&site.pod, POD, PORT);
    let (front, back) = (socket(&site.far, FRONT, 0), socket(&site.far, BACK, 0));
    let (one, two) = (admitted(&[FRONT], port()), admitted(&[BACK], port()));
    admit(&site.pod, &names(), &one, None).unwrap();
    admit_all(&site.pod, &names()).unwrap();
    admit(&site.pod, &names(), &two, Some(&one)).unwrap();
    send(&front, (POD, PORT), "refused");
    send(&back, (POD, PORT), "let in");
    assert_eq!(heard(&server), "let in");
}

#[test]
fn what_policies_let_in_and_what_not_is_counted_though_rules_are_made_anew() {
    let site = Site::new();
    let server = socket(&site.pod, POD, PORT);
    let (front, back) = (socket(&site.far, FRONT, 0), socket(&site.far, BACK, 0));
    let so_far = || counted(&site.pod, &names()).unwrap();
    assert_eq!(so_far(), None);
    // With the heads of IPv4 and UDP.
    let count = |packets: u64, text: &str| Count {
        packets,
        bytes: packets * (20 + 8 + u64::try_from(text.len()).unwrap()),
    };
    for round in 1..=6 {
        // By the next process, or for other ports.
        let ports = if round % 2 == 0 { Ports::All } else { port() };
        let now = admitted(&[FRONT], ports);
        admit(&site.pod, &names(), &now, None).unwrap();
        (0..3).for_each(|_| send(&back, (POD, PORT), "refused"));
        send(&front, (POD, PORT), "let in");
        assert_eq!(heard(&server), "let in");
        // What nobody had to be asked about.
        send(&socket(&site.pod, POD, 0), (POD, PORT), "own");
        assert_eq!(heard(&server), "own");
        server.send_to(b"question", front.local_addr().unwrap()).unwrap();
        assert_eq!(heard(&front), "question");
        let all = Counted { admitted: count(round, "let in"), dropped: count(3 * round, "refused") };
        until("all is counted", || so_far() == Some(all));
        // By elements alone.
        admit(&site.pod, &names(), &now, Some(&now)).unwrap();
        assert_eq!(so_far(), Some(all));
    }
    // Nobody may send, and what was counted is still told.
    admit(&site.pod, &names(), &admitted(&[], port()), None).unwrap();
    assert_eq!(so_far().unwrap().admitted, count(6, "let in"));
    admit_all(&site.pod, &names()).unwrap();
    assert_eq!(so_far(), None);
}

#[test]
fn ipv6_has_rules_of_its_own() {
    let site = Site::new();
    let own = |netns: &Netns, address: &str| {
        netns.run(|| {
            // Nobody else has it.
            sysctl::write("net/ipv6/conf/eth0/accept_dad", "0").unwrap();
            addresses("eth0", &[&format!("{address}/64")]);
            until("the address can be used", || UdpSocket::bind((address, 0)).is_ok());
        });
    };
    own(&site.pod, "fd55::2");
    for address in ["fd55::3", "fd55::4"] {
        own(&site.far, address);
    }
    let server = socket(&site.pod, "fd55::2", PORT);
    let (front, back) = (socket(&site.far, "fd55::3", 0), socket(&site.far, "fd55::4", 0));
    admit(&site.pod, &names(), &admitted(&["fd55::3", FRONT], port()), None).unwrap();
    for _ in 0..10 {
        send(&back, ("fd55::2", PORT), "refused");
        send(&front, ("fd55::2", ELSEWHERE), "refused");
        send(&front, ("fd55::2", PORT), "let in");
        assert_eq!(heard(&server), "let in");
    }
}
