//! The situations of Kubernetes' own tests of this controller (range_allocator_test.go, cidr_set_test.go, node_ipam_controller_test.go),
//! by their names there.

use std::slice::from_ref;
use std::sync::Arc;

use client::queue::Next;
use cpi::contract::Cidr;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::super::tests::stand::Server;
use super::ranges::Ranges;
use super::{Given, Ipam, Masks};

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn cidrs(all: &[&str]) -> Vec<Cidr> {
    all.iter().map(|text| cidr(text)).collect()
}

fn object(name: &str, ranges: &[&str]) -> Value {
    let spec = match ranges {
        [] => json!({}),
        [first, ..] => json!({"podCIDR": first, "podCIDRs": ranges}),
    };
    json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": spec})
}

fn node(name: &str, ranges: &[&str]) -> Node {
    serde_json::from_value(object(name, ranges)).unwrap()
}

/// The controller over a server's nodes.
async fn ipam(server: &Server, clusters: &[&str], services: &[&str], masks: Masks) -> Ipam {
    let mut context = server.context().await;
    let setup = &mut Arc::get_mut(&mut context).unwrap().setup;
    (setup.cluster_cidrs, setup.service_cidrs) = (cidrs(clusters), cidrs(services));
    setup.masks = Some(masks);
    Ipam::new(context).unwrap().unwrap()
}

/// What a node has in the server.
fn has(server: &Server, name: &str) -> Vec<String> {
    let spec = server.node(name).unwrap()["spec"].clone();
    let all: Vec<String> = serde_json::from_value(spec["podCIDRs"].clone()).unwrap_or_default();
    assert_eq!(spec["podCIDR"].as_str(), all.first().map(String::as_str));
    all
}

async fn told(it: &Ipam, server: &Server) -> Vec<String> {
    it.events.told().await;
    server.state().told.clone()
}

/// A name, the cluster's ranges, the node's, and which of those are told of.
type Occupied<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

/// TestOccupyPreExistingCIDR. Where upstream fails, and its process ends, the range is named in the log, and the rest goes on.
#[test]
fn occupy_pre_existing_cidr() {
    let (single, dual): (&[&str], &[&str]) = (&["10.10.0.0/16"], &["10.10.0.0/16", "ace:cab:deca::/8"]);
    let rows: [Occupied<'_>; 8] = [
        ("success, single stack no node allocation", single, &[], &[]),
        ("success, dual stack no node allocation", dual, &[], &[]),
        ("success, single stack correct node allocation", single, &["10.10.0.1/24"], &[]),
        ("success, dual stack both allocated correctly", dual, &["10.10.0.1/24", "a00::/86"], &[]),
        ("fail, single stack incorrect node allocation", single, &["172.10.0.1/24"], &["172.10.0.1/24"]),
        (
            "fail, dualstack node allocating from non existing cidr",
            single,
            &["10.10.0.1/24", "a00::/86"],
            &["a00::/86"],
        ),
        ("fail, dualstack node allocating bad v4", dual, &["172.10.0.1/24", "a00::/86"], &["172.10.0.1/24"]),
        ("fail, dualstack node allocating bad v6", dual, &["10.10.0.1/24", "cdd::/86"], &["cdd::/86"]),
    ];
    for (name, clusters, ranges, foreign) in rows {
        let mut given = Given::new(&cidrs(clusters), &[], Masks { v4: 24, v6: 24 }).unwrap();
        assert_eq!(given.has(&node("node0", ranges)), foreign, "{name}");
        let used: u32 = given.ranges.iter().map(|one| one.counted().1.used).sum();
        assert_eq!(usize::try_from(used).unwrap(), ranges.len() - foreign.len(), "{name}");
    }
}

type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Masks, &'a [&'a str], &'a [&'a str]);

/// TestAllocateOrOccupyCIDRSuccess. More than two ranges of the cluster are refused by the command line, here as there.
#[tokio::test]
async fn allocate_or_occupy_cidr_success() {
    let (v4, v6) = ("127.123.234.0/8", "ace:cab:deca::/84");
    let (small, services): (&[&str], &[&str]) = (&["127.123.234.0/24"], &["127.123.234.0/26"]);
    let (thirty, dual) = (Masks { v4: 30, v6: 64 }, Masks { v4: 24, v6: 98 });
    let rows: [Row<'_>; 7] = [
        (
            "When there's no ServiceCIDR return first CIDR in range",
            small,
            &[],
            thirty,
            &[],
            &["127.123.234.0/30"],
        ),
        ("Correctly filter out ServiceCIDR", small, services, thirty, &[], &["127.123.234.64/30"]),
        (
            "Correctly ignore already allocated CIDRs",
            small,
            services,
            thirty,
            &["127.123.234.64/30", "127.123.234.68/30", "127.123.234.72/30", "127.123.234.80/30"],
            &["127.123.234.76/30"],
        ),
        ("Dualstack CIDRs v4,v6", &[v4, v6], services, dual, &[], &["127.0.0.0/24", "ace:cab:deca::/98"]),
        ("Dualstack CIDRs v6,v4", &[v6, v4], services, dual, &[], &["ace:cab:deca::/98", "127.0.0.0/24"]),
        (
            "Dualstack CIDRs, more than two",
            &[v4, v6, "10.0.0.0/8"],
            services,
            dual,
            &[],
            &["127.0.0.0/24", "ace:cab:deca::/98", "10.0.0.0/24"],
        ),
        (
            "no double counting",
            &["10.10.0.0/22"],
            &[],
            Masks::default(),
            &["10.10.0.0/24", "10.10.2.0/24"],
            &["10.10.1.0/24"],
        ),
    ];
    for (name, clusters, services, masks, allocated, want) in rows {
        let others =
            allocated.iter().enumerate().map(|(at, range)| object(&format!("other{at}"), from_ref(range)));
        let server = Server::with(others.chain([object("node0", &[])]));
        let it = ipam(&server, clusters, services, masks).await;
        assert_eq!(it.look("node0").await.unwrap(), Next::Done, "{name}");
        assert_eq!(has(&server, "node0"), want, "{name}");
        assert_eq!(server.state().writes, ["PATCH node0"], "{name}");
        assert_eq!(told(&it, &server).await, [""; 0], "{name}");
    }
}

/// TestAllocateOrOccupyCIDRFailure.
#[tokio::test]
async fn allocate_or_occupy_cidr_failure() {
    let all = ["127.123.234.0/30", "127.123.234.4/30", "127.123.234.8/30", "127.123.234.12/30"];
    let others = all.iter().enumerate().map(|(at, range)| object(&format!("other{at}"), from_ref(range)));
    let server = Server::with(others.chain([object("node0", &[])]));
    let it = ipam(&server, &["127.123.234.0/28"], &[], Masks { v4: 30, v6: 64 }).await;
    assert!(it.look("node0").await.unwrap_err().to_string().contains("--cluster-cidr are in use"));
    assert_eq!((has(&server, "node0"), server.state().writes.len()), (vec![], 0));
    assert_eq!(told(&it, &server).await, ["CIDRNotAvailable"]);
}

/// What the server refuses is told, and asked for again with the same range; what has changed meanwhile is asked for again in silence.
#[tokio::test]
async fn a_range_that_could_not_be_written_stays_the_nodes() {
    let server = Server::with([object("node0", &[]), object("node1", &[])]);
    let it = ipam(&server, &["10.10.0.0/16"], &[], Masks::default()).await;
    server.state().refuses = Some("PATCH node0".into());
    assert!(it.look("node0").await.is_err());
    assert_eq!(told(&it, &server).await, ["CIDRAssignmentFailed"]);
    for code in [409, 404] {
        server.state().refuses_with = Some(code);
        assert_eq!(it.look("node0").await.unwrap(), Next::Again, "{code}");
    }
    assert_eq!(it.look("node1").await.unwrap(), Next::Done);
    server.state().refuses = None;
    assert_eq!(it.look("node0").await.unwrap(), Next::Done);
    assert_eq!(
        (has(&server, "node0"), has(&server, "node1")),
        (vec!["10.10.0.0/24".into()], vec!["10.10.1.0/24".into()])
    );
    assert_eq!(told(&it, &server).await, ["CIDRAssignmentFailed"]);
}

/// TestReleaseCIDRSuccess.
#[test]
fn release_cidr_success() {
    let all = ["127.123.234.0/30", "127.123.234.4/30", "127.123.234.8/30", "127.123.234.12/30"];
    let given = |which: &[&str]| {
        let mut given = Given::new(&cidrs(&["127.123.234.0/28"]), &[], Masks { v4: 30, v6: 64 }).unwrap();
        for range in which {
            assert!(given.has(&node(range, from_ref(range))).is_empty());
        }
        given
    };
    let mut it = given(&all);
    assert_eq!(it.take(&node("node0", &[])), None, "Correctly release preallocated CIDR");
    it.gone(&node(all[1], &[all[1]]));
    assert_eq!(it.take(&node("node0", &[])), Some(cidrs(&all[1..2])), "Correctly release preallocated CIDR");
    let mut it = given(&all[1..]);
    for name in ["node0", "node1"] {
        assert_eq!(it.take(&node(name, &[])), Some(cidrs(&all[..1])), "Correctly recycle CIDR");
        it.gone(&node(name, &[]));
    }
}

/// TestNodeDeletionReleaseCIDR.
#[tokio::test]
async fn node_deletion_release_cidr() {
    let regular = || object("node0", &["10.10.0.0/24"]);
    let mut going = regular();
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    for (name, existing, next) in [
        ("Regular node not under deletion", Some(regular()), "10.10.1.0/24"),
        ("Node under deletion", Some(going), "10.10.1.0/24"),
        ("Node deleted", None, "10.10.0.0/24"),
    ] {
        let is_there = existing.is_some();
        let server = Server::with([existing.unwrap_or_else(regular), object("node1", &[])]);
        let it = ipam(&server, &["10.10.0.0/16"], &[], Masks { v4: 24, v6: 112 }).await;
        if !is_there {
            it.given.lock().unwrap().gone(&node("node0", &["10.10.0.0/24"]));
        }
        assert_eq!(it.look("node1").await.unwrap(), Next::Done, "{name}");
        assert_eq!(has(&server, "node1"), [next], "{name}");
    }
}

/// TestNewNodeIpamControllerWithCIDRMasks, those of the range allocator.
#[test]
fn new_node_ipam_controller_with_cidr_masks() {
    let new = |cluster: &str| Given::new(&[cidr(cluster)], &cidrs(&["10.1.0.0/21"]), Masks::default());
    assert!(new("10.0.0.0/21").is_ok(), "valid_range_allocator");
    assert!("invalid".parse::<Cidr>().is_err(), "invalid_cluster_CIDR");
    let error = new("10.0.0.0/26").unwrap_err();
    assert!(error.contains("name one that is within it"), "invalid_CIDR_smaller_than_mask: {error}");
}

/// TestCIDRSetFullyAllocated.
#[test]
fn cidr_set_fully_allocated() {
    for (name, cluster) in [
        ("Fully allocated CIDR with IPv4", "127.123.234.0/30"),
        ("Fully allocated CIDR with IPv6", "beef:1234::/30"),
    ] {
        let mut set = Ranges::new(cidr(cluster), 30).unwrap();
        for _ in 0..2 {
            assert_eq!((set.take(), set.take()), (Some(cidr(cluster)), None), "{name}");
            set.release(&cidr(cluster));
        }
    }
}

/// TestIndexToCIDRBlock.
#[test]
fn index_to_cidr_block() {
    for (cluster, length, index, block) in [
        ("127.123.3.0/16", 24, 0, "127.123.0.0/24"),
        ("127.123.0.0/16", 24, 15, "127.123.15.0/24"),
        ("192.168.5.219/28", 32, 5, "192.168.5.213/32"),
        ("2001:0db8:1234:3::/48", 64, 0, "2001:db8:1234::/64"),
        ("2001:0db8:1234::/48", 64, 15, "2001:db8:1234:f::/64"),
        ("2001:0db8:85a3::8a2e:0370:7334/50", 63, 6425, "2001:db8:85a3:3232::/63"),
        ("2001:0db8::/32", 48, 0, "2001:db8::/48"),
        ("2001:0db8::/32", 48, 15, "2001:db8:f::/48"),
        ("2001:0db8:85a3::8a2e:0370:7334/32", 48, 6425, "2001:db8:1919::/48"),
        ("2001:0db8:1234:ff00::/56", 72, 0, "2001:db8:1234:ff00::/72"),
        ("2001:0db8:1234:ff00::/56", 72, 15, "2001:db8:1234:ff00:f00::/72"),
        ("2001:0db8:1234:ff00::0370:7334/56", 72, 6425, "2001:db8:1234:ff19:1900::/72"),
        ("2001:0db8:1234:0:1234::/80", 96, 0, "2001:db8:1234:0:1234::/96"),
        ("2001:0db8:1234:0:1234::/80", 96, 15, "2001:db8:1234:0:1234:f::/96"),
        ("2001:0db8:1234:ff00::0370:7334/80", 96, 6425, "2001:db8:1234:ff00:0:1919::/96"),
    ] {
        assert_eq!(cidr(cluster).part(length, index), Some(cidr(block)), "{index} of {cluster}");
    }
}

fn all(set: &mut Ranges, count: usize) -> Vec<Cidr> {
    (0..count).map(|_| set.take().unwrap()).collect()
}

/// TestCIDRSet_RandomishAllocation, TestCIDRSet_AllocationOccupied.
#[test]
fn cidr_set_allocation() {
    for cluster in ["127.123.234.0/16", "beef:1234::/16"] {
        let mut set = Ranges::new(cidr(cluster), 24).unwrap();
        let first = all(&mut set, 256);
        assert_eq!(set.take(), None, "RandomishAllocation of {cluster}");
        first.iter().for_each(|one| set.release(one));
        assert_eq!(
            (all(&mut set, 256), set.take()),
            (first.clone(), None),
            "RandomishAllocation of {cluster}"
        );
        first.iter().for_each(|one| set.release(one));
        first[128..].iter().chain([&first[128]]).for_each(|one| set.occupy(one));
        let half = all(&mut set, 128);
        assert_eq!((half.as_slice(), set.take()), (&first[..128], None), "AllocationOccupied of {cluster}");
    }
}

/// TestDoubleOccupyRelease. Ours counts who uses a part: what one of two gives back is in use still.
#[test]
fn double_occupy_release() {
    let mut set = Ranges::new(cidr("10.42.0.0/16"), 24).unwrap();
    for (act, range, used) in [
        ("occupy", "10.42.5.0/24", 1),
        ("occupy", "10.42.9.0/24", 2),
        ("occupy", "10.42.8.0/22", 5),
        ("occupy", "10.42.9.0/24", 5),
        ("release", "10.42.9.0/24", 5),
        ("release", "10.42.9.0/24", 5),
        ("release", "10.42.9.0/24", 4),
        ("release", "10.42.9.0/24", 4),
        ("release", "10.42.4.0/22", 3),
    ] {
        match act {
            "occupy" => set.occupy(&cidr(range)),
            _ => set.release(&cidr(range)),
        }
        assert_eq!(set.counted().1.used, used, "{act} {range}");
    }
    assert_eq!((all(&mut set, 253).len(), set.take()), (253, None));
}

/// TestGetBitforCIDR.
#[test]
fn get_bit_for_cidr() {
    for (cluster, length, range, bit) in [
        ("127.0.0.0/8", 16, "127.0.0.0/16", Some(0)),
        ("be00::/8", 16, "be00::/16", Some(0)),
        ("127.0.0.0/8", 16, "127.123.0.0/16", Some(123)),
        ("be00::/8", 16, "beef::/16", Some(0xef)),
        ("127.0.0.0/8", 16, "127.168.0.0/16", Some(168)),
        ("be00::/8", 16, "be68::/16", Some(0x68)),
        ("127.0.0.0/8", 16, "127.224.0.0/16", Some(224)),
        ("be00::/8", 16, "be24::/16", Some(0x24)),
        ("192.168.0.0/16", 24, "192.168.12.0/24", Some(12)),
        ("beef::/16", 24, "beef:1200::/24", Some(0x12)),
        ("192.168.0.0/16", 24, "192.168.151.0/24", Some(151)),
        ("beef::/16", 24, "beef:9700::/24", Some(0x97)),
        ("192.168.0.0/16", 24, "127.168.224.0/24", None),
        ("beef::/16", 24, "2001:db00::/24", None),
    ] {
        assert_eq!(cidr(cluster).part_of(length, cidr(range).first()), bit, "{range} of {cluster}");
    }
}

/// TestOccupy, TestCIDRSetv6.
#[test]
fn occupy() {
    for (name, cluster, length, range, first, last) in [
        ("Occupy all Bits with IPv4", "127.0.0.0/8", 16, "127.0.0.0/8", 0, 255),
        ("Occupy all Bits with IPv6", "2001:beef:1200::/40", 48, "2001:beef:1200::/40", 0, 255),
        ("Occupy every Bit with IPv4", "127.0.0.0/8", 16, "127.0.0.0/2", 0, 255),
        ("Occupy every Bit with IPv6", "2001:beef:1200::/40", 48, "2001:beef:1234::/34", 0, 255),
        ("Occupy 1st Bit with IPv4", "127.0.0.0/8", 16, "127.0.0.0/16", 0, 0),
        ("Occupy 1st Bit with IPv6", "2001:beef:1200::/40", 48, "2001:beef:1200::/48", 0, 0),
        ("Occupy 65535 Bits with IPv6", "2001:beef:1200::/48", 64, "2001:beef:1200::/48", 0, 65535),
        ("Occupy 257th Bit with IPv4", "127.0.0.0/7", 16, "127.0.0.0/15", 256, 257),
        ("Occupy 257th Bit with IPv6", "2001:beef:7f00::/39", 48, "2001:beef:7f00::/47", 256, 257),
        ("Occupy 128th Bit with IPv4", "127.0.0.0/7", 15, "127.0.0.0/15", 128, 128),
        ("Occupy 128th Bit with IPv6", "2001:beef:7f00::/39", 47, "2001:beef:7f00::/47", 128, 128),
        ("Occupy 1031st Bit with IPv4", "127.0.0.0/7", 18, "127.0.0.0/15", 1024, 1031),
        ("Occupy 1031st Bit with IPv6", "2001:beef:7f00::/39", 50, "2001:beef:7f00::/47", 1024, 1031),
    ] {
        let mut set = Ranges::new(cidr(cluster), length).unwrap();
        assert_eq!(set.touched(&cidr(range)), first..last + 1, "{name}");
        set.occupy(&cidr(range));
        assert_eq!(u128::from(set.counted().1.used), last + 1 - first, "{name}");
    }
    for (name, cluster, length, is_taken) in [
        ("Max cluster subnet size with IPv4, Occupy 65535 Bits with IPv4", "127.0.0.0/8", 32, true),
        ("Max cluster subnet size with IPv6", "beef:1234::/32", 49, false),
    ] {
        assert_eq!(Ranges::new(cidr(cluster), length).is_ok(), is_taken, "{name}");
    }
    let mut set = Ranges::new(cidr("2001:beef:1234:369b::/60"), 64).unwrap();
    let two = ["2001:beef:1234:3690::/64", "2001:beef:1234:3691::/64"];
    assert_eq!(all(&mut set, 2), cidrs(&two), "Allocate a few IPv6");
}

/// TestCidrSetMetrics, TestCidrSetMetricsHistogram, TestCidrSetMetricsDual: all, in use, taken and released until now.
#[test]
fn cidr_set_metrics() {
    let counted = |set: &Ranges| {
        let (_, parts) = set.counted();
        (parts.all, parts.used, parts.taken, parts.released)
    };
    for (cluster, length, count) in [("10.0.0.0/16", 24, 256), ("2001:db8::/48", 64, 65536)] {
        let (mut set, many) = (Ranges::new(cidr(cluster), length).unwrap(), u64::from(count));
        if count == 256 {
            for number in 1..=count {
                set.take();
                assert_eq!(counted(&set), (count, number, u64::from(number), 0), "{cluster}");
            }
        } else {
            set.occupy(&cidr(cluster));
        }
        assert_eq!(counted(&set), (count, count, many, 0), "{cluster}");
        set.release(&cidr(cluster));
        assert_eq!(counted(&set), (count, 0, many, many), "{cluster}");
        set.occupy(&cidr(cluster));
        assert_eq!(counted(&set), (count, count, 2 * many, many), "{cluster}");
    }
}

/// The same as it is written, under Kubernetes' names: half of a range is in use, and the first free part is the 129th.
#[tokio::test]
async fn what_is_counted_of_ranges_is_written() {
    let server = Server::with([object("node0", &["10.0.0.0/17"]), object("node1", &[])]);
    let it = ipam(&server, &["10.0.0.0/16", "fd00::/56"], &[], Masks::default()).await;
    let has = |lines: &[&str]| {
        let text = it.context.metrics.render();
        for line in lines {
            let line = format!("node_ipam_controller_{line}");
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    };
    has(&[
        "cirdset_max_cidrs{clusterCIDR=\"10.0.0.0/16\"} 256",
        "cirdset_max_cidrs{clusterCIDR=\"fd00::/56\"} 256",
        "cidrset_usage_cidrs{clusterCIDR=\"10.0.0.0/16\"} 0.5",
        "cidrset_usage_cidrs{clusterCIDR=\"fd00::/56\"} 0",
        "cidrset_cidrs_allocations_total{clusterCIDR=\"10.0.0.0/16\"} 128",
        "cidrset_allocation_tries_per_request_count{clusterCIDR=\"10.0.0.0/16\"} 0",
    ]);
    assert_eq!(it.look("node1").await.unwrap(), Next::Done);
    has(&[
        "cidrset_usage_cidrs{clusterCIDR=\"10.0.0.0/16\"} 0.50390625",
        "cidrset_cidrs_allocations_total{clusterCIDR=\"10.0.0.0/16\"} 129",
        "cidrset_cidrs_allocations_total{clusterCIDR=\"fd00::/56\"} 1",
        "cidrset_allocation_tries_per_request_bucket{clusterCIDR=\"10.0.0.0/16\",le=\"125\"} 0",
        "cidrset_allocation_tries_per_request_bucket{clusterCIDR=\"10.0.0.0/16\",le=\"625\"} 1",
        "cidrset_allocation_tries_per_request_sum{clusterCIDR=\"10.0.0.0/16\"} 128",
        "cidrset_allocation_tries_per_request_sum{clusterCIDR=\"fd00::/56\"} 0",
        "cidrset_cidrs_releases_total{clusterCIDR=\"10.0.0.0/16\"} 0",
    ]);
}
