//! Endpoints that stop in the middle, and what counts as one failure of theirs.

use super::*;
use crate::h2::frame::{PAYLOAD, write};

const MOMENT: Duration = Duration::from_millis(1);

/// The head of an answer, with a `content-length` of 10 if there is one.
fn head(out: &mut Vec<u8>, length: bool) {
    let block = [0x88, 0x0f, 0x0d, 2, b'1', b'0'];
    write::headers(out, 1, if length { &block[..] } else { &block[..1] }, false, PAYLOAD);
}

#[test]
fn an_endpoint_that_stops_within_a_frame_is_not_waited_for() {
    let (one, other) = (address(1), address(2));
    let mut greeting = Vec::new();
    write::settings(&mut greeting, &[]);
    let [mut within_frame, mut within_block, mut within_data] = [(); 3].map(|()| Vec::new());
    head(&mut within_frame, true);
    within_frame.truncate(10);
    // Frames of a byte, of which the last is missing.
    write::headers(&mut within_block, 1, &[0x88, 0x88], false, 1);
    within_block.truncate(10);
    head(&mut within_data, false);
    write::data(&mut within_data, 1, b"abc", false);
    within_data.pop();
    for (begun, wanted) in
        [(within_frame, "1 502"), (within_block, "1 502"), (within_data, "1 reset INTERNAL_ERROR")]
    {
        let greeting = greeting.clone();
        run(move |reactor| async move {
            let mut test = Test::new(&reactor, plain(&[one, other]), strict()).await;
            let mut wires = [test.connected(one), test.connected(other)];
            let stream = test.ask(&GET, true).await;
            let (asked, place, stall) =
                (test.endpoint_of(stream), test.place_of(stream), test.session.proxy.settings.stall);
            let limit =
                |test: &Test| test.session.frame_limit(test.session.backends[place].as_ref().unwrap());
            // What comes behind a frame has its own time; what a frame has not ended with has not.
            wires[place].write_all(&greeting[..5]).unwrap();
            test.hears(place).await;
            assert_eq!(limit(&test), Some(test.now + stall));
            test.now += stall / 2;
            wires[place].write_all(&greeting[5..]).unwrap();
            test.hears(place).await;
            assert_eq!(limit(&test), None);
            let (first, rest) = begun.split_at(begun.len() - 1);
            wires[place].write_all(first).unwrap();
            test.hears(place).await;
            let since = test.now;
            test.now += stall / 2;
            wires[place].write_all(rest).unwrap();
            test.hears(place).await;
            assert_eq!(limit(&test), Some(since + stall));
            let told = test.pumped();
            test.passes(since + stall - MOMENT);
            assert!(test.pumped().is_empty() && !test.is_out(asked), "{told:?}");
            test.passes(since + stall);
            assert_eq!(test.pumped()[0], wanted);
            assert!(test.is_out(asked) && test.session.backends[place].is_none());
        });
    }
}

#[test]
fn an_endpoint_that_stops_in_an_answer_of_known_length_is_not_waited_for() {
    let (one, other) = (address(1), address(2));
    for length in [true, false] {
        run(move |reactor| async move {
            let mut test = Test::new(&reactor, plain(&[one, other]), strict()).await;
            let mut wires = [test.connected(one), test.connected(other)];
            let stream = test.ask(&GET, true).await;
            let (asked, place, stall) =
                (test.endpoint_of(stream), test.place_of(stream), test.session.proxy.settings.stall);
            let mut bytes = Vec::new();
            write::settings(&mut bytes, &[]);
            head(&mut bytes, length);
            write::data(&mut bytes, 1, b"abc", false);
            wires[place].write_all(&bytes).unwrap();
            test.hears(place).await;
            assert_eq!(test.pumped(), ["1 200", "1 of 3"]);
            assert_eq!(test.rest(stream), length.then_some(Rest::Answering));
            // While the client has too much to take nothing is read, and nothing is missed.
            while !test.session.connection.is_full() {
                test.session.connection.ping([0; 8]);
            }
            test.now += stall / 2;
            test.hears(place).await;
            let count = test.session.connection.output().len();
            test.session.connection.sent(count);
            test.passes(test.now + stall - MOMENT);
            assert!(test.pumped().is_empty());
            test.passes(test.now + stall);
            if length {
                assert_eq!(test.pumped(), ["1 reset INTERNAL_ERROR"]);
            } else {
                assert!(test.pumped().is_empty(), "it may be a stream of events");
            }
            assert_eq!(test.is_out(asked), length);
        });
    }
}

#[test]
fn who_has_not_the_whole_request_is_not_blamed_for_the_rest_of_its_answer() {
    let (one, other) = (address(1), address(2));
    for whole in [true, false] {
        run(move |reactor| async move {
            let mut test = Test::new(&reactor, plain(&[one, other]), strict()).await;
            let mut wires = [test.connected(one), test.connected(other)];
            let stream = test.ask(&POST, whole).await;
            let (asked, place, stall) =
                (test.endpoint_of(stream), test.place_of(stream), test.session.proxy.settings.stall);
            let mut bytes = Vec::new();
            write::settings(&mut bytes, &[]);
            head(&mut bytes, true);
            write::data(&mut bytes, 1, b"abc", false);
            wires[place].write_all(&bytes).unwrap();
            test.hears(place).await;
            assert_eq!(test.pumped(), ["1 200", "1 of 3"]);
            // Nobody says anything: the call ends, and is the failure of who owes something. When it was asked is the clock's, a little later.
            test.passes(test.now + stall + stall / 10);
            assert_eq!(test.pumped(), ["1 reset INTERNAL_ERROR"]);
            assert_eq!(test.is_out(asked), whole);
        });
    }
}

#[test]
fn a_connection_that_has_stopped_gets_no_requests_until_it_says_something() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let mut wire = test.connected(address(1));
        let (now, stall) = (test.now, test.session.proxy.settings.stall);
        let stops = test.posts(b"body", true).await;
        let waits = test.ask(&GET, true).await;
        test.exchange(stops).up.moved = now;
        test.passes(now + stall);
        assert_eq!(test.pumped()[0], format!("{stops} 502"));
        let next = test.ask(&GET, true).await;
        assert_eq!((test.place_of(waits), test.place_of(next)), (0, 1));
        let mut bytes = Vec::new();
        write::settings(&mut bytes, &[]);
        wire.write_all(&bytes).unwrap();
        test.hears(0).await;
        let last = test.ask(&GET, true).await;
        assert_eq!(test.place_of(last), 0);
    });
}

#[test]
fn one_that_is_needed_by_nobody_and_has_stopped_ends() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let _wire = test.connected(address(1));
        let (now, stall) = (test.now, test.session.proxy.settings.stall);
        let stops = test.posts(b"body", true).await;
        test.exchange(stops).up.moved = now;
        test.passes(now + stall);
        test.session.forsake();
        assert!(test.session.backends[0].is_none());
    });
}

#[test]
fn what_a_client_does_not_take_is_no_frame_that_does_not_end() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let mut wire = test.connected(address(1));
        test.ask(&GET, true).await;
        let mut bytes = Vec::new();
        write::settings(&mut bytes, &[]);
        wire.write_all(&bytes[..5]).unwrap();
        test.hears(0).await;
        assert_eq!(Some(test.now), test.backend(0).within);
        while !test.session.connection.is_full() {
            test.session.connection.ping([0; 8]);
        }
        test.now += Duration::from_secs(1);
        test.hears(0).await;
        assert_eq!((test.backend(0).within, test.backend(0).paused), (None, test.now));
        let count = test.session.connection.output().len();
        test.session.connection.sent(count);
        test.now += Duration::from_secs(1);
        test.hears(0).await;
        assert_eq!(Some(test.now), test.backend(0).within);
    });
}

#[test]
fn what_stops_on_one_connection_is_one_failure() {
    let (one, other) = (address(1), address(2));
    for (no_answers, out) in [(1, true), (2, false)] {
        run(move |reactor| async move {
            let ejection = Ejection { no_answers, ..Ejection::default() };
            let settings = Settings { ejection, ..Settings::default() };
            let mut test = Test::new(&reactor, plain(&[one, other]), settings).await;
            // Nothing is sent to either.
            let (wire, _other) = (test.connected(one), test.connected(other));
            let (now, stall) = (test.now, test.session.proxy.settings.stall);
            let mut count = 0;
            for _ in 0..6 {
                let stream = test.posts(b"body", true).await;
                assert_eq!(test.rest(stream), Some(Rest::Sending));
                let after = if test.endpoint_of(stream) == one {
                    // Two at once, and the others later.
                    count += 1;
                    Duration::from_secs([0, 0, 0, 1, 2, 3, 4][count])
                } else {
                    // Not within this test.
                    100 * stall
                };
                test.exchange(stream).up.moved = now + after;
            }
            assert!(count > 2, "{count}");
            // One that waits for an answer is there at each of them.
            let asked = [test.ask(&GET, true).await, test.ask(&GET, true).await];
            let last = asked.into_iter().find(|stream| test.endpoint_of(*stream) == one).unwrap();
            let mut told = test.pumped();
            for after in 0..6 {
                test.passes(now + stall + Duration::from_secs(after));
                told.extend(test.pumped());
            }
            assert_eq!(told.iter().filter(|told| told.ends_with(" 502")).count(), count, "{told:?}");
            // Nor is the connection's end another failure.
            test.backend(0).said = true;
            drop(wire);
            test.hears(0).await;
            assert!(test.session.backends[0].is_none());
            assert_eq!(test.pumped()[0], format!("{last} 502"));
            assert_eq!(test.is_out(one), out);
        });
    }
}

#[test]
fn a_connection_that_is_not_there_in_time_is_one_failure() {
    let (one, other) = (address(1), address(2));
    for (bad_answers, out) in [(1, true), (2, false)] {
        run(move |reactor| async move {
            let ejection = Ejection { bad_answers, no_answers: 2, ..Ejection::default() };
            let settings = Settings { ejection, ..Settings::default() };
            let mut test = Test::new(&reactor, plain(&[one, other]), settings).await;
            let mut theirs = Vec::new();
            for _ in 0..6 {
                let stream = test.ask(&GET, true).await;
                if test.endpoint_of(stream) == one {
                    theirs.push(stream);
                }
            }
            assert!(theirs.len() > 1, "{theirs:?}");
            for (stream, after) in theirs.iter().zip(1..) {
                test.exchange(*stream).limit = Some(test.now + Duration::from_millis(after));
            }
            for after in 1..6 {
                test.passes(test.now + Duration::from_millis(after));
            }
            let told = test.pumped();
            assert_eq!(told.iter().filter(|told| told.ends_with(" 504")).count(), theirs.len(), "{told:?}");
            assert_eq!(test.is_out(one), out);
        });
    }
}
