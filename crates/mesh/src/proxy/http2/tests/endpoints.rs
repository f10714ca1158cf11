//! Connections to endpoints, and how they end.

use std::cell::Cell;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::tcp_user_timeout;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

use super::*;
use crate::h2::frame::{PAYLOAD, write};
use crate::proxy::http2::endpoints::{CONNECTIONS, INFORMATIONAL, Lost};

#[test]
fn the_kernel_gives_up_endpoints_that_take_nothing() {
    run(|reactor| async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let proxy = Proxy::new(&reactor, Settings { stall: Duration::from_secs(7), ..Settings::default() });
        let origin: Rc<dyn Origin> = Rc::new(Anybody);
        let mut backend = Backend::connect(&proxy, &origin, to, Limits::default());
        poll_fn(|_| backend.reach()).await.unwrap();
        assert_eq!(proxy.counts().connected, 1);
        let ahead = Socket::connect(&reactor, to).await.unwrap();
        let ahead = Backend::over(&proxy, ahead, to, Limits::default());
        for backend in [backend, ahead] {
            assert_eq!(tcp_user_timeout(backend.socket().unwrap().descriptor().unwrap()).unwrap(), 7000);
        }
    });
}

#[test]
fn of_as_many_connections_as_there_may_be_one_without_a_request_makes_room() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let (proxy, limits) = (test.session.proxy.clone(), test.session.limits);
        // The oldest is none of the first or the last.
        let age = |n: usize| Duration::from_secs(((n * 7 + 64) % CONNECTIONS) as u64);
        for n in 0..CONNECTIONS {
            let mut backend = Backend::connect(&proxy, &test.session.origin, address(2), limits);
            backend.idle = test.now + age(n);
            test.session.backends.push(Some(backend));
        }
        let oldest = (0..CONNECTIONS).min_by_key(|n| age(*n)).unwrap();
        // One that has a request is not ended, however old it is.
        test.session.backends[oldest].as_mut().unwrap().streams.insert(1, 999);
        let oldest = (0..CONNECTIONS).filter(|n| *n != oldest).min_by_key(|n| age(*n)).unwrap();
        let stream = test.ask(&GET, true).await;
        assert_eq!(test.exchange(stream).there.map(|there| there.backend), Some(oldest));
        assert_eq!(test.session.backends.len(), CONNECTIONS);
        assert_eq!(test.session.backends[oldest].as_ref().unwrap().address, address(1));
        // When each of them has a request, there is none for another endpoint.
        for backend in test.session.backends.iter_mut().flatten() {
            backend.address = address(2);
            backend.streams.insert(1, 999);
        }
        let stream = test.ask(&GET, true).await;
        assert_eq!(test.pumped()[0], format!("{stream} 503"));
    });
}

/// A block of an answer of 103 that stands for 60 kB: 15 times a header of 4,000 bytes, which is in the table once it was `first`.
fn hint(first: bool) -> Vec<u8> {
    let mut block = vec![0x08, 3, b'1', b'0', b'3'];
    if first {
        block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
        block.extend([b'y'; 4000]);
    }
    block.extend(vec![0xbe; if first { 14 } else { 15 }]);
    block
}

#[test]
fn what_comes_before_answers_waits_for_the_client_and_has_an_end() {
    run(|reactor| async move {
        let mut test = Test::new(&reactor, plain(&[address(1)]), Settings::default()).await;
        let mut wire = test.connected(address(1));
        let mut bytes = Vec::new();
        write::settings(&mut bytes, &[]);
        for n in 0..20 {
            assert_eq!(test.ask(&GET, true).await, 2 * n + 1);
            for hints in 0..INFORMATIONAL {
                write::headers(&mut bytes, 2 * n + 1, &hint(n == 0 && hints == 0), false, PAYLOAD);
            }
        }
        // 19 MB in no more than one read has.
        assert!(bytes.len() < 16 << 10);
        wire.write_all(&bytes).unwrap();
        reactor.yield_now().await;
        let (now, mut hints) = (test.now, 0);
        while hints < 20 * INFORMATIONAL as usize {
            while test.session.hear_backend(0, now) {}
            let waits = test.session.connection.output().len();
            assert!(waits < 3 * (64 << 10), "{waits} bytes wait for the client");
            let told = test.told();
            assert!(!told.is_empty() && told.iter().all(|told| told.ends_with(" 103")), "{told:?}");
            hints += told.len();
        }
        assert!(test.session.backends[0].as_ref().unwrap().buffer.is_empty());
        // One more is one too many.
        bytes.clear();
        write::headers(&mut bytes, 1, &hint(false), false, PAYLOAD);
        wire.write_all(&bytes).unwrap();
        reactor.yield_now().await;
        while test.session.hear_backend(0, now) {}
        assert_eq!(test.pumped()[0], "1 502");
        assert_eq!(test.session.exchanges.len(), 19);
    });
}

#[test]
fn a_connection_that_ends_is_one_failure_whatever_it_had() {
    let (one, other) = (address(1), address(2));
    for (no_answers, out) in [(1, true), (2, false)] {
        run(move |reactor| async move {
            let ejection = Ejection { no_answers, ..Ejection::default() };
            let settings = Settings { ejection, ..Settings::default() };
            let mut test = Test::new(&reactor, plain(&[one, other]), settings).await;
            let (wire, _other) = (test.connected(one), test.connected(other));
            for _ in 0..6 {
                test.ask(&GET, true).await;
            }
            let backend = test.session.backends[0].as_mut().unwrap();
            backend.said = true;
            let count = backend.streams.len();
            assert!((2..6).contains(&count), "{count} of 6");
            drop(wire);
            reactor.yield_now().await;
            assert!(test.session.hear_backend(0, test.now) && test.session.backends[0].is_none());
            let told = test.pumped();
            assert_eq!(told.iter().filter(|told| told.ends_with(" 502")).count(), count, "{told:?}");
            assert_eq!(test.is_out(one), out);
        });
    }
}

#[test]
fn what_was_asked_before_an_endpoint_was_left_out_does_not_use_up_its_failure() {
    let (one, other) = (address(1), address(2));
    run(move |reactor| async move {
        // It is back at once.
        let ejection = Ejection { no_answers: 1, base: Duration::ZERO, ..Ejection::default() };
        let settings = Settings { ejection, ..Settings::default() };
        let mut test = Test::new(&reactor, plain(&[one, other]), settings).await;
        let _wires = [test.connected(one), test.connected(other)];
        let mut theirs = Vec::new();
        while theirs.len() < 2 {
            let stream = test.ask(&GET, true).await;
            if test.endpoint_of(stream) == one {
                theirs.push(stream);
            }
        }
        let times = |test: &Test| {
            let balancer = test.session.proxy.balancer(&*test.session.origin, Service(0)).unwrap();
            let seen = balancer.seen(test.session.proxy.reactor.now());
            seen.iter().find(|seen| seen.address == one).unwrap().ejections
        };
        test.session.leave_endpoint(theirs[1]);
        assert!(test.session.lost(theirs[1], Lost::NoAnswer, true));
        assert_eq!(times(&test), 1);
        // One that is asked of it since.
        let stream = test.ask(&GET, true).await;
        test.session.leave_endpoint(stream);
        test.exchange(stream).avoid = vec![other];
        test.session.dispatch(stream);
        assert_eq!((test.endpoint_of(theirs[0]), test.endpoint_of(stream)), (one, one));
        let backend = test.session.backends[0].take().unwrap();
        test.session.lost_all(&backend, Lost::NoAnswer);
        assert_eq!(times(&test), 2);
    });
}

#[test]
fn what_we_have_run_out_of_is_no_failure_of_an_endpoint() {
    let (one, other) = (address(1), address(2));
    run(move |reactor| async move {
        let mut test = Test::new(&reactor, plain(&[one, other]), strict()).await;
        let stream = test.ask(&GET, true).await;
        let first = test.endpoint_of(stream);
        let error = io::Error::from(Errno::MFILE);
        assert!(!test.session.lost(stream, Lost::NoConnection(&error), true), "no descriptor is left");
        assert!(!test.is_out(one) && !test.is_out(other));
        // Another endpoint is asked, and then there is none left.
        assert_eq!(test.session.again.pop(), Some(stream));
        test.session.dispatch(stream);
        let second = test.endpoint_of(stream);
        assert_ne!(second, first);
        let error = io::Error::from(Errno::CONNREFUSED);
        assert!(test.session.lost(stream, Lost::NoConnection(&error), true));
        assert_eq!((test.session.again.len(), test.session.proxy.counts().retried), (0, 1));
        assert_eq!(test.pumped()[0], format!("{stream} 503"));
        assert!(test.is_out(second));
    });
}

#[test]
fn what_was_never_sent_is_sent_over_another_connection() {
    let (one, other) = (address(1), address(2));
    for said in [false, true] {
        run(move |reactor| async move {
            let mut test = Test::new(&reactor, plain(&[one, other]), strict()).await;
            drop([test.connected(one), test.connected(other)]);
            let stream = test.posts(b"body", true).await;
            let (asked, place) = (test.endpoint_of(stream), test.place_of(stream));
            test.backend(place).said = said;
            assert!(test.pumped().is_empty());
            assert_eq!(test.exchange(stream).uploading, said);
            reactor.yield_now().await;
            assert!(test.session.hear_backend(place, test.now));
            assert_eq!(test.session.again, if said { vec![] } else { vec![stream] });
            assert_eq!(test.pumped().len(), if said { 2 } else { 0 }, "a head and a line of text");
            assert_eq!(test.is_out(asked), said);
        });
    }
}

#[test]
fn who_has_ended_is_not_asked() {
    run(|reactor| async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = listener.local_addr().unwrap();
        let mut test = Test::new(&reactor, plain(&[to]), Settings::default()).await;
        drop(test.connected(to));
        // It had requests before.
        test.session.backends[0].as_mut().unwrap().said = true;
        let stream = test.client.open(fields(&GET), true).unwrap();
        let bytes = test.client.output().to_vec();
        test.wire.write_all(&bytes).unwrap();
        // The loop learns of both at once.
        reactor.yield_now().await;
        let _more = test.session.turn();
        assert_eq!(test.session.proxy.counts().retried, 0);
        let there = test.exchange(stream).there.unwrap();
        let backend = test.session.backends[there.backend].as_ref().unwrap();
        assert_eq!(backend.streams.get(&there.stream), Some(&stream));
        // That is another connection.
        poll_fn(|_| test.session.backends[there.backend].as_mut().unwrap().reach()).await.unwrap();
        let backend = test.session.backends[there.backend].as_ref().unwrap();
        let peer: SocketAddr = rustix::net::getpeername(backend.socket().unwrap().descriptor().unwrap())
            .unwrap()
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!(peer, to);
    });
}

/// Drives a session until it is so.
async fn until(test: &mut Test, is: impl Fn(&Session) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is(&test.session) {
        assert!(Instant::now() < end);
        test.session.proxy.reactor.yield_now().await;
        let _more = test.session.turn();
    }
}

#[test]
fn a_body_goes_to_another_endpoint_where_there_is_no_connection() {
    run(|reactor| async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let there = listener.local_addr().unwrap();
        // Nobody listens at it for as long as its socket is there.
        let kept = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&kept, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let nobody: SocketAddr = getsockname(&kept).unwrap().try_into().unwrap();
        let mut test = Test::new(&reactor, plain(&[nobody, there]), Settings::default()).await;
        // Of two at once one goes to each.
        let streams = [test.posts(b"body", true).await, test.posts(b"body", true).await];
        let addresses = streams.map(|stream| test.endpoint_of(stream));
        assert!(addresses.contains(&nobody) && addresses.contains(&there), "{addresses:?}");
        until(&mut test, |session| session.exchanges.values().all(|exchange| exchange.up.done)).await;
        assert_eq!(test.session.proxy.counts().retried, 1);
        let (mut wire, _) = listener.accept().unwrap();
        wire.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut server = Connection::new(Side::Server, Limits::default());
        let (mut held, mut told) = (Vec::new(), Vec::new());
        while told.iter().filter(|told: &&String| told.ends_with(" of 4 end")).count() < 2 {
            let mut piece = [0; 4096];
            let count = wire.read(&mut piece).unwrap();
            assert!(count > 0, "{told:?}");
            held.extend_from_slice(&piece[..count]);
            loop {
                let (used, event) = server.receive(test.now, &held).unwrap();
                told.extend(event.and_then(|event| words(event, server.fields())));
                if used == 0 {
                    break;
                }
                held.drain(..used);
            }
            let _more = test.session.turn();
        }
    });
}

#[test]
fn only_who_has_connections_of_its_own_is_told_of_an_endpoint_that_goes() {
    run(|reactor| async move {
        let polls = Rc::new(Cell::new(0));
        let counted = polls.clone();
        reactor.spawn(poll_fn(move |_| {
            counted.set(counted.get() + 1);
            Poll::<()>::Pending
        }));
        let proxy = Proxy::new(&reactor, Settings::default());
        proxy.swap(Builder::default().apply(plain(&[address(1)])));
        let (socket, wire) = pair(&reactor);
        let client = Connection::new(Side::Client, Limits::default());
        (&wire).write_all(client.output()).unwrap();
        reactor.spawn(serve(proxy.clone(), socket, TO.parse().unwrap(), Rc::new(Anybody), None));
        let end = Instant::now() + PATIENCE;
        while proxy.sessions.borrow().is_empty() {
            assert!(Instant::now() < end);
            reactor.yield_now().await;
        }
        let before = polls.get();
        proxy.swap(Builder::default().apply(plain(&[])));
        assert!(!proxy.pool.has(address(1)));
        for _ in 0..5 {
            reactor.yield_now().await;
        }
        assert_eq!((before, polls.get()), (1, 1));
        drop(wire);
        while !proxy.sessions.borrow().is_empty() {
            assert!(Instant::now() < end);
            reactor.yield_now().await;
        }
    });
}
