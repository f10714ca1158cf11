//! What a change of one Service among many costs: `cargo run --release -p services --example changes [SERVICES] [ENDPOINTS]`, as root.
//!
//! In a network namespace of its own. A change is from the watch's event to the committed transaction: the slice is entered, the
//! Service planned, the difference sent to the kernel. Printed are the median and the largest of 200.
#![allow(clippy::unwrap_used, reason = "an example ends by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::cache::{Change, Name};
use serde_json::json;
use services::plan::Node;
use services::plane::{Networks, Plane};
use services::world::Known;

const CHANGES: usize = 200;

fn main() {
    let mut words = std::env::args().skip(1).map(|word| word.parse::<usize>().unwrap());
    let (services, endpoints) = (words.next().unwrap_or(1000), words.next().unwrap_or(3));
    kernel::namespace::in_new_netns(|| {
        measure(services, endpoints);
        Ok(())
    })
    .unwrap();
}

fn measure(services: usize, endpoints: usize) {
    let node = Node { name: "node".into() };
    let mut known = Known::default();
    for n in 0..services {
        let service = json!({"metadata": {"name": format!("s{n}"), "namespace": "default"}, "spec": {
            "clusterIP": format!("10.96.{}.{}", n / 250, n % 250), "ports": [{"port": 80, "nodePort": 30000 + n % 2768}]}});
        known.enter_service(&Change {
            old: None,
            new: Some(Arc::new(serde_json::from_value(service).unwrap())),
        });
        enter(&mut known, n, endpoints);
    }
    let plans = |known: &Known| {
        let names: Vec<Name> = known.names().cloned().collect();
        names.into_iter().map(|name| (name.clone(), known.plan(&name, &node).unwrap())).collect::<Vec<_>>()
    };
    let mut plane = Plane::open("changes", Networks::default()).unwrap();
    let began = Instant::now();
    let made = plane.settle(plans(&known)).unwrap();
    println!(
        "{services} Services of {endpoints} endpoints: {} elements in {:?}",
        made.added,
        began.elapsed()
    );
    let mut plane = Plane::open("changes", Networks::default()).unwrap();
    let began = Instant::now();
    let made = plane.settle(plans(&known)).unwrap();
    println!("a start that finds them there: {} changes in {:?}", made.added, began.elapsed());
    let mut times: Vec<Duration> = (0..CHANGES)
        .map(|n| {
            let (service, number) =
                (n * 7 % services, if n % 2 == 0 { endpoints + 1 } else { endpoints - 1 });
            let began = Instant::now();
            enter(&mut known, service, number.max(1));
            let name = Name::new("default", format!("s{service}"));
            let plan = known.plan(&name, &node);
            plane.change([(name, plan)]).unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    println!("a change of one: {:?} median, {:?} at most", times[times.len() / 2], times[times.len() - 1]);
}

fn enter(known: &mut Known, service: usize, endpoints: usize) {
    let address = |e: usize| format!("10.{}.{}.{}", e + 1, service / 250, service % 250);
    let endpoints: Vec<_> =
        (0..endpoints).map(|e| json!({"addresses": [address(e)], "nodeName": "node"})).collect();
    let slice = json!({"metadata": {"name": format!("s{service}"), "namespace": "default",
        "labels": {"kubernetes.io/service-name": format!("s{service}")}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints});
    let new: Arc<k8s_openapi::api::discovery::v1::EndpointSlice> =
        Arc::new(serde_json::from_value(slice).unwrap());
    known.enter_slice(&Change { old: Some(new.clone()), new: Some(new) });
}
