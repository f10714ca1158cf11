//! Peers that do not keep to the protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A session with a client that writes what it likes, `more` right behind its request: the socket, after the answer's head.
pub(super) async fn raw(server: &TokenServer<Rig>, url: &str, upgrade: &str, more: &[u8]) -> TcpStream {
    let path = url.splitn(4, '/').nth(3).expect("a path");
    let mut stream = TcpStream::connect(server.address()).await.expect("a connection");
    let head = format!("GET /{path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{upgrade}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), more].concat()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(stream.read_u8()).await.expect("an answer"));
    }
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    // Go finds no upgrade in a 101 that also says "close".
    assert!(answer.starts_with("http/1.1 101") && !answer.contains("close"), "{answer}");
    stream
}

pub(super) const SPDY: &str = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io";
pub(super) const PORTS: &str = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io";
pub(super) const WEBSOCKET: &str = "Upgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: v5.channel.k8s.io";

/// What the server says until it hangs up.
async fn last_words(mut stream: TcpStream) -> Vec<u8> {
    let mut words = Vec::new();
    // A reset is as good as an end.
    let _ = within(stream.read_to_end(&mut words)).await;
    words
}

async fn exec(server: &TokenServer<Rig>) -> (String, tokio::sync::oneshot::Receiver<()>) {
    let (tell, told) = tokio::sync::oneshot::channel();
    let act = work(|streams: RemoteCommand| async move {
        streams.client.gone().await;
        let _ = tell.send(());
        Ok(Exit(0))
    });
    (server.exec(act, requested(true, true, false, false)).expect("an address"), told)
}

#[tokio::test]
async fn spdy_that_is_none_is_said_goodbye_to() {
    let server = server().await;
    let goaway = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1];
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        // Version 2; stream 0; a control frame of 1 MiB; a header block that is no zlib; an even stream.
        &[0x80, 2, 0, 1, 0, 0, 0, 10],
        &[0, 0, 0, 0, 0, 0, 0, 0],
        &[0x80, 3, 0, 1, 0, 0x10, 0, 0],
        &[0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        &[0x80, 3, 0, 3, 0, 0, 0, 2, 0, 0],
        &[0x80, 3, 0, 6, 0, 0, 0, 0],
    ] {
        for upgrade in [SPDY, PORTS] {
            let url = if upgrade == SPDY {
                exec(&server).await.0
            } else {
                server.port_forward((), vec![]).expect("an address")
            };
            let mut stream = raw(&server, &url, upgrade, &[]).await;
            stream.write_all(bytes).await.expect("sent");
            let words = last_words(stream).await;
            assert!(words.ends_with(&goaway), "{bytes:x?}: {words:x?}");
        }
    }
}

#[tokio::test]
async fn a_websocket_that_is_none_is_said_goodbye_to() {
    let server = server().await;
    for bytes in [
        // Not masked; an extension; a close of two channels; a close of none.
        &[0x82, 1, 0][..],
        &[0xf2, 0x80, 0, 0, 0, 0],
        &[0x82, 0x83, 0, 0, 0, 0, 255, 0, 1],
        &[0x82, 0x81, 0, 0, 0, 0, 255],
    ] {
        let (url, told) = exec(&server).await;
        let mut stream = raw(&server, &url, WEBSOCKET, &[]).await;
        stream.write_all(bytes).await.expect("sent");
        let words = last_words(stream).await;
        // The greeting, and a farewell of code 1002 with a reason.
        assert_eq!(words.get(..4), Some(&[0x82, 1, 1, 0x88][..]), "{bytes:x?}: {words:x?}");
        assert_eq!(words.get(5..7), Some(&1002_u16.to_be_bytes()[..]), "{bytes:x?}: {words:x?}");
        within(told).await.expect("the command is told");
    }
}

#[tokio::test]
async fn streams_that_do_not_come_are_not_waited_for_long() {
    let server = server_with(Limits { create: Duration::from_millis(100), ..Limits::default() }).await;
    let (url, _) = exec(&server).await;
    let stream = raw(&server, &url, SPDY, &[]).await;
    let words = last_words(stream).await;
    assert!(words.ends_with(&[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]), "{words:x?}");
}

#[tokio::test]
async fn what_is_missing_is_said_on_the_error_stream() {
    // Those that its client does open have come by then.
    let server = server_with(Limits { create: Duration::from_secs(2), ..Limits::default() }).await;
    let act = work(|_| async { Ok(Exit(0)) });
    let url = server.exec(act, requested(true, true, true, false)).expect("an address");
    // The client opens stdin and its error stream alone.
    let target = Target::parse(&url).expect("a target");
    let started = WAYS[0].start(&target, requested(true, false, false, false)).await;
    let error = within(started.expect("streams").wait()).await.expect_err("no command");
    assert!(error.to_string().ends_with("did not open these streams within 2s: stdout, stderr"), "{error}");
}

#[tokio::test]
async fn pings_are_answered_and_a_peer_that_floods_them_is_not_read() {
    let server = server().await;
    let (url, told) = exec(&server).await;
    let mut stream = raw(&server, &url, WEBSOCKET, &[]).await;
    stream.write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).await.expect("sent");
    let mut answer = [0; 7];
    within(stream.read_exact(&mut answer)).await.expect("an answer");
    assert_eq!(answer, [0x82, 1, 1, 0x8a, 2, b'h', b'i']);
    let flood = [[0x89, 0xfd, 0, 0, 0, 0].to_vec(), vec![b'x'; 125]].concat().repeat(1000);
    let mut sent = 0;
    while let Ok(written) = tokio::time::timeout(Duration::from_millis(300), stream.write_all(&flood)).await {
        written.expect("sent");
        sent += flood.len();
        assert!(sent < 200 << 20, "it is read though it reads no answers");
    }
    drop(stream);
    within(told).await.expect("the command is told");
}
