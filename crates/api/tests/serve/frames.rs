//! Frames of HTTP/2 as they are on the wire.

use std::sync::Arc;

use http::Method;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::client::Client;
use crate::rig::{CONFIG_MAPS, config_map};
use crate::whole::{client, start};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Headers, each as a literal that nobody remembers.
fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    headers.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_lost_to_who_is_still_sending() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    refused_while_sending(&client(&instance, false, &["h2"])).await;

    // As much as one user may send at a time: then bodies are refused while they come.
    let mut slow = Vec::new();
    let whole = 3 << 20;
    for length in [whole, whole, whole, whole, whole, (1 << 20) - 6 * 4096 - 100] {
        let mut stream = connected(&client(&instance, true, &["http/1.1"])).await;
        let head = format!("POST {CONFIG_MAPS} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // All but a byte.
        stream.write_all(&vec![b' '; length - 1]).await.unwrap();
        stream.flush().await.unwrap();
        slow.push(stream);
    }
    let admin = client(&instance, true, &["h2"]);
    for _ in 0..500 {
        let made = admin.post(&format!("{CONFIG_MAPS}?dryRun=All"), &config_map("a", "1")).await;
        if made.status == 429 {
            break;
        }
    }
    refused_while_sending(&admin).await;
    drop(slow);
}

async fn connected(client: &Client) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(client.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(client.tls.as_ref().unwrap()));
    connector.connect(ServerName::from(client.address.ip()), stream).await.unwrap()
}

async fn refused_while_sending(client: &Client) {
    let mut stream = connected(client).await;
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
    stream.write_all(&begin).await.unwrap();
    for number in 0..20 {
        let id = 2 * number + 1;
        let head =
            [(":method", "POST"), (":scheme", "https"), (":authority", "x"), (":path", "/api/v1/nothing")];
        stream.write_all(&frame(HEADERS, END_HEADERS, id, &block(&head))).await.unwrap();
        stream.flush().await.unwrap();
        // The answer is known before this is read.
        stream.write_all(&frame(DATA, 0, id, b"{")).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(&frame(DATA, END_STREAM, id, b"}")).await.unwrap();
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await.unwrap();
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            assert!(head[3] != RST_STREAM, "stream {of}: {payload:?}");
            if head[3] == SETTINGS && head[4] == 0 {
                stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
            }
            if head[3] == DATA && of == id && head[4] & END_STREAM != 0 {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_are_counted_whatever_they_answer() {
    let dir = tempfile::tempdir().unwrap();
    let instance = start(dir.path()).await;
    let large = format!("{CONFIG_MAPS}/large");
    let map = config_map("large", &"x".repeat(1_000_000));
    assert_eq!(client(&instance, true, &[]).post(CONFIG_MAPS, &map).await.status, 201);
    // What is refused is shown: a number by the registry, a policy before it comes to that.
    let number = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"generation":{}}}}}"#,
        "1".repeat(1_000_000)
    );
    let policy = format!(r#"{{"propagationPolicy":"{}"}}"#, "x".repeat(1_000_000));
    for (method, query, media, body, code) in [
        (Method::GET, "?pretty=true", "text/plain", "", 200),
        (Method::PATCH, "", "application/merge-patch+json", "{}", 200),
        (Method::PUT, "", "application/json", &number, 400),
        (Method::DELETE, "", "application/json", &policy, 422),
    ] {
        let admin = client(&instance, true, &["h2"]).with("content-type", media);
        // It takes the heads, and of the bodies as much as a window holds.
        let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(65_535)
            .handshake(TokioIo::new(connected(&admin).await))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut unread = Vec::new();
        for _ in 0..40 {
            let request = admin.request(method.clone(), &format!("{large}{query}"), body.to_owned());
            unread.push(sender.send_request(request).await.unwrap());
        }
        // 32 MiB for one user; a change is done, and is answered all the same.
        assert_eq!(unread[0].status(), code, "{method}");
        let last = if method == Method::GET { 429 } else { code };
        assert_eq!(unread.last().unwrap().status(), last, "{method}");
        assert_eq!(admin.get(&large).await.status, 429, "{method}");
        drop((unread, sender));
        crate::whole::until(&admin, &large, 200).await;
    }
}
