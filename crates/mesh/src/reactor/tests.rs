//! Over sockets of this machine.

use std::net::{Ipv4Addr, TcpListener};
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
