//! Services in the kernel: pods, a node and a machine beside it, and connections between them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod rig;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;

use rig::*;
use serde_json::json;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn pods_and_the_node_reach_a_service_and_are_spread_over_its_pods() {
    on_a_node(|host| {
        let pods = [host.pod(11), host.pod(12), host.pod(13)];
        host.service(service(
            "web",
            json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd96::7"]}),
        ));
        host.slice(slice("web", true, &[11, 12], &[]));
        host.slice(slice("web", false, &[11, 12], &[]));
        host.settle();
        println!("{}", listed());
        for at in ["10.96.0.7:80", "[fd96::7]:80"] {
            for pod in &pods {
                let seen: BTreeSet<u8> = (0..40).map(|_| ask(pod, at).unwrap().0).collect();
                assert_eq!(seen, [11, 12].into(), "{at}");
            }
            let seen: BTreeSet<u8> = (0..40).map(|_| ask_here(at).unwrap().0).collect();
            assert_eq!(seen, [11, 12].into(), "{at}");
        }
        for (client, at) in [("0.0.0.0:0", "10.96.0.7:53"), ("[::]:0", "[fd96::7]:53")] {
            let (number, _) = ping(&udp(&pods[0], client), at).unwrap();
            assert!([11, 12].contains(&number));
        }
    });
}
