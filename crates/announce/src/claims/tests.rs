#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::Claim;
use crate::pace::{BURST, PAUSE};
use crate::peers::BEAT;

const LINK: u32 = 7;
const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const FOREIGN: Mac = Mac([2, 0, 0, 0, 0, 9]);

fn address() -> IpAddr {
    [192, 0, 2, 77].into()
}

fn names(nodes: &[&str]) -> Arc<BTreeSet<String>> {
    Arc::new(nodes.iter().map(|node| (*node).to_owned()).collect())
}

fn claimed(nodes: &[&str]) -> Claim {
    Claim { nodes: names(nodes), links: Arc::default() }
}

fn wanted(nodes: &[&str]) -> Wanted {
    let addresses = BTreeMap::from([(address(), claimed(nodes))]);
    Wanted { addresses, nodes: names(nodes), ..Wanted::default() }
}

fn beat(count: u64) -> Heartbeat {
    Heartbeat { cluster: [0; 16], started: 1, count, mac: PEER, node: "b".into(), leaves: false }
}

/// Node `a` with one link, and what it does at first.
fn open(nodes: &[&str], now: Instant) -> (Claims, Vec<Act>) {
    let mut claims = Claims::new("a".into());
    claims.set_links(&[(LINK, "e0".into(), OWN)], now);
    claims.set_wanted(Arc::new(wanted(nodes)), BTreeMap::from([(address(), vec![LINK])]));
    let acts = claims.settle(now);
    (claims, acts)
}

/// Lets time pass as a clock would, and everything be done when it is due.
fn pass(claims: &mut Claims, from: Instant, until: Instant) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    while let Some(at) = claims.next().filter(|at| *at <= until) {
        let due = claims.wake(at);
        assert!(!due.is_empty() || claims.next() != Some(at), "nothing is done at what is due");
        acts.extend(due.into_iter().map(|act| (at - from, act)));
    }
    acts
}

/// Which of two nodes has the address; tests are written for the other.
fn owner_of_two() -> &'static str {
    owner(address(), ["a", "b"].into_iter()).unwrap()
}

fn told() -> Act {
    Act::Tell(LINK, address())
}

#[test]
fn a_lone_node_asks_first_and_then_says_so_several_times() {
    let now = Instant::now();
    let (mut claims, acts) = open(&["a"], now);
    assert_eq!(acts, [Act::Probe(LINK, address())]);
    assert!(!claims.answers(LINK, address()));
    let acts = pass(&mut claims, now, now + AGAIN);
    let times: Vec<u128> =
        acts.iter().filter(|(_, act)| *act == told()).map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times, [20, 120, 520, 1520, 4520]);
    assert!(acts.contains(&(PROBE, Act::Say(Said::Announced { address: address(), link: "e0".into() }))));
    assert!(claims.answers(LINK, address()) && claims.next().is_none());
}

#[test]
fn nobody_takes_an_address_before_others_can_have_been_heard() {
    let now = Instant::now();
    let (mut claims, acts) = open(&["a", "b"], now);
    assert!(acts.is_empty());
    // Nobody is heard: it is this node's.
    let acts = pass(&mut claims, now, now + SILENCE);
    assert_eq!(acts, [(SILENCE, Act::Probe(LINK, address()))]);
}

#[test]
fn who_is_silent_loses_what_it_had_and_gets_it_again() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a", "b"], now);
    let is_ours = owner_of_two() == "a";
    assert!(claims.hear(LINK, &beat(0), now + BEAT));
    claims.settle(now + BEAT);
    pass(&mut claims, now, now + SILENCE);
    claims.hear(LINK, &beat(1), now + SILENCE);
    assert_eq!(claims.claims.contains_key(&(LINK, address())), is_ours);
    // It falls silent: less than a second later this node answers.
    pass(&mut claims, now, now + SILENCE * 2 + PROBE);
    assert!(claims.answers(LINK, address()));
    // It is back.
    claims.hear(LINK, &beat(2), now + AGAIN);
    let acts = claims.settle(now + AGAIN);
    assert_eq!(acts.contains(&Act::Leave(LINK, address())), !is_ours);
    assert_eq!(claims.answers(LINK, address()), is_ours);
}

#[test]
fn who_leaves_is_not_waited_for() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a", "b"], now);
    claims.hear(LINK, &beat(0), now);
    pass(&mut claims, now, now + SILENCE - Duration::from_millis(1));
    claims.hear(LINK, &beat(1), now + SILENCE - Duration::from_millis(1));
    pass(&mut claims, now, now + SILENCE);
    assert!(claims.hear(LINK, &Heartbeat { leaves: true, ..beat(2) }, now + SILENCE));
    claims.settle(now + SILENCE);
    assert!(claims.claims.contains_key(&(LINK, address())));
}

#[test]
fn a_foreign_host_that_has_the_address_keeps_it_and_is_looked_at_again() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a"], now);
    let acts = claims.said(LINK, address(), FOREIGN, now);
    assert_eq!(acts, [Act::Say(Said::Contested { address: address(), link: "e0".into(), mac: FOREIGN })]);
    assert!(pass(&mut claims, now, now + PROBE).is_empty() && !claims.answers(LINK, address()));
    assert_eq!(pass(&mut claims, now, now + AGAIN), [(AGAIN, Act::Probe(LINK, address()))]);
    // It is gone by now.
    pass(&mut claims, now, now + AGAIN + PROBE);
    assert!(claims.answers(LINK, address()));
}

#[test]
fn who_claims_it_later_is_contradicted_once() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a"], now);
    pass(&mut claims, now, now + PROBE);
    let acts = claims.said(LINK, address(), FOREIGN, now + PROBE);
    assert!(acts.contains(&told()) && claims.answers(LINK, address()));
    // It said so in two frames.
    assert!(claims.said(LINK, address(), FOREIGN, now + PROBE + BEAT).is_empty());
    // Once in ten seconds is chance, twice is a host that means it.
    let again = now + PROBE + DEFENCE;
    assert!(claims.said(LINK, address(), FOREIGN, again).contains(&told()));
    let acts = claims.said(LINK, address(), FOREIGN, again + SAYING);
    assert!(matches!(acts[..], [Act::Say(Said::Contested { .. })]) && !claims.answers(LINK, address()));
}

#[test]
fn nodes_of_the_same_cluster_contest_nothing() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a", "b"], now);
    let begun = now + SILENCE;
    pass(&mut claims, now, begun);
    // One that was not heard yet, because it took itself for alone, has the address.
    claims.said(LINK, address(), PEER, begun);
    assert!(matches!(claims.claims[&(LINK, address())], State::Contested { .. }));
    claims.hear(LINK, &beat(0), begun + BEAT);
    let acts = claims.settle(begun + BEAT);
    match owner_of_two() {
        "a" => assert_eq!(acts, [Act::Probe(LINK, address())]),
        _ => assert_eq!(acts, [Act::Leave(LINK, address())]),
    }
    assert!(claims.said(LINK, address(), PEER, begun + BEAT).is_empty());
}

#[test]
fn what_is_not_wanted_or_has_no_link_is_let_go() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a"], now);
    pass(&mut claims, now, now + PROBE);
    let withdrawn = Act::Say(Said::Withdrawn { address: address(), link: "e0".into() });
    // Another card in its place has another address to say.
    let acts = claims.set_links(&[(LINK, "e0".into(), PEER)], now);
    assert_eq!(acts, [Act::Leave(LINK, address()), withdrawn.clone()]);
    assert_eq!(claims.settle(now), [Act::Probe(LINK, address())]);
    pass(&mut claims, now, now + PROBE);
    claims.set_wanted(Arc::default(), BTreeMap::new());
    let acts = claims.settle(now);
    assert_eq!(acts, [Act::Leave(LINK, address()), withdrawn]);
    assert!(claims.settle(now).is_empty());
}

#[test]
fn a_node_that_may_not_have_it_leaves_it() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a"], now);
    let mut only = wanted(&["a", "b"]);
    only.addresses = BTreeMap::from([(address(), claimed(&["b"]))]);
    claims.set_wanted(Arc::new(only), BTreeMap::from([(address(), vec![LINK])]));
    claims.settle(now);
    assert!(claims.claims.is_empty());
}

#[test]
fn signs_of_life_of_strangers_change_nothing() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a", "b"], now);
    let stranger = Heartbeat { node: "c".into(), ..beat(0) };
    assert!(!claims.hear(LINK, &stranger, now) && !claims.is_ours(LINK, PEER));
    assert!(claims.hear(LINK, &beat(0), now) && claims.is_ours(LINK, PEER));
    // Nor does one that is no node any more.
    claims.set_wanted(Arc::new(wanted(&["a"])), BTreeMap::new());
    assert!(!claims.is_ours(LINK, PEER));
}

#[test]
fn an_address_that_could_not_be_asked_for_is_not_held() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a"], now);
    claims.unasked(LINK, address(), now);
    assert_eq!(pass(&mut claims, now, now + UNASKED), [(UNASKED, Act::Probe(LINK, address()))]);
    assert!(!claims.answers(LINK, address()));
    pass(&mut claims, now, now + UNASKED + PROBE);
    assert!(claims.answers(LINK, address()));
    // A later question is not what it is held by.
    claims.unasked(LINK, address(), now + UNASKED + PROBE);
    assert!(claims.answers(LINK, address()));
}

#[test]
fn nodes_that_come_and_go_have_nothing_said_more_often_than_each_second() {
    let now = Instant::now();
    let (mut claims, _) = open(&["a"], now);
    pass(&mut claims, now, now + AGAIN);
    let later = now + AGAIN;
    claims.repeat(LINK, later);
    assert_eq!(claims.next(), Some(later));
    claims.wake(later);
    let next = claims.next();
    claims.repeat(LINK, later + BEAT);
    assert_eq!(claims.next(), next);
    claims.repeat(LINK, later + REPEATED);
    assert_eq!(claims.next(), Some(later + REPEATED));
}

#[test]
fn many_addresses_are_said_a_part_at_a_time_and_all_before_any_is_repeated() {
    let now = Instant::now();
    let mut claims = Claims::new("a".into());
    claims.set_links(&[(LINK, "e0".into(), OWN)], now);
    let many = BURST * 10;
    let addresses = (0..many).map(|number| IpAddr::from([10, 0, (number / 256) as u8, (number % 256) as u8]));
    let homes: BTreeMap<_, _> = addresses.map(|address| (address, vec![LINK])).collect();
    let all = homes.keys().map(|address| (*address, claimed(&["a"]))).collect();
    claims.set_wanted(
        Arc::new(Wanted { addresses: all, nodes: names(&["a"]), ..Wanted::default() }),
        homes.clone(),
    );
    let first = claims.settle(now).into_iter().map(|act| (Duration::ZERO, act));
    let acts: Vec<_> = first.chain(pass(&mut claims, now, now + AGAIN)).collect();
    let mut of: BTreeMap<Duration, BTreeSet<IpAddr>> = BTreeMap::new();
    let mut told: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (at, act) in &acts {
        match act {
            Act::Tell(_, address) => {
                let again = told.entry(*address).or_default();
                *again += 1;
                assert!(*again == 1 || *at > PROBE + PAUSE * 20, "{address} is repeated at {at:?}");
                of.entry(*at).or_default().insert(*address)
            }
            Act::Probe(_, address) => of.entry(*at).or_default().insert(*address),
            _ => true,
        };
    }
    assert!(of.values().all(|addresses| addresses.len() <= BURST), "too much at once");
    let turns: Vec<_> = of.keys().collect();
    assert!(turns.windows(2).all(|two| *two[1] - *two[0] >= PAUSE), "{turns:?}");
    assert_eq!(told.len(), many);
    assert!(told.values().all(|times| *times == REPEATS.len() + 1), "{told:?}");
    assert!(homes.keys().all(|address| claims.answers(LINK, *address)));
}
