//! Frames of HTTP/2 as they are on the wire.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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
    let nobody = client(&instance, false, &["h2"]);
    let stream = TcpStream::connect(nobody.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(nobody.tls.as_ref().unwrap()));
    let mut stream = connector.connect(ServerName::from(nobody.address.ip()), stream).await.unwrap();
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
