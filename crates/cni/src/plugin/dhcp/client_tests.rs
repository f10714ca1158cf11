use proptest::prelude::*;

use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SERVER: Mac = Mac([2, 0, 0, 0, 0, 9]);
const PATIENCE: Patience = Patience {
    timeout: Duration::from_secs(10),
    resend_max: Duration::from_secs(62),
    resend_timeout: Duration::from_secs(208),
    broadcast: false,
};

fn client() -> Client {
    Client::new(MAC, Options::from([(option::CLIENT_ID, b"\0c".to_vec())]), PATIENCE, Time::ZERO, 42)
}

/// What was sent, read as the server reads it.
fn sent(output: Option<Output>) -> (Message, Ipv4Addr, Mac) {
    let Some(Output::Send { packet, to }) = output else { panic!("nothing was sent: {output:?}") };
    let address = Ipv4Addr::from(*packet[16..].first_chunk::<4>().unwrap());
    (Message::parse(&packet[28..]).unwrap(), address, to)
}

fn answer(question: &Message, kind: Kind) -> Message {
    let mut options = Options::from([(option::SERVER, vec![10, 0, 0, 1])]);
    if kind != Kind::Nak {
        options.insert(option::LEASE_TIME, 800_u32.to_be_bytes().to_vec());
        options.insert(option::SUBNET_MASK, vec![255, 255, 255, 0]);
    }
    Message { kind, reply: true, yours: [10, 0, 0, 5].into(), options, ..question.clone() }
}

/// A client that has its lease since second 0.
fn bound() -> Client {
    let mut client = client();
    let (discover, to, mac) = sent(client.wake(Time::ZERO));
    assert_eq!((discover.kind, to, mac), (Kind::Discover, Ipv4Addr::BROADCAST, BROADCAST));
    let (request, to, _) = sent(client.receive(&answer(&discover, Kind::Offer), SERVER, Time::ZERO));
    assert_eq!((request.kind, to, request.xid), (Kind::Request, Ipv4Addr::BROADCAST, discover.xid));
    assert_eq!(request.addresses(option::REQUESTED_ADDRESS), [Ipv4Addr::new(10, 0, 0, 5)]);
    assert_eq!(client.receive(&answer(&request, Kind::Ack), SERVER, Time::ZERO), Some(Output::Granted));
    assert!(!client.listens());
    client
}

fn seconds(n: u64) -> Time {
    Time::from_secs(n)
}

#[test]
fn a_lease_is_renewed_by_its_server_then_by_any_and_ends() {
    let mut client = bound();
    assert_eq!(client.next(), Some(seconds(400)));
    assert_eq!(client.wake(seconds(399)), None);
    let (renew, to, mac) = sent(client.wake(seconds(400)));
    assert_eq!(
        (renew.kind, renew.client, to, mac),
        (Kind::Request, [10, 0, 0, 5].into(), [10, 0, 0, 1].into(), SERVER)
    );
    assert!(
        !renew.options.contains_key(&option::SERVER)
            && !renew.options.contains_key(&option::REQUESTED_ADDRESS)
    );
    assert_eq!(client.next(), Some(seconds(550)), "half of what is left until 700");
    sent(client.wake(seconds(550)));
    assert_eq!(client.receive(&answer(&renew, Kind::Ack), SERVER, seconds(551)), Some(Output::Granted));
    assert_eq!(client.next(), Some(seconds(951)));
    let (rebind, to, mac) = sent(client.wake(seconds(1300)));
    assert_eq!((rebind.kind, to, mac), (Kind::Request, Ipv4Addr::BROADCAST, BROADCAST));
    assert!(matches!(client.wake(seconds(1351)), Some(Output::Lost(_))));
    assert!(client.lease().is_none() && client.next().is_none());
}

#[test]
fn a_refusal_counts_only_from_the_lease_s_own_server() {
    let mut client = bound();
    let (renew, ..) = sent(client.wake(seconds(400)));
    let mut nak = answer(&renew, Kind::Nak);
    nak.options.insert(option::SERVER, vec![10, 0, 0, 66]);
    assert_eq!(client.receive(&nak, SERVER, seconds(400)), None);
    assert!(client.lease().is_some());
    assert!(matches!(
        client.receive(&answer(&renew, Kind::Nak), SERVER, seconds(400)),
        Some(Output::Lost(_))
    ));
}

#[test]
fn a_refused_request_begins_anew() {
    let mut client = client();
    let (discover, ..) = sent(client.wake(Time::ZERO));
    let (request, ..) = sent(client.receive(&answer(&discover, Kind::Offer), SERVER, Time::ZERO));
    assert_eq!(client.receive(&answer(&request, Kind::Nak), SERVER, Time::ZERO), None);
    assert!(client.next().is_some_and(|next| (seconds(1)..=seconds(3)).contains(&next)));
    let (again, ..) = sent(client.wake(seconds(3)));
    assert!(again.kind == Kind::Discover && again.xid != discover.xid);
}

#[test]
fn a_request_that_nobody_answers_begins_anew() {
    let mut client = client();
    let (discover, ..) = sent(client.wake(Time::ZERO));
    sent(client.receive(&answer(&discover, Kind::Offer), SERVER, Time::ZERO));
    for kind in [Kind::Request, Kind::Request, Kind::Discover] {
        let (message, ..) = sent(client.wake(client.next().unwrap()));
        assert_eq!(message.kind, kind);
    }
}

#[test]
fn without_a_server_it_gives_up_in_time_with_growing_delays() {
    let mut client = client();
    let mut times = Vec::new();
    let end = loop {
        let now = client.next().unwrap();
        match client.wake(now) {
            Some(Output::Send { .. }) => times.push(now),
            Some(Output::Failed) => break now,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end, PATIENCE.resend_timeout);
    assert!((8..=10).contains(&times.len()), "{times:?}");
    for (i, pair) in times.windows(2).enumerate() {
        let wanted = Duration::from_secs(1 << i).min(PATIENCE.resend_max);
        assert!(((pair[1] - pair[0]).as_secs_f64() - wanted.as_secs_f64()).abs() <= 1.0, "{times:?}");
    }
    assert!(client.next().is_none());
}

#[test]
fn what_is_not_for_it_is_passed_over() {
    let mut client = client();
    let (discover, ..) = sent(client.wake(Time::ZERO));
    let offer = answer(&discover, Kind::Offer);
    for other in [
        Message { xid: offer.xid ^ 1, ..offer.clone() },
        Message { mac: SERVER, ..offer.clone() },
        Message { reply: false, ..offer.clone() },
        Message { yours: Ipv4Addr::UNSPECIFIED, ..offer.clone() },
        Message { options: Options::new(), ..offer.clone() },
        Message { kind: Kind::Ack, ..offer },
    ] {
        assert_eq!(client.receive(&other, SERVER, Time::ZERO), None, "{other:?}");
    }
}

#[test]
fn a_release_is_for_the_server_alone() {
    let mut client = bound();
    let (release, to, mac) = sent(client.release());
    assert_eq!((release.kind, to, mac), (Kind::Release, [10, 0, 0, 1].into(), SERVER));
    assert_eq!(release.options.keys().copied().collect::<Vec<_>>(), [option::SERVER, option::CLIENT_ID]);
    assert!(client.release().is_none() && client.next().is_none());
}

proptest! {
    #[test]
    fn times_are_in_order_whatever_the_server_says(
        whole in proptest::option::of(any::<u32>()), t1 in proptest::option::of(any::<u32>()), t2 in proptest::option::of(any::<u32>()),
    ) {
        let mut ack = answer(&client().message(Kind::Request, Time::ZERO), Kind::Ack);
        ack.options.remove(&option::LEASE_TIME);
        for (code, value) in [(option::LEASE_TIME, whole), (option::RENEWAL_TIME, t1), (option::REBINDING_TIME, t2)] {
            ack.options.extend(value.map(|value| (code, value.to_be_bytes().to_vec())));
        }
        let lease = Lease::new(ack, SERVER, Time::ZERO);
        prop_assert!(lease.renewal <= lease.rebinding && lease.rebinding <= lease.expiry && !lease.expiry.is_zero());
    }
}
