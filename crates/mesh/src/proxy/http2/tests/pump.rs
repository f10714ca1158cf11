//! Bodies that share a connection, and such as rest.

use std::time::Duration;

use super::*;
use crate::h2::frame::{id, write};

const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn downloads_take_turns() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        for _ in 0..3 {
            let stream = test.ask(&GET, true).await;
            test.is_answered(stream, 60_000);
        }
        assert_eq!(test.told().len(), 3, "heads");
        // As much goes as may wait to be sent, a frame of each; who comes after the last is the first the next time.
        let mut told = test.pumped();
        assert_eq!(told[..3], ["1 of 16384", "3 of 16384", "5 of 16384"]);
        assert!(told[3].starts_with("1 of ") && told.len() == 4, "{told:?}");
        told = test.pumped();
        assert_eq!(told[..3], ["3 of 16384", "5 of 16384", "1 of 16384"]);
        // A short one need not wait for the long ones.
        let stream = test.ask(&GET, true).await;
        test.is_answered(stream, 10);
        test.exchange(stream).down.end = true;
        assert!(test.pumped().contains(&format!("{stream} of 10 end")));
        assert!(!test.session.exchanges.contains_key(&stream));
    });
}

#[test]
fn an_answer_that_nobody_takes_ends_and_one_that_rests_does_not() {
    let (one, other) = (address(1), address(2));
    run(move |reactor| async move {
        let mut test = Test::new(&reactor, plain(&[one, other]), strict()).await;
        let _wires = [test.connected(one), test.connected(other)];
        let (full, quiet) = (test.ask(&GET, true).await, test.ask(&POST, false).await);
        // More than the client lets come, and all that there is so far.
        test.is_answered(full, 100_000);
        test.is_answered(quiet, 10);
        while !test.pumped().is_empty() {}
        assert_eq!((test.rest(full), test.rest(quiet)), (Some(Rest::Taking), None));
        assert_eq!(test.exchange(quiet).down.bytes.capacity(), 0, "what was passed on is not kept");
        let (since, stall) = (test.exchange(full).down.moved, test.session.proxy.settings.stall);
        test.passes(since + stall - MOMENT);
        assert!(test.told().is_empty());
        // More of it is no reason to wait for longer.
        test.now = since + stall - MOMENT;
        test.exchange(full).down.comes(since + stall - MOMENT);
        test.passes(since + stall);
        assert_eq!(test.told(), [format!("{full} reset CANCEL")]);
        test.passes(since + 100 * stall);
        assert!(test.told().is_empty() && test.session.exchanges.contains_key(&quiet));
        assert!(!test.is_out(one) && !test.is_out(other), "whoever is slow is not the endpoint");
    });
}

#[test]
fn an_answer_of_our_own_that_nobody_takes_ends_too() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[]), Settings::default()).await;
        // No window: a client may ask so for a hundred answers and take none.
        let mut bytes = Vec::new();
        write::settings(&mut bytes, &[(id::WINDOW, 0)]);
        test.sends(&bytes).await;
        let stream = test.ask(&GET, true).await;
        assert_eq!(test.pumped(), [format!("{stream} 503")]);
        let since = test.exchange(stream).down.moved;
        test.passes(since + test.session.proxy.settings.stall);
        assert_eq!(test.told(), [format!("{stream} reset CANCEL")]);
        assert!(test.session.exchanges.is_empty());
    });
}

#[test]
fn an_endpoint_that_takes_nothing_of_a_body_has_not_answered() {
    let (one, other) = (address(1), address(2));
    for answered in [false, true] {
        run(move |reactor| async move {
            let mut test = Test::new(&reactor, plain(&[one, other]), strict()).await;
            let _wires = [test.connected(one), test.connected(other)];
            // All that may come of it, which is more than may wait for the endpoint.
            let stream = test.posts(&vec![b'x'; 64 << 10], false).await;
            if answered {
                test.is_answered(stream, 0);
            }
            let place = test.place_of(stream);
            test.backend(place).said = true;
            test.pumped();
            assert!(test.exchange(stream).uploading);
            assert_eq!(test.rest(stream), Some(Rest::Sending));
            let (since, stall) = (test.exchange(stream).up.moved, test.session.proxy.settings.stall);
            let asked = test.endpoint_of(stream);
            test.passes(since + stall - MOMENT);
            assert!(test.told().is_empty());
            test.passes(since + stall);
            let wanted = if answered { "reset INTERNAL_ERROR" } else { "502" };
            assert_eq!(test.pumped()[0], format!("{stream} {wanted}"));
            // Who has begun to answer need not want all of the request.
            assert_eq!(test.is_out(asked), !answered);
        });
    }
}

#[test]
fn who_takes_nothing_of_an_answer_is_not_waited_for_since_it_sends_more() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let _wire = test.connected(address(1));
        test.backend(0).said = true;
        let stream = test.ask(&POST, false).await;
        test.is_answered(stream, 100_000);
        while !test.pumped().is_empty() {}
        let (since, stall) = (test.now, test.session.proxy.settings.stall);
        test.now = since + stall - MOMENT;
        assert_eq!(test.client.data(stream, b"more", false), Ok(4));
        test.says().await;
        test.pumped();
        assert_eq!(
            (test.exchange(stream).up.moved, test.exchange(stream).up.bytes.capacity()),
            (test.now, 0)
        );
        test.passes(since + stall);
        assert_eq!(test.told(), [format!("{stream} reset CANCEL")]);
    });
}

#[test]
fn who_waits_until_its_answer_is_taken_need_not_take_the_request() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        // Nothing can be sent to it.
        let _wire = test.connected(address(1));
        let stream = test.posts(b"more", false).await;
        test.is_answered(stream, 100_000);
        let mut taken = 0;
        while !test.pumped().is_empty() {
            taken = 100_000 - test.exchange(stream).down.bytes.len();
        }
        assert_eq!(test.rest(stream), Some(Rest::Taking));
        let stall = test.session.proxy.settings.stall;
        test.now += stall - MOMENT;
        test.client.consumed(stream, taken as u32);
        test.says().await;
        while !test.pumped().is_empty() {}
        // It has as much time from now on as it would have had then.
        let exchange = &test.session.exchanges[&stream];
        assert_eq!(test.session.rest(exchange), Some((test.now + stall, Rest::Sending)));
    });
}

#[test]
fn a_body_waits_for_a_connection_as_long_as_that_may_take() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), strict()).await;
        let stream = test.posts(b"body", true).await;
        assert!(test.pumped().is_empty());
        assert!(!test.backend(0).is_open() && !test.exchange(stream).uploading);
        assert_eq!(test.exchange(stream).up.bytes, b"body");
        assert_eq!(test.rest(stream), None);
        test.passes(test.now + 100 * test.session.proxy.settings.stall);
        assert!(test.pumped().is_empty());
    });
}
