//! With times and numbers that are given.

use super::*;

fn endpoint(port: u16, ready: bool, serving: bool) -> Endpoint {
    Endpoint { address: [10, 0, 0, 1].into(), port, pod: None, node: None, zone: None, ready, serving }
}

fn balancer(count: u16, ejection: Ejection, now: Instant) -> Rc<Balancer> {
    let balancer = Rc::new(Balancer::new(ejection));
    balancer.set(&(1..=count).map(|port| endpoint(port, true, true)).collect::<Vec<_>>(), now);
    balancer
}

/// How often each port was chosen, each request being answered as `answer` says of the port.
fn ask(balancer: &Rc<Balancer>, times: u32, now: &mut Instant, answer: impl Fn(u16) -> Went) -> Vec<u32> {
    let mut dice = Dice::new(7);
    let mut counts = vec![0; balancer.len() + 1];
    for _ in 0..times {
        *now += Duration::from_millis(1);
        let pick = balancer.pick(&[], &mut dice, *now).unwrap();
        counts[usize::from(pick.address().port())] += 1;
        pick.went(answer(pick.address().port()), *now);
    }
    counts
}

#[test]
fn equals_get_equal_shares() {
    let mut now = Instant::now();
    let balancer = balancer(4, Ejection::default(), now);
    let counts = ask(&balancer, 8000, &mut now, |_| Went::Well(Duration::from_millis(2)));
    assert!(counts[1..].iter().all(|count| (1500..2500).contains(count)), "{counts:?}");
}

#[test]
fn who_is_slow_gets_less() {
    let mut now = Instant::now();
    let balancer = balancer(3, Ejection::default(), now);
    let slow = |port| Went::Well(Duration::from_millis(if port == 2 { 200 } else { 2 }));
    let counts = ask(&balancer, 3000, &mut now, slow);
    assert!(counts[2] < 300 && counts[1] > 1000 && counts[3] > 1000, "{counts:?}");
    // When it is fast again that is seen, since it is asked now and then.
    now += Duration::from_secs(60);
    ask(&balancer, 3000, &mut now, |_| Went::Well(Duration::from_millis(2)));
    now += Duration::from_secs(60);
    let counts = ask(&balancer, 3000, &mut now, |_| Went::Well(Duration::from_millis(2)));
    assert!(counts[2] > 600, "{counts:?}");
}

#[test]
fn a_rise_is_seen_at_once_and_a_fall_slowly() {
    let now = Instant::now();
    let load = Load::new(None, now);
    load.observe(Duration::from_millis(1), now);
    load.observe(Duration::from_millis(100), now + Duration::from_millis(1));
    assert_eq!(load.latency(), Some(Duration::from_millis(100)));
    load.observe(Duration::from_millis(1), now + Duration::from_millis(2));
    assert!(load.latency().unwrap() > Duration::from_millis(99));
    load.observe(Duration::from_millis(1), now + Duration::from_secs(12));
    assert!(load.latency().unwrap() < Duration::from_millis(40));
}

#[test]
fn who_is_busy_gets_less() {
    let now = Instant::now();
    let balancer = balancer(2, Ejection::default(), now);
    let mut dice = Dice::new(1);
    let held: Vec<Pick> = (0..40).map(|_| balancer.pick(&[], &mut dice, now).unwrap()).collect();
    let first = held.iter().filter(|pick| pick.address().port() == 1).count();
    assert!((19..=21).contains(&first), "{first}");
    drop(held);
    assert!(balancer.peers.borrow().iter().all(|peer| peer.in_flight() == 0));
}

#[test]
fn who_only_fails_is_left_out_for_a_while() {
    let mut now = Instant::now();
    let ejection = Ejection::default();
    let balancer = balancer(4, ejection, now);
    let broken = |port| {
        if port == 3 { Went::Badly(500, Duration::ZERO) } else { Went::Well(Duration::from_millis(1)) }
    };
    let counts = ask(&balancer, 2000, &mut now, broken);
    assert_eq!(counts[3], ejection.bad_answers, "{counts:?}");
    // Back after the time, out again for twice as long.
    now += ejection.base;
    assert_eq!(ask(&balancer, 2000, &mut now, broken)[3], ejection.bad_answers);
    now += ejection.base;
    assert_eq!(ask(&balancer, 2000, &mut now, broken)[3], 0);
    now += ejection.base;
    assert_eq!(ask(&balancer, 100, &mut now, |_| Went::Well(Duration::from_millis(1)))[0], 0);
    let mended = ask(&balancer, 2000, &mut now, |_| Went::Well(Duration::from_millis(1)));
    assert!(mended[3] > 200, "{mended:?}");
}

#[test]
fn no_more_than_a_share_is_left_out() {
    let mut now = Instant::now();
    let ejection = Ejection::default();
    for (count, kept) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
        let balancer = balancer(count, ejection, now);
        ask(&balancer, 500, &mut now, |_| Went::NotAtAll);
        let out = balancer.peers.borrow().iter().filter(|peer| peer.record.is_out(now)).count();
        assert_eq!(usize::from(count) - out, kept, "of {count}");
    }
    // A mixture of failures and successes is no reason: each endpoint fails four times of five.
    let balancer = balancer(4, ejection, now);
    let asked: Vec<Cell<u32>> = vec![Cell::new(0); 5];
    ask(&balancer, 500, &mut now, |port| {
        let asked = &asked[usize::from(port)];
        asked.set(asked.get() + 1);
        let took = Duration::from_millis(1);
        if asked.get().is_multiple_of(5) { Went::Well(took) } else { Went::Badly(500, took) }
    });
    assert!(asked[1..].iter().all(|asked| asked.get() > 10), "{asked:?}");
    assert!(balancer.peers.borrow().iter().all(|peer| !peer.record.is_out(now)));
}

/// The first `count` of the requests to this port fail at the same time. Until when it is left out then.
fn burst(
    balancer: &Rc<Balancer>,
    held: &[Pick],
    port: u16,
    count: u32,
    went: Went,
    now: Instant,
) -> Option<Instant> {
    let mut failing = held.iter().filter(|pick| pick.address().port() == port);
    for _ in 0..count {
        failing.next().expect("it has as many requests").went(went, now);
    }
    let peers = balancer.peers.borrow();
    peers.iter().find(|peer| peer.address.port() == port).unwrap().record.out_until(now)
}

#[test]
fn a_burst_of_failures_is_one_reason() {
    let ejection = Ejection::default();
    for (went, row) in
        [(Went::NotAtAll, ejection.no_answers), (Went::Badly(503, Duration::ZERO), ejection.bad_answers)]
    {
        let now = Instant::now();
        let balancer = balancer(4, ejection, now);
        let mut dice = Dice::new(1);
        let held: Vec<Pick> = (0..200).map(|_| balancer.pick(&[], &mut dice, now).unwrap()).collect();
        let theirs = held.iter().filter(|pick| pick.address().port() == 3).count();
        let theirs = u32::try_from(theirs).unwrap();
        assert!(theirs > 4 * row, "{theirs}");
        let until = burst(&balancer, &held, 3, theirs, went, now);
        assert_eq!(until, Some(now + ejection.base), "{went:?}");
        // What fails when it is back was asked before it was left out.
        let now = now + ejection.base + Duration::from_secs(1);
        assert_eq!(burst(&balancer, &held, 3, theirs, went, now), None, "{went:?}");
        // It has to fail as often again of what it is asked from now on, for twice as long.
        let others = [1, 2, 4].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        let held: Vec<Pick> = (0..row).map(|_| balancer.pick(&others, &mut dice, now).unwrap()).collect();
        assert_eq!(burst(&balancer, &held, 3, row - 1, went, now), None, "{went:?}");
        assert_eq!(burst(&balancer, &held, 3, 1, went, now), Some(now + 2 * ejection.base), "{went:?}");
    }
}

#[test]
fn who_may_not_be_left_out_is_not_at_the_next_failure() {
    let ejection = Ejection::default();
    for (went, row) in
        [(Went::NotAtAll, ejection.no_answers), (Went::Badly(503, Duration::ZERO), ejection.bad_answers)]
    {
        for count in [2, 3] {
            let now = Instant::now();
            let balancer = balancer(count, ejection, now);
            let mut dice = Dice::new(1);
            let held: Vec<Pick> = (0..100).map(|_| balancer.pick(&[], &mut dice, now).unwrap()).collect();
            assert_eq!(burst(&balancer, &held, 1, row, went, now), Some(now + ejection.base));
            assert_eq!(burst(&balancer, &held, 2, 2 * row, went, now), None, "one of {count} is out already");
            let now = now + ejection.base;
            assert_eq!(burst(&balancer, &held, 2, 1, went, now), None, "{went:?}, one of {count}");
            // A whole row is a reason.
            assert_eq!(burst(&balancer, &held, 2, row - 1, went, now), Some(now + ejection.base));
        }
    }
}

/// How often each port was chosen for a connection that nobody reads, and the connections.
fn hold(balancer: &Rc<Balancer>, times: usize, now: Instant) -> (Vec<usize>, Vec<Pick>) {
    let mut dice = Dice::new(11);
    let mut counts = vec![0; balancer.len() + 1];
    let held: Vec<Pick> =
        (0..times).map(|_| balancer.pick_connection(&[], &mut dice, now).unwrap()).collect();
    held.iter().for_each(|pick| counts[usize::from(pick.address().port())] += 1);
    (counts, held)
}

#[test]
fn a_new_endpoint_gets_its_share_of_what_nobody_reads() {
    let began = Instant::now();
    let balancer = balancer(2, Ejection::default(), began);
    let (counts, held) = hold(&balancer, 100, began);
    assert!(counts[1].abs_diff(counts[2]) <= 2, "{counts:?}");
    drop(held);
    // One that failed once, and one that is new.
    let mut dice = Dice::new(1);
    balancer.pick_connection(&[], &mut dice, began).unwrap().went(Went::NotAtAll, began);
    let now = began + Duration::from_secs(100);
    balancer.set(&[1, 2, 3].map(|port| endpoint(port, true, true)), now);
    let (counts, held) = hold(&balancer, 300, now);
    assert!(counts[1..].iter().all(|count| (98..=102).contains(count)), "{counts:?}");
    drop(held);
    // Hours later no load has become nothing.
    let (counts, _held) = hold(&balancer, 60, now + Duration::from_secs(4 * 3600));
    assert!(counts[1..].iter().all(|count| (18..=22).contains(count)), "{counts:?}");
}

#[test]
fn who_was_not_asked_for_hours_is_still_busy() {
    let began = Instant::now();
    let balancer = balancer(2, Ejection::default(), began);
    let now = began + Duration::from_secs(3 * 3600);
    let mut dice = Dice::new(1);
    let held: Vec<Pick> = (0..40).map(|_| balancer.pick(&[], &mut dice, now).unwrap()).collect();
    let first = held.iter().filter(|pick| pick.address().port() == 1).count();
    assert!((19..=21).contains(&first), "{first}");
}

#[test]
fn a_connection_ends_a_row_of_failures() {
    let now = Instant::now();
    let ejection = Ejection { no_answers: 3, share: 100, ..Ejection::default() };
    let balancer = balancer(1, ejection, now);
    let mut dice = Dice::new(1);
    let mut went = |went| {
        balancer.pick_connection(&[], &mut dice, now).unwrap().went(went, now);
        balancer.peers.borrow()[0].record.is_out(now)
    };
    for next in [Went::NotAtAll, Went::NotAtAll, Went::Connected, Went::NotAtAll, Went::NotAtAll] {
        assert!(!went(next), "{next:?}");
    }
    assert!(went(Went::NotAtAll), "three in a row");
    assert_eq!(balancer.peers.borrow()[0].load.latency(), Some(PENALTY), "a connection is no latency");
}

#[test]
fn whether_there_is_another_is_known() {
    let now = Instant::now();
    let balancer = balancer(2, Ejection::default(), now);
    let addresses: Vec<SocketAddr> = balancer.peers.borrow().iter().map(|peer| peer.address).collect();
    assert!(balancer.has_another(&[], now) && balancer.has_another(&addresses[..1], now));
    assert!(!balancer.has_another(&addresses, now));
    balancer.set(&[endpoint(1, true, true), endpoint(2, false, true)], now);
    assert!(!balancer.has_another(&addresses[..1], now), "it is not ready");
}

#[test]
fn the_last_resort_is_who_still_serves() {
    let now = Instant::now();
    let balancer = Rc::new(Balancer::new(Ejection::default()));
    let mut dice = Dice::new(1);
    assert!(balancer.pick(&[], &mut dice, now).is_none());
    balancer.set(&[endpoint(1, false, false), endpoint(2, false, true)], now);
    assert_eq!(balancer.pick(&[], &mut dice, now).unwrap().address().port(), 2);
    balancer.set(&[endpoint(1, true, true), endpoint(2, false, true)], now);
    assert_eq!(balancer.pick(&[], &mut dice, now).unwrap().address().port(), 1);
    balancer.set(&[endpoint(1, false, false)], now);
    assert!(balancer.pick(&[], &mut dice, now).is_none());
}

#[test]
fn what_is_known_stays_when_endpoints_change() {
    let mut now = Instant::now();
    let balancer = balancer(2, Ejection::default(), now);
    ask(&balancer, 200, &mut now, |port| Went::Well(Duration::from_millis(u64::from(port) * 10)));
    balancer.set(&[endpoint(2, true, true), endpoint(3, true, true)], now);
    let latencies: Vec<_> = balancer.peers.borrow().iter().map(|peer| peer.load.latency.get()).collect();
    assert!(latencies[0] > 0.015 && (0.014..0.016).contains(&latencies[1]), "{latencies:?}");
}

#[test]
fn who_has_failed_is_avoided() {
    let now = Instant::now();
    let balancer = balancer(3, Ejection::default(), now);
    let mut dice = Dice::new(3);
    let addresses: Vec<SocketAddr> = balancer.peers.borrow().iter().map(|peer| peer.address).collect();
    for _ in 0..50 {
        let pick = balancer.pick(&addresses[..2], &mut dice, now).unwrap();
        assert_eq!(pick.address(), addresses[2]);
        assert!(balancer.pick(&addresses, &mut dice, now).is_some());
    }
}

#[test]
fn what_is_tried_again_is_a_share() {
    let began = Instant::now();
    let at = |ms| began + Duration::from_millis(ms);
    let mut budget = Budget::new(20, 2, began);
    assert!(budget.retry(began) && budget.retry(began) && !budget.retry(began));
    (0..100).for_each(|n| budget.request(at(n * 10)));
    let granted = (0..100).filter(|_| budget.retry(at(1500))).count();
    assert_eq!(granted, 18, "20 in all");
    // Of what is ten seconds ago nothing is left.
    assert!(!budget.retry(at(9_900)));
    let granted = (0..100).filter(|_| budget.retry(at(12_000))).count();
    assert_eq!(granted, 2);
    let granted = (0..100).filter(|_| budget.retry(at(1_000_000))).count();
    assert_eq!(granted, 2);
}
