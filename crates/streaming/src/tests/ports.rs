//! Port-forward.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::malformed::{PORTS, raw};
use super::*;
use crate::client::{PortForward, Protocol};

/// A pod's port on which each connection is served by `act`.
async fn pod<F>(act: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(act(stream));
        }
    });
    port
}

/// Answers with what it got, once it has all.
async fn after_all(mut stream: TcpStream) {
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.expect("read");
    read.reverse();
    stream.write_all(&read).await.expect("written");
}

async fn forward(server: &TokenServer<Rig>, protocol: Protocol) -> PortForward {
    let url = server.port_forward((), Vec::new()).expect("an address");
    within(PortForward::start(&Target::parse(&url).expect("a target"), protocol))
        .await
        .expect("a port-forward")
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Spdy, Protocol::WebSocket, Protocol::Auto];

#[tokio::test]
async fn many_connections_to_many_ports_at_once() {
    let server = server().await;
    let ports = [pod(after_all).await, pod(after_all).await];
    for protocol in PROTOCOLS {
        let forward = Arc::new(forward(&server, protocol).await);
        let mut tasks = tokio::task::JoinSet::new();
        for (at, port) in (0..60).zip(ports.into_iter().cycle()) {
            let forward = Arc::clone(&forward);
            tasks.spawn(async move {
                let mut connection = forward.connect(port).await.expect("a connection");
                let sent = pattern(at * 10_007);
                connection.write_all(&sent).await.expect("sent");
                connection.shutdown().await.expect("ended");
                let mut received = Vec::new();
                connection.read_to_end(&mut received).await.expect("received");
                received.reverse();
                assert!(received == sent, "{} of {}", received.len(), sent.len());
                assert_eq!(connection.failure().await, None);
            });
        }
        while let Some(task) = within(tasks.join_next()).await {
            task.expect("a connection");
        }
    }
}

#[tokio::test]
async fn a_port_without_a_listener_says_so_and_the_rest_goes_on() {
    let server = server().await;
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let open = pod(after_all).await;
    for protocol in PROTOCOLS {
        let forward = forward(&server, protocol).await;
        let mut refused = forward.connect(closed).await.expect("streams");
        let read = within(refused.read(&mut [0; 10])).await;
        assert!(!matches!(read, Ok(1..)), "{read:?}");
        let failure = within(refused.failure()).await.expect("a reason");
        assert!(failure.starts_with(&format!("cannot forward port {closed}: ")), "{failure}");
        let mut fine = forward.connect(open).await.expect("a connection");
        fine.write_all(b"abc").await.expect("sent");
        fine.shutdown().await.expect("ended");
        let mut received = Vec::new();
        within(fine.read_to_end(&mut received)).await.expect("received");
        assert_eq!(received, b"cba");
    }
}

#[tokio::test]
async fn the_pods_side_may_end_first() {
    let server = server().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let port = pod(move |mut stream: TcpStream| {
        let tell = tell.clone();
        async move {
            stream.write_all(b"hello").await.expect("written");
            stream.shutdown().await.expect("ended");
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.expect("read");
            let _ = tell.send(read);
        }
    })
    .await;
    for protocol in PROTOCOLS {
        let forward = forward(&server, protocol).await;
        let mut connection = forward.connect(port).await.expect("a connection");
        let mut read = Vec::new();
        within(connection.read_to_end(&mut read)).await.expect("read");
        assert_eq!(read, b"hello");
        connection.write_all(b"and you").await.expect("sent");
        connection.shutdown().await.expect("ended");
        assert_eq!(within(told.recv()).await.expect("told"), b"and you");
    }
}

#[tokio::test]
async fn a_connection_that_nobody_reads_does_not_stop_the_others() {
    let server = server().await;
    let flood =
        pod(|mut stream: TcpStream| async move { while stream.write_all(&[7; 65536]).await.is_ok() {} })
            .await;
    let port = pod(after_all).await;
    for protocol in PROTOCOLS {
        let forward = forward(&server, protocol).await;
        let _unread = forward.connect(flood).await.expect("a connection");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut other = forward.connect(port).await.expect("a connection");
        other.write_all(&pattern(1_000_000)).await.expect("sent");
        other.shutdown().await.expect("ended");
        let mut received = Vec::new();
        within(other.read_to_end(&mut received)).await.expect("received");
        assert_eq!(received.len(), 1_000_000);
    }
}

#[tokio::test]
async fn the_pod_is_let_go_when_the_client_goes() {
    let server = server_with(Limits { linger: Duration::from_millis(100), ..Limits::default() }).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let port = pod(move |mut stream: TcpStream| {
        let tell = tell.clone();
        async move {
            let read = stream.read_to_end(&mut Vec::new()).await;
            let _ = tell.send(read.unwrap_or_default());
        }
    })
    .await;
    for protocol in PROTOCOLS {
        let forward = forward(&server, protocol).await;
        let mut connection = forward.connect(port).await.expect("a connection");
        connection.write_all(b"abc").await.expect("sent");
        drop(forward);
        drop(connection);
        within(told.recv()).await.expect("its connection ended");
    }
    within(async {
        while server.sessions() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_may_cut_off_what_it_is_done_with() {
    use crate::mux::Protocol as _;
    use crate::spdy::{Frame, Headers, Parser, Spdy};

    // As client-go does: to be told that it went wrong makes it end the whole port-forward.
    let server = server().await;
    let port =
        pod(|mut stream: TcpStream| async move { while stream.write_all(&[7; 1000]).await.is_ok() {} }).await;
    let url = server.port_forward((), Vec::new()).expect("an address");
    let (mut spdy, mut out) = (Spdy::client(), bytes::BytesMut::new());
    for kind in ["error", "data"] {
        let port = port.to_string();
        spdy.open(&Headers::new(&[("streamType", kind), ("port", &port), ("requestID", "0")]), &mut out);
    }
    let mut socket = raw(&server, &url, PORTS, &out).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    out.clear();
    spdy.reset(3, crate::mux::Reset::Cancel, &mut out);
    socket.write_all(&out).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(300)).await;
    out.clear();
    spdy.bye(&mut out);
    socket.write_all(&out).await.expect("sent");
    let mut answer = Vec::new();
    within(socket.read_to_end(&mut answer)).await.expect("an answer");
    let (mut parser, mut rest) = (Parser::new(), answer.as_slice());
    parser.seal();
    while let Some(frame) = parser.next(&mut rest).expect("frames") {
        if let Frame::Data { stream: 1, bytes, .. } = frame {
            assert_eq!(bytes, b"", "nothing is said on the error stream");
        }
    }
}

#[tokio::test]
async fn streams_that_are_refused_count_no_more() {
    use crate::mux::Protocol as _;
    use crate::spdy::{Frame, Headers, Parser, Spdy};

    let server = server().await;
    let port = pod(after_all).await.to_string();
    let url = server.port_forward((), Vec::new()).expect("an address");
    let mut socket = raw(&server, &url, PORTS, &[]).await;
    let (mut spdy, mut out, mut parser) = (Spdy::client(), bytes::BytesMut::new(), Parser::new());
    parser.seal();
    // More than may be open at a time, in parts that are less.
    for _ in 0..11 {
        let mut unanswered = 100;
        for _ in 0..unanswered {
            let headers = [("streamType", "data"), ("port", "0"), ("requestID", "0")];
            spdy.open(&Headers::new(&headers), &mut out);
        }
        socket.write_all(&out.split()).await.expect("sent");
        while unanswered > 0 {
            let mut piece = [0; 4096];
            let read = within(socket.read(&mut piece)).await.expect("an answer");
            assert!(read > 0, "the session has ended");
            let mut rest = &piece[..read];
            while let Some(frame) = parser.next(&mut rest).expect("frames") {
                unanswered -= usize::from(matches!(frame, Frame::RstStream { .. }));
            }
        }
    }
    let [_, data] = ["error", "data"].map(|kind| {
        let headers = [("streamType", kind), ("port", port.as_str()), ("requestID", "1")];
        spdy.open(&Headers::new(&headers), &mut out)
    });
    // A frame of three bytes that is the stream's last.
    out.extend_from_slice(&[&data.to_be_bytes()[..], &[1, 0, 0, 3], b"abc"].concat());
    socket.write_all(&out.split()).await.expect("sent");
    let mut received = Vec::new();
    while received.len() < 3 {
        let mut piece = [0; 4096];
        let read = within(socket.read(&mut piece)).await.expect("an answer");
        assert!(read > 0, "the session has ended");
        let mut rest = &piece[..read];
        while let Some(frame) = parser.next(&mut rest).expect("frames") {
            match frame {
                Frame::RstStream { stream, status } => panic!("stream {stream} is refused: {status}"),
                Frame::Data { bytes, .. } => received.extend_from_slice(bytes),
                _ => {}
            }
        }
    }
    assert_eq!(received, b"cba");
}
