use std::future::poll_fn;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::authority::{Authority, identity};
use crate::identity::{Certificates, Identity};
use crate::reactor::{Filled, Reactor, Socket};

/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_secs(180);

fn to(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

fn certificates() -> Arc<Certificates> {
    let authority = Authority::new("root");
    let certificates = Certificates::new("cluster.local");
    certificates.set_roots(std::slice::from_ref(&authority.root)).unwrap();
    authority.prove(&certificates, &[&identity("web"), &identity("client"), &identity("other")]);
    certificates
}

/// Gives back what comes, until it ends.
async fn echo(stream: Socket) {
    let mut buffer = crate::reactor::Buffer::default();
    while let Ok(1..) = stream.read(&mut buffer).await {
        if stream.write(buffer.data()).await.is_err() {
            return;
        }
        buffer.consume(buffer.data().len());
    }
    stream.finish();
    // Until the other side has ended as well, or this is what breaks it off.
    stream.ended().await;
}

/// A client's side whose server should be this identity, and one that is; 80 is served there, 81 is refused, 82 is not there.
fn connected(reactor: &Reactor, wanted: &Identity) -> Rc<Link> {
    let (certificates, now) = (certificates(), SystemTime::now());
    let (ours, theirs) = UnixStream::pair().unwrap();
    for end in [&ours, &theirs] {
        end.set_nonblocking(true).unwrap();
    }
    let held = certificates.held(identity("client").as_str(), now).unwrap();
    let client = Link::client(reactor, &held, (to(PORT), wanted.as_str().into()), PATIENCE).unwrap();
    client.inner.borrow_mut().socket = Some(reactor.socket(ours.into()).unwrap());
    reactor.spawn(client.clone().serve(|_, _| {}));
    let held = certificates.held(identity("web").as_str(), now).unwrap();
    let socket = reactor.socket(theirs.into()).unwrap();
    let server = Link::server(reactor, &held, socket, PATIENCE).unwrap();
    let spawning = reactor.clone();
    reactor.spawn(server.serve(move |link, asked| {
        assert_eq!(asked.peer.identity, identity("client"));
        let stream = link.stream(&asked).unwrap();
        match asked.authority.as_str() {
            "10.0.0.1:80" => {
                link.answer(asked.stream, 200);
                spawning.spawn(echo(stream));
            }
            "10.0.0.1:81" => link.answer(asked.stream, 403),
            _ => link.answer(asked.stream, 503),
        }
    }));
    client
}

/// Runs this as the only thing that is waited for.
fn run<T: 'static>(reactor: &Reactor, work: impl Future<Output = T> + 'static) -> T {
    let bounded = {
        let reactor = reactor.clone();
        async move { reactor.before(Some(reactor.now() + PATIENCE), work).await.unwrap() }
    };
    let done = reactor.run(bounded).unwrap();
    reactor.abandon();
    done
}

async fn open(link: &Rc<Link>, port: u16) -> io::Result<Socket> {
    link.open(to(port)).await.map_err(|none| match none {
        NoStream::Leaving => io::ErrorKind::NotConnected.into(),
        NoStream::Failed(e) => e,
    })
}

/// Sends bytes, and then the end, and reads what comes back.
async fn exchange(stream: Rc<Socket>, reactor: &Reactor, bytes: Vec<u8>) -> Vec<u8> {
    let sending = stream.clone();
    reactor.spawn(async move {
        sending.write(&bytes).await.unwrap();
        sending.finish();
    });
    exchange_back(&stream, reactor).await
}

/// What comes until the end.
async fn exchange_back(stream: &Socket, reactor: &Reactor) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), crate::reactor::Buffer::default());
    // Both tasks wait for the one stream, which tells the one that waited last: this one looks now and then.
    loop {
        let limit = reactor.now() + Duration::from_millis(1);
        match reactor.before(Some(limit), stream.read(&mut buffer)).await {
            Err(_) => reactor.wake_all(),
            Ok(read) => {
                if read.unwrap() == 0 {
                    return all;
                }
                all.extend_from_slice(buffer.data());
                buffer.consume(buffer.data().len());
            }
        }
    }
}

#[test]
fn streams_carry_bytes_both_ways() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    let inside = reactor.clone();
    run(&reactor, async move {
        // More than a window lets go at once, and nothing at all.
        for size in [1, 70_000, 2 << 20, 0] {
            let bytes: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
            let stream = Rc::new(open(&link, 80).await.unwrap());
            let back = exchange(stream, &inside, bytes.clone()).await;
            assert!(back == bytes, "{} of {size}", back.len());
        }
        // All of that over one connection, on which nothing is left.
        assert_eq!(link.inner.borrow().streams.flows.len(), 0);
    });
}

#[test]
fn what_comes_goes_on_at_once_and_the_rest_is_kept() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    let inside = reactor.clone();
    run(&reactor, async move {
        // What a window lets come though nobody reads it, and more than a socket takes.
        let bytes: Vec<u8> = (0..900_000_u32).map(|n| (n % 251) as u8).collect();
        let stream = Rc::new(open(&link, 80).await.unwrap());
        let (near, mut far) = UnixStream::pair().unwrap();
        for end in [&near, &far] {
            end.set_nonblocking(true).unwrap();
        }
        let near = inside.socket(near.into()).unwrap();
        let led = stream.lead(&near).unwrap();
        let kept = exchange(stream.clone(), &inside, bytes.clone()).await;
        let (mut direct, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = far.read(&mut piece) {
            direct.extend_from_slice(&piece[..count]);
        }
        assert!(!direct.is_empty() && !kept.is_empty(), "{} {}", direct.len(), kept.len());
        assert_eq!((led.take(), led.take()), (direct.len() as u64, 0));
        direct.extend_from_slice(&kept);
        assert!(direct == bytes);
        // And no more once it leads nowhere.
        drop(led);
        let next = Rc::new(open(&link, 80).await.unwrap());
        drop(next.lead(&near).unwrap());
        assert_eq!(exchange(next, &inside, b"more".to_vec()).await, b"more");
    });
}

#[test]
fn what_comes_to_where_nobody_reads_any_more_is_kept() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    let inside = reactor.clone();
    run(&reactor, async move {
        let stream = Rc::new(open(&link, 80).await.unwrap());
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        near.set_nonblocking(true).unwrap();
        let near = inside.socket(near.into()).unwrap();
        let led = stream.lead(&near).unwrap();
        assert_eq!(exchange(stream.clone(), &inside, b"kept".to_vec()).await, b"kept");
        assert!(led.take() == 0 && led.is_gone());
    });
}

#[test]
fn bytes_of_a_socket_are_read_to_where_they_are_sent() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    let inside = reactor.clone();
    run(&reactor, async move {
        // More than the windows, the socket of the connection, and a turn let go.
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let stream = Rc::new(open(&link, 80).await.unwrap());
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || far.write_all(&sent).unwrap());
        let near = Rc::new(inside.socket(near.into()).unwrap());
        let (to, looks) = (stream.clone(), inside.clone());
        inside.spawn(async move {
            loop {
                let limit = looks.now() + Duration::from_millis(1);
                let filled = poll_fn(|_| to.poll_fill(&near, 1 << 20));
                match looks.before(Some(limit), filled).await {
                    Ok(Filled::Bytes(1..)) => {}
                    Ok(Filled::End) => break to.finish(),
                    Ok(Filled::Blocked) => looks.until(limit).await,
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => {}
                }
            }
        });
        let back = exchange_back(&stream, &inside).await;
        writer.join().unwrap();
        assert!(back == bytes, "{}", back.len());
    });
}

/// Waits until a connection holds no buffer.
async fn rests(link: &Link, reactor: &Reactor) {
    while link.inner.borrow().holds() {
        reactor.until(reactor.now() + Duration::from_millis(10)).await;
    }
}

#[test]
fn a_connection_whose_streams_rest_holds_no_buffer() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    let inside = reactor.clone();
    run(&reactor, async move {
        let stream = Rc::new(open(&link, 80).await.unwrap());
        let bytes = vec![7; 500_000];
        assert!(exchange(stream.clone(), &inside, bytes.clone()).await == bytes);
        assert_eq!(link.inner.borrow().streams.flows.len(), 1);
        rests(&link, &inside).await;
        // Nor for one that has sent what was read to where it is encrypted.
        let next = open(&link, 80).await.unwrap();
        rests(&link, &inside).await;
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let near = inside.socket(near.into()).unwrap();
        far.write_all(b"some").unwrap();
        assert_eq!(poll_fn(|_| next.poll_fill(&near, 1 << 20)).await, Filled::Bytes(4));
        assert!(link.inner.borrow().holds());
        rests(&link, &inside).await;
    });
}

#[test]
fn who_should_be_there_must_be_there() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("other"));
    run(&reactor, async move {
        let error = open(&link, 80).await.unwrap_err();
        assert!(
            error.to_string().contains("answers where spiffe://cluster.local/ns/shop/sa/other should be"),
            "{error}"
        );
        assert!(link.is_over() && !link.has_room(SystemTime::now()));
        assert!(open(&link, 80).await.is_err());
    });
}

#[test]
fn what_the_peer_answers_is_told() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    run(&reactor, async move {
        let denied = open(&link, 81).await.unwrap_err();
        assert!(denied.get_ref().is_some_and(|e| e.is::<Denied>()), "{denied}");
        let none = open(&link, 82).await.unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::ConnectionRefused);
        // Neither is the connection's end.
        assert!(!link.is_over() && open(&link, 80).await.is_ok());
    });
}

#[test]
fn one_that_is_retired_ends_with_its_last_stream() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    let inside = reactor.clone();
    run(&reactor, async move {
        let stream = Rc::new(open(&link, 80).await.unwrap());
        link.retire();
        assert!(!link.has_room(SystemTime::now()));
        assert!(matches!(link.open(to(80)).await, Err(NoStream::Leaving)));
        assert_eq!(exchange(stream, &inside, b"still here".to_vec()).await, b"still here");
        while !link.is_over() {
            inside.yield_now().await;
        }
    });
}

#[test]
fn a_stream_that_is_broken_off_is_so_at_the_other_end() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    let inside = reactor.clone();
    run(&reactor, async move {
        let stream = open(&link, 80).await.unwrap();
        stream.write(b"some").await.unwrap();
        stream.reset();
        let next = Rc::new(open(&link, 80).await.unwrap());
        assert_eq!(exchange(next, &inside, b"more".to_vec()).await, b"more");
        // The task that gave back what came has ended: those that are left are the two sides' and this one.
        while inside.tasks() > 3 {
            inside.yield_now().await;
        }
        assert!(!link.is_over());
    });
}

#[test]
fn streams_that_are_broken_off_before_they_are_taken_are_forgotten() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    let inside = reactor.clone();
    run(&reactor, async move {
        drop(open(&link, 80).await.unwrap());
        // More than there may be, were they there.
        for _ in 0..3 * STREAMS {
            // Asked for and broken off in one turn, so that one record says both.
            let asked = inside.before(Some(inside.now()), link.open(to(80))).await;
            assert!(asked.is_err());
            inside.yield_now().await;
        }
        assert!(open(&link, 80).await.is_ok() && !link.is_over());
    });
}

#[test]
fn one_on_which_too_many_streams_were_broken_off_takes_no_more_and_keeps_those_it_has() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    let inside = reactor.clone();
    run(&reactor, async move {
        let kept = Rc::new(open(&link, 80).await.unwrap());
        let mut count = 0;
        while link.has_room(SystemTime::now()) {
            assert!(count < 100 * ABORTS, "it takes whatever comes");
            let asked = inside.before(Some(inside.now()), link.open(to(80))).await;
            assert!(asked.is_err());
            inside.yield_now().await;
            count += 1;
        }
        assert!(count >= ABORTS && !link.is_over(), "{count}");
        // Whoever asks for another one sees to it that this is the end of it, and not before its last stream.
        assert!(link.is_weary());
        link.retire();
        assert_eq!(exchange(kept, &inside, b"still here".to_vec()).await, b"still here");
        while !link.is_over() {
            inside.yield_now().await;
        }
    });
}

#[test]
fn an_end_that_came_is_heard_though_the_connection_is_over() {
    let reactor = Reactor::new().unwrap();
    let link = connected(&reactor, &identity("web"));
    run(&reactor, async move {
        let stream = open(&link, 80).await.unwrap();
        stream.write(b"last").await.unwrap();
        stream.finish();
        stream.ended().await;
        let ended = link::Ended::new(io::ErrorKind::ConnectionReset, "the peer has ended it");
        link.inner.borrow_mut().end(ended);
        let mut buffer = crate::reactor::Buffer::default();
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(buffer.data(), b"last");
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
        assert!(stream.write(b"more").await.is_err() && open(&link, 80).await.is_err());
    });
}
