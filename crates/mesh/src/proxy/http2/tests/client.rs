//! What a client sends, and how long it may take.

use std::time::Duration;

use smi::contract::http::Redirect;
use smi::contract::{Id, Kind};
use smi::model::{Filter, HttpMatch, HttpRouting, HttpRule, Matched, Timeouts, Unmatched};

use super::*;
use crate::h2::frame::{Frame, PAYLOAD, read, write};
use crate::proxy::http2::late::{PARTING, ROUND_TRIP};

/// All is answered with where to ask instead.
fn elsewhere() -> Delta {
    let redirect = Redirect { scheme: None, hostname: None, path: None, port: None, status: 302 };
    let object = Id { kind: Kind::HttpRoute, name: Name::new("shop", "web") };
    let rule = HttpRule {
        from: smi::model::Origin { object, rule: 0, name: None },
        filters: vec![Filter::Redirect(redirect)],
        backends: Vec::new(),
        timeouts: Timeouts::default(),
        retry: None,
    };
    let matches = vec![Matched { requests: HttpMatch::default(), rule: 0 }];
    let routing = HttpRouting { matches, rules: vec![rule], unmatched: Unmatched::NotFound };
    model(Routing::Http(routing), &[address(1)])
}

/// Takes what there is for the client: so many heads that end their stream.
fn heads(test: &mut Test) -> u32 {
    let bytes = test.session.connection.output().to_vec();
    test.session.connection.sent(bytes.len());
    let (mut rest, mut count) = (&bytes[..], 0);
    while let Some((frame, used)) = read(rest, PAYLOAD as u32).unwrap() {
        count += u32::from(matches!(frame, Frame::Headers { end: true, .. }));
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    count
}

#[test]
fn what_one_read_asks_for_is_answered_as_it_is_taken() {
    const REQUESTS: u32 = 1200;
    run(|reactor| async move {
        let mut test = Test::new(&reactor, elsewhere(), Settings::default()).await;
        // A path of 4,000 bytes, which is in the table from then on. The answer's header is too long for one.
        let mut block = vec![0x82, 0x86, 0x41, 3, b'w', b'e', b'b', 0x44, 0x7f, 0xa1, 0x1e, b'/'];
        block.extend([b'~'; 3999]);
        let mut bytes = Vec::new();
        write::headers(&mut bytes, 1, &block, true, PAYLOAD);
        test.sends(&bytes).await;
        assert_eq!(heads(&mut test), 1);
        bytes.clear();
        for n in 1..REQUESTS {
            write::headers(&mut bytes, 2 * n + 1, &[0x82, 0x86, 0xbf, 0xbe], true, PAYLOAD);
        }
        test.sends(&bytes).await;
        let (mut answered, mut waited) = (1, 0);
        while answered < REQUESTS {
            let (session, waits) = (&test.session, test.session.connection.output().len());
            assert!(waits < 2 * session.limits.queue + 5000, "{waits} bytes wait for the client");
            if session.connection.is_full() && !session.buffer.is_empty() {
                // That the rest is not read is not its doing.
                assert_eq!(session.client_limit(), None);
                waited += 1;
            }
            let more = heads(&mut test);
            assert!(more > 0, "{answered} of {REQUESTS} are answered");
            answered += more;
            while test.session.hear(test.now) {}
        }
        assert!(waited > 10, "{waited}");
        assert!(test.session.buffer.is_empty() && test.session.exchanges.is_empty());
    });
}

#[test]
fn a_head_has_its_time_whatever_else_comes() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let (begun, head) = (test.now, test.session.proxy.settings.head);
        let mut bytes = Vec::new();
        // A frame of ten bytes for each byte of the block.
        write::headers(&mut bytes, 1, &[0x82, 0x86, 0x84], true, 1);
        test.sends(&bytes[..10]).await;
        test.now = begun + head / 2;
        test.sends(&bytes[10..25]).await;
        assert_eq!(test.session.client_limit(), Some(begun + head));
        test.passes(begun + head - Duration::from_millis(1));
        assert_eq!(test.session.over, None);
        test.passes(begun + head);
        assert_eq!(test.session.over, Some(Over::Stalled));
    });
}

#[test]
fn what_comes_behind_a_frame_has_its_own_time() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let (begun, head) = (test.now, test.session.proxy.settings.head);
        let mut bytes = Vec::new();
        (0..3).for_each(|n| write::ping(&mut bytes, [n; 8], false));
        test.sends(&bytes[..20]).await;
        assert_eq!(test.session.client_limit(), Some(begun + head));
        test.now = begun + head / 2;
        test.sends(&bytes[20..40]).await;
        assert_eq!(test.session.client_limit(), Some(test.now + head));
        test.sends(&bytes[40..]).await;
        assert_eq!(test.session.client_limit(), None);
    });
}

#[test]
fn who_takes_something_has_time_for_the_rest() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let (now, stall) = (test.now, test.session.proxy.settings.stall);
        test.session.connection.ping(*b"for them");
        for (after, some, limit) in [(0, true, 0), (1, false, 0), (2, true, 2), (3, false, 2)] {
            let at = |seconds| now + Duration::from_secs(seconds);
            test.session.note_output(some, at(after));
            assert_eq!(test.session.client_limit(), Some(at(limit) + stall), "{after}");
        }
        test.told();
        test.session.note_output(true, now);
        assert_eq!(test.session.client_limit(), None);
    });
}

#[test]
fn who_was_slow_is_blamed() {
    let (one, other) = (address(1), address(2));
    // A request without and with an end, and whether its answer has begun.
    for (end, answered, wanted, blamed) in [
        (true, false, "504", true),
        (false, false, "408", false),
        (true, true, "reset CANCEL", false),
        (false, true, "reset CANCEL", false),
    ] {
        run(move |reactor| async move {
            let mut test = Test::new(&reactor, plain(&[one, other]), strict()).await;
            let _wires = [test.connected(one), test.connected(other)];
            let stream = test.ask(if end { &GET } else { &POST }, end).await;
            let asked = test.endpoint_of(stream);
            if answered {
                test.is_answered(stream, 0);
                assert_eq!(test.told(), [format!("{stream} 200")]);
            }
            test.exchange(stream).limit = Some(test.now);
            test.passes(test.now);
            assert_eq!(test.pumped()[0], format!("{stream} {wanted}"));
            assert_eq!(test.is_out(asked), blamed, "{wanted}");
        });
    }
}

#[test]
fn an_endpoint_that_was_not_reached_in_time_is_blamed_for_a_body_too() {
    let (one, other) = (address(1), address(2));
    run(move |reactor| async move {
        let mut test = Test::new(&reactor, plain(&[one, other]), strict()).await;
        let stream = test.ask(&POST, false).await;
        let asked = test.endpoint_of(stream);
        test.exchange(stream).limit = Some(test.now);
        test.passes(test.now);
        assert_eq!(test.pumped()[0], format!("{stream} 504"));
        assert!(test.is_out(asked));
    });
}

#[test]
fn what_is_on_its_way_to_a_drained_proxy_is_answered() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        test.session.part(test.now);
        test.session.part(test.now);
        assert!(!test.session.connection.has_left());
        // The client does not know yet.
        let stream = test.ask(&GET, true).await;
        assert!(test.session.exchanges.contains_key(&stream));
        assert_eq!(test.told(), ["last 2147483647"]);
        assert!(test.client.open(fields(&GET), true).is_err());
        // What it sends by itself is no answer to that.
        let mut bytes = Vec::new();
        write::ping(&mut bytes, *b"not this", true);
        test.sends(&bytes).await;
        assert!(!test.session.connection.has_left());
        test.says().await;
        assert!(test.session.connection.has_left());
        assert_eq!((test.told(), test.session.parting), (vec![format!("last {stream}")], None));
        // It was said: more of the same changes nothing.
        bytes.clear();
        write::ping(&mut bytes, PARTING, true);
        test.sends(&bytes).await;
        assert!(test.told().is_empty());
    });
}

#[test]
fn a_client_that_does_not_answer_is_told_the_last_of_its_requests_all_the_same() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let stream = test.ask(&GET, true).await;
        test.session.part(test.now);
        test.passes(test.now + ROUND_TRIP - Duration::from_millis(1));
        assert!(!test.session.connection.has_left());
        test.passes(test.now + ROUND_TRIP);
        assert!(test.session.connection.has_left());
        assert_eq!(test.told(), ["last 2147483647".to_owned(), format!("last {stream}")]);
        assert!(test.session.exchanges.contains_key(&stream));
    });
}
