use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::*;
use crate::balance::Seen;

fn endpoint(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], number))
}

fn subject(network: u64, number: u16) -> Subject {
    Subject { network: Network(network), endpoint: Some(endpoint(number)), ..Subject::default() }
}

/// All of it, in pieces.
fn read(telemetry: &Telemetry) -> Vec<Counted> {
    let (mut all, mut behind) = (Vec::new(), None);
    loop {
        let (piece, next) = telemetry.read(behind);
        assert!(piece.len() <= PIECE);
        all.extend(piece);
        behind = next;
        if behind.is_none() {
            return all;
        }
    }
}

#[test]
fn all_is_read_in_pieces_and_nothing_twice() {
    for count in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
        let (telemetry, now) = (Telemetry::default(), Instant::now());
        for number in 0..u16::try_from(count).unwrap() {
            telemetry.series(subject(1, number), now, || None).request(200, None, Duration::ZERO);
        }
        let all = read(&telemetry);
        let endpoints: BTreeSet<_> = all.iter().map(|counted| counted.endpoint).collect();
        assert_eq!((all.len(), endpoints.len()), (count, count));
        assert!(all.iter().all(|counted| counted.numbers.requests() == 1));
    }
}

#[test]
fn what_is_over_is_told_for_a_while_and_who_is_new_begins_at_zero() {
    let (telemetry, now) = (Telemetry::default(), Instant::now());
    let pod = |name: &str| Some(Name::new("shop", name));
    let old = telemetry.series(subject(1, 80), now, || pod("old"));
    old.request(200, None, Duration::ZERO);
    telemetry.series(subject(2, 80), now, || pod("other")).request(200, None, Duration::ZERO);
    add(&old.opened, 1);
    telemetry.end(|subject, _| subject.network == Network(1));
    telemetry.series(subject(1, 80), now, || pod("new")).request(500, None, Duration::ZERO);
    // What has begun before counts where it began.
    old.request(204, None, Duration::ZERO);
    let told = |telemetry: &Telemetry| -> Vec<(String, bool, u64)> {
        let all = read(telemetry).into_iter();
        all.map(|one| (one.pod.unwrap().name, one.is_over, one.numbers.requests())).collect()
    };
    let (old_now, new) = (("old".to_owned(), true, 2), ("new".to_owned(), false, 1));
    let other = ("other".to_owned(), false, 1);
    assert_eq!(told(&telemetry), [new.clone(), old_now.clone(), other.clone()]);
    // While one of its connections is open it stays.
    telemetry.sweep(now + KEPT);
    assert_eq!(told(&telemetry).len(), 3);
    add(&old.closed, 1);
    telemetry.sweep(now + KEPT - Duration::from_nanos(1));
    assert_eq!(told(&telemetry).len(), 3);
    telemetry.sweep(now + KEPT);
    assert_eq!(told(&telemetry), [new, other]);
}

#[test]
fn what_is_too_much_counts_as_one() {
    let (telemetry, now) = (Telemetry::default(), Instant::now());
    for number in 0..MOST as u64 + 100 {
        telemetry.series(subject(number + 1, 80), now, || None).request(200, None, Duration::ZERO);
    }
    let all = read(&telemetry);
    assert_eq!(all.len(), MOST + 1);
    assert_eq!(all[0].client, Network(0));
    assert_eq!(all[0].numbers.requests(), 100);
}

#[test]
fn who_succeeds_and_who_fails() {
    let series = Series::new(1, None, Instant::now());
    for status in [0, 101, 200, 204, 302, 404, 500, 503, 999] {
        series.request(status, None, Duration::from_millis(1));
    }
    for grpc in [0, 5, 14, 16, 17, 200] {
        series.request(200, Some(grpc), Duration::from_millis(1));
    }
    series.because(Reason::Cut);
    series.because(Reason::ClientGone);
    let numbers = series.read(&Subject::default()).numbers;
    assert_eq!(numbers.classes, [1, 1, 8, 1, 1, 3]);
    assert_eq!((numbers.grpc[0], numbers.grpc[14], numbers.grpc[16], numbers.grpc[17]), (1, 1, 1, 2));
    // 500, 503 and 999, a call that is not available, and an answer that was cut.
    assert_eq!((numbers.failures(), numbers.successes(), numbers.requests()), (5, 9, 15));
    assert_eq!(numbers.latency.count(), 14, "who had no answer waited for none");
    let mut twice = numbers.clone();
    twice.merge(&numbers);
    assert_eq!((twice.requests(), twice.since(&numbers)), (30, numbers));
}

fn counted(network: u64, is_over: bool, took: Duration) -> Counted {
    let series = Series::new(1, Some(Name::new("shop", "web-1")), Instant::now());
    series.request(200, Some(0), took);
    add(&series.sent, 5);
    let subject = Subject { ended: is_over.into(), ..subject(network, 80) };
    series.read(&subject)
}

/// What has come to a pod.
fn visited() -> Counted {
    let inside = Some(Service::INSIDE);
    let series = Series::new(1, None, Instant::now());
    series.request(403, None, Duration::from_millis(1));
    series.because(Reason::Denied);
    series.read(&Subject { frontend: inside, rule: None, backend: inside, endpoint: None, ..subject(1, 80) })
}

/// What became of a copy.
fn copied(network: u64, outcome: Result<u16, Unmirrored>) -> Mirrored {
    let telemetry = Telemetry::default();
    telemetry.mirrored(Subject { endpoint: None, ..subject(network, 80) }, outcome);
    telemetry.mirrors().pop().unwrap()
}

#[test]
fn copies_are_no_requests_and_are_forgotten_with_who_asked() {
    let telemetry = Telemetry::default();
    for number in 0..2000 {
        telemetry.mirrored(subject(number + 1, 80), Ok(200));
        telemetry.mirrored(subject(number + 1, 80), Err(Unmirrored::Busy));
    }
    assert!(read(&telemetry).is_empty());
    let all = telemetry.mirrors();
    assert_eq!((all.len(), all[0].client, all[0].copied.all()), (1025, Network(0), 2 * (2000 - 1024)));
    assert_eq!((all[1].copied.classes[2], all[1].copied.lost[Unmirrored::Busy.place()]), (1, 1));
    telemetry.forget_mirrored(Network(1));
    assert_eq!((telemetry.mirrors().len(), telemetry.mirrors()[1].client), (1024, Network(2)));
}

#[test]
fn a_page_is_as_prometheus_reads_it() {
    let seen = Seen {
        address: endpoint(80),
        ready: true,
        serving: true,
        in_flight: 0,
        latency: None,
        out_for: Some(Duration::from_secs(1)),
        ejections: 3,
    };
    let snapshot = Snapshot {
        counts: Counts { connections: 7, ended: 3, visits: 6, secured: 5, refused: 1, ..Counts::default() },
        idle: 2,
        swaps: 4,
        lost: 0,
        networks: vec![Network(1)],
        series: vec![
            counted(1, false, Duration::from_micros(300)),
            // The same pod's before it was captured again.
            counted(2, false, Duration::from_secs(60)),
            counted(1, true, Duration::from_millis(1)),
            visited(),
        ],
        mirrored: vec![copied(1, Ok(204)), copied(2, Ok(200)), copied(2, Err(Unmirrored::Slow))],
        endpoints: vec![Viewed { client: Network(1), service: Service::default(), seen }],
        tables: Arc::default(),
    };
    let text = page(&snapshot, &|_| Some(Name::new("shop", "a\"b\\c\n")));
    let client = r#"client_namespace="shop",client_pod="a\"b\\c\n""#;
    let services =
        r#"namespace="",service="",port="",rule="",backend_namespace="",backend="",backend_port="""#;
    let pod = r#"endpoint_namespace="shop",endpoint_pod="web-1",endpoint="10.0.0.1:80""#;
    let nobody = r#"client_namespace="",client_pod="""#;
    let visited = r#"direction="inbound",endpoint_namespace="shop",endpoint_pod="a\"b\\c\n""#;
    for line in [
        "sextant_mesh_pods 1".to_owned(),
        "sextant_mesh_client_connections 4".into(),
        "sextant_mesh_endpoint_connections_idle 2".into(),
        format!("sextant_mesh_requests_total{{{client},{services},{pod},status=\"2xx\"}} 2"),
        format!("sextant_mesh_grpc_requests_total{{{client},{services},{pod},grpc_status=\"0\"}} 2"),
        format!("sextant_mesh_sent_bytes_total{{{client},{services},{pod}}} 10"),
        format!("sextant_mesh_request_duration_seconds_bucket{{{client},{services},le=\"0.000256\"}} 0"),
        format!("sextant_mesh_request_duration_seconds_bucket{{{client},{services},le=\"0.000512\"}} 1"),
        format!("sextant_mesh_request_duration_seconds_bucket{{{client},{services},le=\"33.554432\"}} 1"),
        format!("sextant_mesh_request_duration_seconds_bucket{{{client},{services},le=\"+Inf\"}} 2"),
        format!("sextant_mesh_request_duration_seconds_sum{{{client},{services}}} 60.0003"),
        format!("sextant_mesh_request_duration_seconds_count{{{client},{services}}} 2"),
        format!(
            "sextant_mesh_request_failures_total{{{nobody},{services},{visited},endpoint=\"\",reason=\"denied\"}} 1"
        ),
        format!("sextant_mesh_request_duration_seconds_count{{{nobody},{services},{visited}}} 1"),
        format!("sextant_mesh_mirrored_requests_total{{{client},{services},status=\"2xx\"}} 2"),
        format!("sextant_mesh_mirror_failures_total{{{client},{services},reason=\"slow\"}} 1"),
        "sextant_mesh_visits_total 6".into(),
        "sextant_mesh_visits_secured_total 5".into(),
        "sextant_mesh_refused_total 1".into(),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("sextant_mesh_endpoint_ejections_total{") && text.contains("} 3\n"));
    // Each value stands once, behind what it is.
    let mut known = BTreeSet::new();
    let mut described = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(described.insert(rest.split(' ').next().unwrap().to_owned()), "{line}");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() && known.insert(name.to_owned()), "{line}");
            let name = name.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(described.contains(family.unwrap_or(name)), "{line}");
        }
    }
}

#[test]
fn what_the_kernel_has_counted_is_told_of_pods_alone_of_which_it_counts() {
    let count = |packets| Count { packets, bytes: packets * 30 };
    let datagrams = Some(capture::Counted { admitted: count(3), dropped: count(0) });
    let all = BTreeMap::from([
        (Name::new("shop", "dns"), Packets { datagrams, foreign: None }),
        (Name::new("shop", "front"), Packets { datagrams: None, foreign: Some(count(7)) }),
        (Name::new("shop", "none"), Packets::default()),
    ]);
    let text = packets(&all);
    let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let inbound = r#"direction="inbound",endpoint_namespace="shop",endpoint_pod="dns""#;
    let front = r#"client_namespace="shop",client_pod="front""#;
    assert_eq!(
        values,
        [
            format!("sextant_mesh_datagrams_total{{{inbound},verdict=\"admitted\"}} 3"),
            format!("sextant_mesh_datagrams_total{{{inbound},verdict=\"dropped\"}} 0"),
            format!("sextant_mesh_datagram_bytes_total{{{inbound},verdict=\"admitted\"}} 90"),
            format!("sextant_mesh_datagram_bytes_total{{{inbound},verdict=\"dropped\"}} 0"),
            format!("sextant_mesh_foreign_dropped_packets_total{{{front}}} 7"),
            format!("sextant_mesh_foreign_dropped_bytes_total{{{front}}} 210"),
        ]
    );
    assert_eq!(
        text.lines().filter(|line| line.starts_with("# TYPE ") && line.ends_with(" counter")).count(),
        4
    );
}

#[test]
fn what_is_counted_by_itself_has_a_number_of_its_own() {
    let (telemetry, now) = (Telemetry::default(), Instant::now());
    for network in [1, 2, 1] {
        telemetry.series(subject(network, 80), now, || None);
    }
    // Another pod of the same address begins anew.
    telemetry.end(|subject, _| subject.network == Network(1));
    telemetry.series(subject(1, 80), now, || None);
    let numbers: BTreeSet<u64> = read(&telemetry).iter().map(|counted| counted.number).collect();
    assert_eq!(numbers, BTreeSet::from([1, 2, 3]));
}
