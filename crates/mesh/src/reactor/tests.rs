//! Over sockets of this machine.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;

fn listener(reactor: &Reactor) -> (Socket, std::net::SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (reactor.socket(listener.into()).unwrap(), address)
}

#[test]
fn tasks_talk() {
    let reactor = Reactor::new().unwrap();
    let (listener, address) = listener(&reactor);
    let server = reactor.clone();
    reactor.spawn(async move {
        loop {
            let peer = server.socket(listener.accept().await.unwrap()).unwrap();
            let mut buffer = server.buffer();
            while peer.read(&mut buffer).await.unwrap() > 0 {}
            peer.write(buffer.data()).await.unwrap();
        }
    });
    let client = reactor.clone();
    let echoed = reactor.run(async move {
        let socket = Socket::connect(&client, address).await.unwrap();
        // More than any socket holds: both sides wait for each other.
        let sent = vec![7; 8 << 20];
        socket.write(&sent).await.unwrap();
        socket.finish();
        let mut buffer = client.buffer();
        while socket.read(&mut buffer).await.unwrap() > 0 {}
        buffer.data() == sent
    });
    assert!(echoed.unwrap());
}

#[test]
fn nobody_there_is_an_error() {
    let reactor = Reactor::new().unwrap();
    let (listener, address) = listener(&reactor);
    drop(listener);
    let client = reactor.clone();
    let error = reactor.run(async move { Socket::connect(&client, address).await.map(drop) }).unwrap();
    assert_eq!(error.map_err(|e| e.kind()), Err(io::ErrorKind::ConnectionRefused));
}

#[test]
fn times_are_kept_in_order() {
    let reactor = Reactor::new().unwrap();
    let order = Rc::new(RefCell::new(Vec::new()));
    let began = reactor.now();
    for ms in [30_u64, 10, 20] {
        let (reactor, order) = (reactor.clone(), order.clone());
        reactor.clone().spawn(async move {
            // A later time first: the earlier one counts.
            let far = reactor.before(Some(began + Duration::from_secs(1000)), async {
                reactor.before(Some(began + Duration::from_millis(ms)), std::future::pending::<()>()).await
            });
            assert_eq!(far.await, Ok(Err(Elapsed)));
            order.borrow_mut().push(ms);
        });
    }
    let waiting = reactor.clone();
    reactor.run(async move { waiting.until(began + Duration::from_millis(40)).await }).unwrap();
    assert_eq!(*order.borrow(), [10, 20, 30]);
    assert_eq!(reactor.tasks(), 0);
}

#[test]
fn who_yields_goes_last() {
    let reactor = Reactor::new().unwrap();
    let order = Rc::new(RefCell::new(Vec::new()));
    let (yielding, first) = (reactor.clone(), order.clone());
    reactor.spawn(async move {
        first.borrow_mut().push(1);
        yielding.yield_now().await;
        first.borrow_mut().push(3);
    });
    let second = order.clone();
    reactor.spawn(async move { second.borrow_mut().push(2) });
    let waiting = reactor.clone();
    reactor
        .run(async move {
            while waiting.tasks() > 1 {
                waiting.yield_now().await
            }
        })
        .unwrap();
    assert_eq!(*order.borrow(), [1, 2, 3]);
}

#[test]
fn who_always_has_something_to_read_lets_the_others_run() {
    const READS: u32 = 6400;
    let reactor = Reactor::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let socket = reactor.socket(ours.into()).unwrap();
    let ended = Rc::new(Cell::new(false));
    let (reading, end) = (reactor.clone(), ended.clone());
    reactor.spawn(async move {
        let mut buffer = reading.buffer();
        for _ in 0..READS {
            // More than is read at a time, so that nothing tells that there is no more.
            let _full = theirs.write(&[7; 64 << 10]);
            assert!(socket.read(&mut buffer).await.unwrap() > 0);
            buffer.consume(buffer.data().len());
        }
        end.set(true);
    });
    let waiting = reactor.clone();
    let turns = reactor.run(async move {
        let mut turns = 0;
        while !ended.get() {
            waiting.yield_now().await;
            turns += 1;
        }
        turns
    });
    assert!(turns.unwrap() >= READS / TURNS);
}

#[test]
fn times_of_what_has_ended_are_not_kept() {
    let reactor = Reactor::new().unwrap();
    let far = reactor.now() + Duration::from_secs(1000);
    for n in 0..1000 {
        let waiting = reactor.clone();
        let at = far - Duration::from_millis(n);
        reactor.run(async move { waiting.before(Some(at), waiting.yield_now()).await.unwrap() }).unwrap();
    }
    let (timers, tasks) = (reactor.core.timers.borrow().len(), reactor.core.tasks.borrow().len());
    assert!(timers <= TIMES_ANYWAY + TIMES * tasks, "{timers} of {tasks}");
    // Nor is one thrown away that somebody waits for. A machine may be so slow that its time comes before any is thrown away.
    for ms in [200, 2_000, 20_000] {
        if is_kept(&reactor, Duration::from_millis(ms)) {
            return;
        }
    }
    panic!("each time was over before others were thrown away");
}

/// Whether a time that somebody waits for is kept while others are thrown away; false if it came before they were.
fn is_kept(reactor: &Reactor, time: Duration) -> bool {
    let woken = Rc::new(Cell::new(false));
    // Nothing else wakes this task: who only yields wakes itself.
    let (waiting, told) = (reactor.clone(), woken.clone());
    reactor.spawn(async move {
        waiting.until(waiting.now() + time).await;
        told.set(true);
    });
    let (waiting, far) = (reactor.clone(), reactor.now() + Duration::from_secs(1000));
    let kept = reactor.run(async move {
        for n in 0..500_u64 {
            let earlier = far - Duration::from_secs(1 + n);
            waiting.before(Some(earlier), waiting.yield_now()).await.unwrap();
        }
        if woken.get() {
            return false;
        }
        let end = Instant::now() + time + Duration::from_secs(180);
        while !woken.get() {
            assert!(Instant::now() < end, "its time was thrown away");
            waiting.yield_now().await;
        }
        true
    });
    kept.unwrap()
}

#[test]
fn the_kernel_looks_after_a_connection_that_rests() {
    use rustix::net::sockopt;
    let reactor = Reactor::new().unwrap();
    let (_listener, address) = listener(&reactor);
    let client = reactor.clone();
    let socket = reactor.run(async move { Socket::connect(&client, address).await }).unwrap().unwrap();
    let fd = socket.descriptor().unwrap();
    assert!(sockopt::socket_keepalive(fd).unwrap());
    assert_eq!(sockopt::tcp_keepidle(fd).unwrap(), Duration::from_secs(60));
    assert_eq!(sockopt::tcp_keepintvl(fd).unwrap(), Duration::from_secs(10));
    assert_eq!(sockopt::tcp_keepcnt(fd).unwrap(), 3);
    socket.set_patience(Duration::from_secs(7));
    assert_eq!(sockopt::tcp_user_timeout(fd).unwrap(), 7000);
}
