use std::net::UdpSocket;
use std::time::Duration;

use kernel::netlink::{Batch, Protocol, Socket};
use kernel::tc::{self, TokenBucket};
use serde_json::json;

use crate::rig::{self, Netns, on_a_host};
use crate::{Called, link, network};

/// What is limited on a link.
fn bucket(name: &str) -> Option<TokenBucket> {
    let index = link(name)?.index;
    let mut socket = Socket::open(Protocol::Route).unwrap();
    tc::qdiscs(&mut socket, index).unwrap().into_iter().find_map(|qdisc| qdisc.bucket)
}

/// Waits until the way is open: neighbours are found, the port forwards.
fn open_way(from: &UdpSocket, to: &UdpSocket) {
    to.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let arrived = (0..200).any(|_| {
        from.send_to(&[7], to.local_addr().unwrap()).unwrap();
        to.recv_from(&mut [0; 10]).is_ok()
    });
    assert!(arrived, "nothing gets through");
    while to.recv_from(&mut [0; 10]).is_ok() {}
}

/// How many of 60 datagrams of 1,000 bytes arrive, sent at once. Small ones that [`open_way`] has sent may be late, and do not count.
fn arrive(from: &UdpSocket, to: &UdpSocket) -> usize {
    let address = to.local_addr().unwrap();
    (0..60).for_each(|_| drop(from.send_to(&[7; 1000], address)));
    to.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 2000];
    let mut count = 0;
    while count < 60
        && let Ok((length, _)) = to.recv_from(&mut buffer)
    {
        count += usize::from(length == 1000);
    }
    count
}

const LIMITS: (u64, u64) = (8_000, 32_000);

#[test]
fn each_direction_has_its_tokens() {
    on_a_host(|host| {
        let before = host.snapshot();
        let (rate, burst) = LIMITS;
        for (key, limited) in [("", [false, false]), ("ingress", [true, false]), ("egress", [false, true])] {
            let mut conf = json!({ "type": "bandwidth" });
            if !key.is_empty() {
                conf[format!("{key}Rate")] = rate.into();
                conf[format!("{key}Burst")] = burst.into();
            }
            let list = network(host, "n", &[conf]);
            let netns = Netns::new();
            let attachment = rig::attachment("c", &netns, &[]);
            let mut owner = host.owner("c");
            let added = host.caller.add(&list, &attachment, &mut owner).unwrap();
            let address = added.addresses()[0].address();
            let inside = netns.run(|| UdpSocket::bind((address, 7)).unwrap());
            let outside = UdpSocket::bind("10.5.0.1:7").unwrap();
            open_way(&outside, &inside);
            open_way(&inside, &outside);
            for (count, limited) in
                [arrive(&outside, &inside), arrive(&inside, &outside)].into_iter().zip(limited)
            {
                // The burst is 4,000 bytes, and a few more may wait; without a limit the receiver's buffer holds all.
                assert!(if limited { (1..30).contains(&count) } else { count == 60 }, "{key}: {count}");
            }
            host.caller.check(&list, &attachment).unwrap();
            host.caller.del(&list, &attachment, &mut owner).unwrap();
            rig::undone(owner);
            assert_eq!(host.snapshot(), before, "{key}");
        }
    });
}

#[test]
fn parameters_are_the_reference_plugins() {
    on_a_host(|host| {
        let conf = json!({ "type": "bandwidth", "runtimeConfig": { "bandwidth":
            { "ingressRate": 8_000_000, "ingressBurst": 16_000_000, "egressRate": 80_000, "egressBurst": 800_000 } } });
        let called = Called::new(host, "c", conf);
        let result = called.add().unwrap();
        let [.., veth, _, ifb] = result.interfaces.as_slice() else { panic!("{result:?}") };
        assert!(ifb.name.starts_with("bwp") && ifb.name.len() == 15 && ifb.sandbox.is_empty(), "{ifb:?}");
        let made = link(&ifb.name).unwrap();
        assert_eq!((made.mtu, made.tx_queue_len), (link(&veth.name).unwrap().mtu, 0));
        assert_eq!(made.mac.unwrap().to_string(), ifb.mac);
        assert_eq!(made.alias.as_deref(), Some("cni n/c/eth0"));
        let ingress = TokenBucket { rate: 1_000_000, burst: 2_000_000, limit: 2_025_000 };
        assert_eq!(bucket(&veth.name), Some(ingress));
        let egress = TokenBucket { rate: 10_000, burst: 100_000, limit: 100_250 };
        assert_eq!(bucket(&ifb.name), Some(egress));
        called.check().unwrap();

        // Each part is missed.
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let host_end = link(&veth.name).unwrap().index;
        let mut without = |change: &dyn Fn(&mut Batch), words: &str| {
            let mut batch = Batch::new();
            change(&mut batch);
            socket.run(&batch).unwrap();
            let error = called.check().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        without(&|batch| batch.delete_ingress(host_end), "not redirected");
        without(
            &|batch| {
                batch.delete_root_qdisc(made.index);
                batch.add_token_bucket(made.index, TokenBucket { rate: 10_001, ..egress });
            },
            "10001",
        );
        without(&|batch| batch.delete_root_qdisc(host_end), "no token bucket");
        without(&|batch| batch.add_token_bucket(host_end, ingress), "egress is limited");
        without(&|batch| batch.delete_link(&ifb.name), "IFB");
        called.del();
    });
}

/// Keys of the configuration count alone.
#[test]
fn the_configuration_wins_over_the_runtime() {
    on_a_host(|host| {
        let conf = json!({ "type": "bandwidth", "ingressRate": 0,
            "runtimeConfig": { "bandwidth": { "egressRate": 80_000, "egressBurst": 800_000 } } });
        let called = Called::new(host, "c", conf);
        assert_eq!(called.add().unwrap(), called.previous.clone().unwrap());
        called.check().unwrap();
    });
}

#[test]
fn whatever_is_known_del_and_gc_leave_no_ifb() {
    on_a_host(|host| {
        let before = host.snapshot();
        let conf = json!({ "type": "bandwidth", "egressRate": 80_000, "egressBurst": 800_000 });
        let called = Called::new(host, "c", conf.clone());
        let of = |result: cni::contract::AddResult| result.interfaces.last().unwrap().name.clone();
        let mut second = Called::new(host, "c2", conf);
        let first_ifb = of(called.add().unwrap());
        let second_ifb = of(second.add().unwrap());
        called.gc(&["c", "c2"]);
        assert!(link(&first_ifb).is_some() && link(&second_ifb).is_some());
        called.gc(&["c2"]);
        assert!(link(&first_ifb).is_none() && link(&second_ifb).is_some());
        second.conf.keys.insert("egressRate".into(), json!("what"));
        second.del_with_nothing_known();
        assert!(link(&second_ifb).is_none());
        for id in ["c", "c2"] {
            rig::undone(host.owner(id));
        }
        assert_eq!(host.snapshot(), before);
    });
}

/// The reference plugin names the IFB for network and container alone, and fails here.
#[test]
fn two_interfaces_of_a_container_on_one_network() {
    on_a_host(|host| {
        let conf = json!({ "type": "bandwidth", "egressRate": 80_000, "egressBurst": 800_000 });
        let mut called = Called::new(host, "c", conf);
        let of_eth0 = called.previous.clone();
        let mut names = Vec::new();
        for ifname in ["eth0", "eth1"] {
            called.attachment.ifname = ifname.into();
            if ifname == "eth1" {
                let mut list = network(host, "n", &[]);
                list.plugins[0].keys.remove("isDefaultGateway");
                let mut owner = host.owner("c-eth1");
                let added = host.caller.add(&list, &called.attachment, &mut owner).unwrap();
                called.previous = Some(added.result);
            }
            names.push(called.add().unwrap().interfaces.pop().unwrap().name);
        }
        assert!(names[0] != names[1] && names.iter().all(|name| link(name).is_some()), "{names:?}");
        called.del_with_nothing_known();
        assert!(link(&names[0]).is_some() && link(&names[1]).is_none());
        called.attachment.ifname = "eth0".into();
        called.previous = of_eth0;
        let again = called.add().unwrap_err().to_string();
        assert!(again.contains("DEL comes before"), "{again}");
        called.del_with_nothing_known();
        assert!(link(&names[0]).is_none());
    });
}

#[test]
fn what_has_no_end_on_the_host_is_refused() {
    on_a_host(|host| {
        let conf = json!({ "type": "bandwidth", "ingressRate": 80_000, "ingressBurst": 800_000 });
        let mut called = Called::new(host, "c", conf);
        called.attachment.ifname = "lo".into();
        assert!(called.add().unwrap_err().to_string().contains("it is no veth"));
        called.attachment.ifname = "eth9".into();
        assert!(called.add().unwrap_err().to_string().contains("not in the container"));
        called.attachment.ifname = "eth0".into();
        called.previous.as_mut().unwrap().interfaces.remove(1);
        assert!(called.add().unwrap_err().to_string().contains("prevResult"));
        called.previous = None;
        assert_eq!(called.add().unwrap_err().code, cni::contract::Code::InvalidConfig);
    });
}
