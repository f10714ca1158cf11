//! Requests that are sent once more, since their route says so.

use smi::contract::{Id, Kind};
use smi::model::{HttpMatch, HttpRouting, HttpRule, Matched, Retry, Timeouts, To, Unmatched};

use super::*;
use crate::h2::Code;
use crate::h2::frame::write;
use crate::proxy::http2::kept::KEPT;

const PUT: [(&str, &str); 4] =
    [(":method", "PUT"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

/// All requests go to endpoints 1 and 2, and answers of 503 are tried again so often.
fn retrying(attempts: u32, backoff_ms: Option<u64>, timeouts: Timeouts) -> Delta {
    let object = Id { kind: Kind::HttpRoute, name: Name::new("shop", "web") };
    let to = To::Service { service: Name::new("shop", "web"), port: 80 };
    let rule = HttpRule {
        from: smi::model::Origin { object, rule: 0, name: None },
        filters: Vec::new(),
        backends: vec![smi::model::Backend { to, weight: 1, filters: Vec::new() }],
        timeouts,
        retry: Some(Retry { codes: vec![503], attempts, backoff_ms }),
    };
    let matches = vec![Matched { requests: HttpMatch::default(), rule: 0 }];
    let routing = HttpRouting { matches, rules: vec![rule], unmatched: Unmatched::NotFound };
    model(Routing::Http(routing), &[address(1), address(2)])
}

fn at_once(attempts: u32) -> Delta {
    retrying(attempts, None, Timeouts::default())
}

/// An endpoint, by the place of the connection to it.
struct End {
    place: usize,
    wire: UnixStream,
    server: Connection,
    /// Of the bodies that it was sent.
    body: Vec<u8>,
}

impl End {
    /// Both endpoints.
    fn both(test: &mut Test) -> [Self; 2] {
        [1, 2].map(|last| {
            let wire = test.connected(address(last));
            let place = test.session.backends.len() - 1;
            // Bodies need not wait.
            test.backend(place).said = true;
            let server = Connection::new(Side::Server, Limits::default());
            Self { place, wire, server, body: Vec::new() }
        })
    }

    /// Takes what there is for it.
    fn takes(&mut self, test: &mut Test) -> Vec<String> {
        let connection = &mut test.backend(self.place).connection;
        let bytes = connection.output().to_vec();
        connection.sent(bytes.len());
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        loop {
            let (used, event) = self.server.receive(test.now, rest).unwrap();
            if let Some(Event::Data { bytes, .. }) = event {
                self.body.extend_from_slice(bytes);
            }
            let method = |fields: &Fields| {
                String::from_utf8_lossy(fields.get(b":method").unwrap_or_default()).into_owned()
            };
            all.extend(event.and_then(|event| match event {
                Event::Head { stream, end } => {
                    let end = if end { " end" } else { "" };
                    Some(format!("{stream} {}{end}", method(self.server.fields())))
                }
                event => words(event, self.server.fields()),
            }));
            if used == 0 {
                return all;
            }
            rest = &rest[used..];
        }
    }

    /// Sends what it has to say.
    async fn says(&mut self, test: &mut Test) {
        let bytes = self.server.output().to_vec();
        self.server.sent(bytes.len());
        self.sends(test, &bytes).await;
    }

    async fn sends(&mut self, test: &mut Test, bytes: &[u8]) {
        self.wire.write_all(bytes).unwrap();
        test.hears(self.place).await;
    }

    /// Answers a request with nothing but a head.
    async fn answers(&mut self, test: &mut Test, stream: u32, status: &str) {
        self.server.respond(stream, fields(&[(":status", status)]), true).unwrap();
        self.says(test).await;
    }
}

/// Those that are to be sent once more at once are.
fn again(test: &mut Test) -> usize {
    let streams = std::mem::take(&mut test.session.again);
    streams.iter().for_each(|stream| test.session.dispatch(*stream));
    streams.len()
}

#[test]
fn a_status_that_the_route_names_is_asked_of_another() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, at_once(1), strict()).await;
        let mut ends = End::both(&mut test);
        let stream = test.ask(&GET, true).await;
        let (first, asked) = (test.place_of(stream), test.endpoint_of(stream));
        assert_eq!(ends[first].takes(&mut test), ["1 GET end"]);
        ends[first].answers(&mut test, 1, "503").await;
        assert!(test.pumped().is_empty(), "nobody is told of it");
        assert!(test.is_out(asked), "it counts");
        assert_eq!(again(&mut test), 1);
        let second = test.place_of(stream);
        assert_ne!(first, second);
        assert_eq!(ends[second].takes(&mut test), ["1 GET end"]);
        ends[second].answers(&mut test, 1, "200").await;
        assert_eq!(test.pumped(), ["1 200 end"]);
        let counts = test.session.proxy.counts();
        assert_eq!((counts.requests, counts.retried, counts.answered), (1, 1, 0));
        assert!(test.session.exchanges.is_empty());
    });
}

#[test]
fn what_is_not_tried_again_is_handed_on() {
    // Statuses in a row; the last of them is the client's.
    for (attempts, statuses) in
        [(5, vec!["502"]), (5, vec!["200"]), (0, vec!["503"]), (2, vec!["503", "503", "503"])]
    {
        run(move |reactor| async move {
            let mut test = Test::new(&reactor, at_once(attempts), Settings::default()).await;
            let mut ends = End::both(&mut test);
            let stream = test.ask(&POST, true).await;
            for (n, status) in statuses.iter().enumerate() {
                let place = test.place_of(stream);
                let asked = ends[place].takes(&mut test);
                let theirs = 2 * (n as u32 / 2) + 1;
                assert_eq!(asked, [format!("{theirs} POST end")], "each is asked before one is asked twice");
                ends[place].answers(&mut test, theirs, status).await;
                assert_eq!(again(&mut test), usize::from(n + 1 < statuses.len()));
            }
            assert_eq!(test.pumped(), [format!("1 {} end", statuses[statuses.len() - 1])]);
            assert_eq!(test.session.proxy.counts().retried, statuses.len() as u64 - 1);
        });
    }
}

#[test]
fn what_is_beyond_the_budget_is_handed_on() {
    run(|reactor| async move {
        let settings = Settings { retry_percent: 0, retry_least: 1, ..Settings::default() };
        let mut test = Test::new(&reactor, at_once(5), settings).await;
        let mut ends = End::both(&mut test);
        let stream = test.ask(&GET, true).await;
        for (n, told) in [Vec::new(), vec!["1 503 end"]].into_iter().enumerate() {
            let place = test.place_of(stream);
            ends[place].takes(&mut test);
            ends[place].answers(&mut test, 1, "503").await;
            assert_eq!(test.pumped(), told);
            assert_eq!(again(&mut test), 1 - n);
        }
    });
}

#[test]
fn a_body_that_is_kept_is_sent_once_more() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, at_once(1), Settings::default()).await;
        let mut ends = End::both(&mut test);
        let body: Vec<u8> = (0..KEPT).map(|n| (n % 251) as u8).collect();
        let (kept, behind) = body.split_at(KEPT - 100);
        let stream = test.posts(kept, false).await;
        assert!(test.pumped().is_empty());
        let first = test.place_of(stream);
        assert_eq!(ends[first].takes(&mut test), ["1 POST".to_owned(), format!("1 of {}", kept.len())]);
        assert_eq!(test.session.keeping.get(), kept.len());
        // Before all of it is there.
        ends[first].answers(&mut test, 1, "503").await;
        assert!(test.pumped().is_empty());
        assert_eq!(again(&mut test), 1);
        assert_eq!(test.client.data(stream, &behind[..60], false), Ok(60));
        assert_eq!(test.client.data(stream, &behind[60..], true), Ok(40));
        test.says().await;
        assert!(test.pumped().is_empty());
        let second = test.place_of(stream);
        assert_ne!(first, second);
        let taken = ends[second].takes(&mut test);
        assert!(taken[0] == "1 POST" && taken.last().is_some_and(|last| last.ends_with(" end")), "{taken:?}");
        assert!(ends[second].body == body, "in order, and nothing twice");
        assert_eq!((test.session.keeping.get(), test.exchange(stream).uploading), (KEPT, false));
        ends[second].answers(&mut test, 1, "200").await;
        assert_eq!((test.pumped(), test.session.keeping.get()), (vec!["1 200 end".to_owned()], 0));
    });
}

#[test]
fn trailers_are_sent_once_more_too() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, at_once(1), Settings::default()).await;
        let mut ends = End::both(&mut test);
        let stream = test.posts(b"body", false).await;
        test.client.trailers(stream, fields(&[("x-sum", "7")])).unwrap();
        test.says().await;
        for (n, status) in ["503", "200"].into_iter().enumerate() {
            assert!(test.pumped().is_empty());
            let place = test.place_of(stream);
            assert_eq!(ends[place].takes(&mut test), ["1 POST", "1 of 4", "1 trailers"]);
            assert_eq!(ends[place].server.fields().get(b"x-sum"), Some(&b"7"[..]));
            ends[place].answers(&mut test, 1, status).await;
            assert_eq!(again(&mut test), 1 - n);
        }
        assert_eq!((test.pumped(), test.session.keeping.get()), (vec!["1 200 end".to_owned()], 0));
    });
}

#[test]
fn what_is_kept_goes_on_though_its_answer_has_begun() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, at_once(1), Settings::default()).await;
        let mut ends = End::both(&mut test);
        let stream = test.posts(b"first", false).await;
        assert!(test.pumped().is_empty());
        let first = test.place_of(stream);
        ends[first].takes(&mut test);
        ends[first].answers(&mut test, 1, "503").await;
        assert_eq!(again(&mut test), 1);
        let second = test.place_of(stream);
        ends[second].takes(&mut test);
        ends[second].server.respond(1, fields(&[(":status", "200")]), false).unwrap();
        ends[second].says(&mut test).await;
        assert_eq!(test.client.data(stream, b" and last", true), Ok(9));
        test.says().await;
        assert_eq!(test.pumped(), ["1 200"]);
        ends[second].takes(&mut test);
        assert_eq!(ends[second].body, b"first and last");
        assert_eq!(test.session.keeping.get(), 0, "nobody needs it any more");
    });
}

#[test]
fn a_body_that_is_more_than_is_kept_is_sent_once() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, at_once(5), Settings::default()).await;
        let mut ends = End::both(&mut test);
        let stream = test.posts(&[b'x'; KEPT + 1], true).await;
        assert!(test.pumped().is_empty());
        assert!(test.exchange(stream).uploading && test.session.keeping.get() == 0);
        let place = test.place_of(stream);
        ends[place].takes(&mut test);
        assert_eq!(ends[place].body.len(), KEPT + 1);
        ends[place].answers(&mut test, 1, "503").await;
        assert_eq!((again(&mut test), test.pumped()), (0, vec!["1 503 end".to_owned()]));
    });
}

#[test]
fn a_try_that_is_late_is_followed_by_another() {
    run(|reactor| async move {
        let timeouts = Timeouts { request_ms: None, backend_ms: Some(1000) };
        let mut test = Test::new(&reactor, retrying(1, None, timeouts), strict()).await;
        let mut ends = End::both(&mut test);
        let stream = test.posts(b"body", true).await;
        assert!(test.pumped().is_empty());
        let (first, asked) = (test.place_of(stream), test.endpoint_of(stream));
        let limit = test.exchange(stream).limit.unwrap();
        test.passes(limit);
        assert!(test.told().is_empty() && test.is_out(asked));
        assert_eq!(ends[first].takes(&mut test).last().map(String::as_str), Some("1 reset CANCEL"));
        assert_eq!(again(&mut test), 1);
        let second = test.place_of(stream);
        assert_ne!(first, second);
        assert!(test.exchange(stream).limit >= Some(limit), "it has a time of its own");
        assert!(test.pumped().is_empty());
        ends[second].takes(&mut test);
        assert_eq!(ends[second].body, b"body");
        ends[second].answers(&mut test, 1, "200").await;
        assert_eq!(test.pumped(), ["1 200 end"]);
    });
}

#[test]
fn the_last_that_is_late_is_told() {
    run(|reactor| async move {
        let timeouts = Timeouts { request_ms: None, backend_ms: Some(1000) };
        let mut test = Test::new(&reactor, retrying(1, None, timeouts), Settings::default()).await;
        let _ends = End::both(&mut test);
        let stream = test.ask(&GET, true).await;
        for wanted in [1, 0] {
            let limit = test.exchange(stream).limit.unwrap();
            test.passes(limit);
            assert_eq!(again(&mut test), wanted);
        }
        assert_eq!(test.pumped()[0], "1 504");
    });
}

#[test]
fn there_is_time_between_two_tries_and_one_for_all() {
    run(|reactor| async move {
        let timeouts = Timeouts { request_ms: Some(10_000), backend_ms: None };
        let mut test = Test::new(&reactor, retrying(5, Some(4000), timeouts), Settings::default()).await;
        let mut ends = End::both(&mut test);
        let stream = test.ask(&GET, true).await;
        let place = test.place_of(stream);
        ends[place].takes(&mut test);
        ends[place].answers(&mut test, 1, "503").await;
        let until = test.exchange(stream).tries.waits.unwrap();
        assert!(until >= test.now + Duration::from_secs(4) && again(&mut test) == 0);
        test.passes(until - Duration::from_millis(1));
        assert!(test.exchange(stream).there.is_none());
        test.passes(until);
        let place = test.place_of(stream);
        assert_eq!(ends[place].takes(&mut test), ["1 GET end"]);
        // Twice as long would be too long.
        test.now = until;
        ends[place].answers(&mut test, 1, "503").await;
        assert_eq!(test.pumped(), ["1 503 end"]);
        // While one waits the time for all may be over all the same, if nobody looks in between.
        let stream = test.ask(&GET, true).await;
        let (place, theirs) = (test.place_of(stream), test.exchange(stream).there.unwrap().stream);
        ends[place].takes(&mut test);
        ends[place].answers(&mut test, theirs, "503").await;
        let limit = test.exchange(stream).limit.unwrap();
        assert!(test.exchange(stream).tries.waits.is_some_and(|until| until < limit));
        test.passes(limit);
        assert_eq!(test.pumped()[0], format!("{stream} 504"));
        assert!(test.session.exchanges.is_empty() && test.session.again.is_empty());
    });
}

#[test]
fn who_leaves_meanwhile_is_not_asked_for() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, retrying(5, Some(4000), Timeouts::default()), strict()).await;
        let mut ends = End::both(&mut test);
        let stream = test.posts(b"body", true).await;
        assert!(test.pumped().is_empty());
        let place = test.place_of(stream);
        ends[place].takes(&mut test);
        ends[place].answers(&mut test, 1, "503").await;
        let until = test.exchange(stream).tries.waits.unwrap();
        test.client.reset(stream, Code::CANCEL);
        test.says().await;
        assert!(test.session.exchanges.is_empty() && test.session.keeping.get() == 0);
        test.passes(until);
        assert!(test.pumped().is_empty());
        assert!(ends.iter_mut().all(|end| end.takes(&mut test).iter().all(|taken| !taken.contains("POST"))));
    });
}

#[test]
fn what_was_not_looked_at_is_sent_once_more_with_its_body() {
    for refused in [true, false] {
        run(move |reactor| async move {
            let mut test = Test::new(&reactor, at_once(1), Settings::default()).await;
            let mut ends = End::both(&mut test);
            let stream = test.posts(b"body", true).await;
            assert!(test.pumped().is_empty());
            let place = test.place_of(stream);
            ends[place].takes(&mut test);
            assert_eq!(ends[place].body, b"body");
            ends[place].says(&mut test).await;
            let mut bytes = Vec::new();
            if refused {
                write::reset(&mut bytes, 1, Code::REFUSED_STREAM);
            } else {
                write::go_away(&mut bytes, 0, Code::NO_ERROR, "");
            }
            ends[place].sends(&mut test, &bytes).await;
            assert_eq!((again(&mut test), test.pumped()), (1, Vec::new()));
            assert!(test.exchange(stream).up.replays() || test.exchange(stream).up.done);
            assert_eq!(test.session.proxy.counts().retried, 1);
        });
    }
}

#[test]
fn what_may_be_done_twice_is_when_there_is_no_answer() {
    for (head, retried) in [(PUT, true), (POST, false)] {
        for resets in [true, false] {
            run(move |reactor| async move {
                let mut test = Test::new(&reactor, at_once(1), strict()).await;
                let [mut one, mut other] = End::both(&mut test);
                let stream = test.client.open(fields(&head), false).unwrap();
                assert_eq!(test.client.data(stream, b"body", true), Ok(4));
                test.says().await;
                assert!(test.pumped().is_empty());
                let asked = test.endpoint_of(stream);
                if test.place_of(stream) != one.place {
                    (one, other) = (other, one);
                }
                one.takes(&mut test);
                one.says(&mut test).await;
                let place = one.place;
                if resets {
                    let mut bytes = Vec::new();
                    write::reset(&mut bytes, 1, Code::INTERNAL_ERROR);
                    one.sends(&mut test, &bytes).await;
                } else {
                    drop(one);
                    test.hears(place).await;
                }
                // Whoever ends one request alone may have its reason.
                assert_eq!(test.is_out(asked), !resets);
                assert_eq!(again(&mut test), usize::from(retried));
                if !retried {
                    assert_eq!(test.pumped()[0], "1 502");
                    return;
                }
                assert!(test.pumped().is_empty());
                assert_eq!(test.place_of(stream), other.place);
                other.takes(&mut test);
                assert_eq!(other.body, b"body");
                other.answers(&mut test, 1, "200").await;
                assert_eq!(test.pumped(), ["1 200 end"]);
            });
        }
    }
}

#[test]
fn whose_head_was_handed_on_is_not_sent_once_more() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, at_once(5), Settings::default()).await;
        let mut ends = End::both(&mut test);
        let stream = test.ask(&GET, true).await;
        let place = test.place_of(stream);
        ends[place].takes(&mut test);
        ends[place].server.respond(1, fields(&[(":status", "200")]), false).unwrap();
        ends[place].says(&mut test).await;
        assert_eq!(test.pumped(), ["1 200"]);
        let mut bytes = Vec::new();
        write::reset(&mut bytes, 1, Code::REFUSED_STREAM);
        ends[place].sends(&mut test, &bytes).await;
        assert_eq!((again(&mut test), test.pumped()), (0, vec!["1 reset INTERNAL_ERROR".to_owned()]));
    });
}

#[test]
fn what_comes_before_an_answer_does_not_keep_it_from_another_try() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, at_once(1), Settings::default()).await;
        let mut ends = End::both(&mut test);
        let stream = test.ask(&GET, true).await;
        for (status, wanted) in [("503", &["1 103"][..]), ("200", &["1 103", "1 200 end"])] {
            let place = test.place_of(stream);
            ends[place].takes(&mut test);
            ends[place].server.respond(1, fields(&[(":status", "103")]), false).unwrap();
            ends[place].answers(&mut test, 1, status).await;
            assert_eq!(test.pumped(), wanted);
            again(&mut test);
        }
    });
}
