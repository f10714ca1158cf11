//! Flow control: peers with windows, and peers without.

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::malformed::{SPDY, raw};
use super::*;
use crate::mux::{Protocol as _, WINDOW};
use crate::spdy::{Frame, Headers, Parser, Spdy};

/// A SPDY client whose every frame is made here.
struct Raw {
    socket: TcpStream,
    spdy: Spdy,
    parser: Parser,
    /// What has been read and not looked at.
    unread: Vec<u8>,
}

impl Raw {
    /// One that has opened these streams: 1, 3, 5 and so on.
    async fn start(server: &TokenServer<Rig>, url: &str, settings: &[u8], kinds: &[&str]) -> Raw {
        let mut raw = Raw {
            socket: raw(server, url, SPDY, &[]).await,
            spdy: Spdy::client(),
            parser: Parser::new(),
            unread: Vec::new(),
        };
        raw.parser.seal();
        let mut out = BytesMut::from(settings);
        for kind in kinds {
            raw.spdy.open(&Headers::new(&[("streamType", kind)]), &mut out);
        }
        raw.socket.write_all(&out).await.expect("sent");
        raw
    }

    /// Reads for as long as something comes: bytes of data, streams that were cut off, and credit for stream 3.
    async fn read(&mut self) -> (usize, Vec<u32>, u32) {
        let (mut data, mut cut, mut credit) = (0, Vec::new(), 0);
        loop {
            let mut rest = self.unread.as_slice();
            while let Some(frame) = self.parser.next(&mut rest).expect("frames") {
                match frame {
                    Frame::Data { bytes, .. } => data += bytes.len(),
                    Frame::RstStream { stream, status } => cut.extend([stream, status]),
                    Frame::WindowUpdate { stream: 3, bytes } => credit += bytes,
                    _ => {}
                }
            }
            self.unread.clear();
            let read = self.socket.read_buf(&mut self.unread);
            // Longer than the server is kept from going on by whoever else has the processor.
            match tokio::time::timeout(Duration::from_secs(1), read).await {
                Ok(Ok(1..)) => {}
                _ => return (data, cut, credit),
            }
        }
    }
}

/// SETTINGS with an initial window.
fn window(bytes: u32) -> Vec<u8> {
    let mut settings = vec![0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7];
    settings.put_u32(bytes);
    settings
}

fn credit(stream: u32, bytes: u32) -> Vec<u8> {
    let mut frame = vec![0x80, 3, 0, 9, 0, 0, 0, 8];
    frame.put_u32(stream);
    frame.put_u32(bytes);
    frame
}

fn flood(length: usize) -> Work {
    work(move |mut streams: RemoteCommand| async move {
        streams.stdout.take().expect("stdout").write_all(&pattern(length)).await?;
        Ok(Exit(0))
    })
}

#[tokio::test]
async fn a_peer_with_windows_gets_what_it_grants() {
    let server = server().await;
    let url = server.exec(flood(10_000), requested(false, true, false, false)).expect("an address");
    let mut client = Raw::start(&server, &url, &window(1000), &["error", "stdout"]).await;
    assert_eq!(client.read().await.0, 1000);
    client.socket.write_all(&credit(3, 500)).await.expect("sent");
    assert_eq!(client.read().await.0, 500);
    // A larger window for all streams counts for those that are open.
    client.socket.write_all(&window(3000)).await.expect("sent");
    assert_eq!(client.read().await.0, 2000);
    client.socket.write_all(&credit(3, 1_000_000)).await.expect("sent");
    assert!(client.read().await.0 >= 6500, "the rest, and the status");
}

#[tokio::test]
async fn the_connections_window_counts_once_it_is_spoken_of() {
    let server = server().await;
    let url = server.exec(flood(200_000), requested(false, true, false, false)).expect("an address");
    let settings = [window(1_000_000), credit(0, 10)].concat();
    let mut client = Raw::start(&server, &url, &settings, &["error", "stdout"]).await;
    assert_eq!(client.read().await.0, 65_536 + 10);
    client.socket.write_all(&credit(0, 1_000_000)).await.expect("sent");
    assert!(client.read().await.0 >= 200_000 - 65_546);
}

#[tokio::test]
async fn a_peer_without_windows_gets_all_and_is_told_of_none() {
    let server = server().await;
    let url = server.exec(flood(10_000_000), requested(false, true, false, false)).expect("an address");
    let mut client = Raw::start(&server, &url, &[], &["error", "stdout"]).await;
    assert!(client.read().await.0 >= 10_000_000);
}

#[tokio::test]
async fn who_announces_windows_is_held_to_ours() {
    let server = server().await;
    let act = work(|mut streams: RemoteCommand| async move {
        streams.client.gone().await;
        drop(streams.stdin.take());
        Ok(Exit(0))
    });
    let url = server.exec(act, requested(true, false, false, false)).expect("an address");
    let mut client = Raw::start(&server, &url, &window(65_536), &["error", "stdin"]).await;
    let mut frame = vec![0, 0, 0, 3, 0];
    frame.extend_from_slice(&u32::try_from(WINDOW + 1).expect("a length").to_be_bytes()[1..]);
    frame.resize(8 + WINDOW + 1, 0);
    client.socket.write_all(&frame).await.expect("sent");
    assert_eq!(client.read().await.1, [3, 7], "stream 3 is cut off for its flow control");
}

#[tokio::test]
async fn what_is_read_is_granted_anew() {
    let server = server().await;
    let act = work(|mut streams: RemoteCommand| async move {
        let read = all(&mut streams.stdin).await;
        Ok(Exit(u8::from(read.len() != WINDOW)))
    });
    let url = server.exec(act, requested(true, false, false, false)).expect("an address");
    let mut client = Raw::start(&server, &url, &window(65_536), &["error", "stdin"]).await;
    let mut frame = vec![0, 0, 0, 3, 0];
    frame.extend_from_slice(&u32::try_from(WINDOW).expect("a length").to_be_bytes()[1..]);
    frame.resize(8 + WINDOW, 0);
    client.socket.write_all(&frame).await.expect("sent");
    let (_, cut, credit) = client.read().await;
    assert!(cut.is_empty() && credit as usize >= WINDOW / 2, "{cut:?} {credit}");
}

#[tokio::test]
async fn streams_above_the_number_asked_for_are_refused() {
    let server = server().await;
    let act = work(|streams: RemoteCommand| async move {
        streams.client.gone().await;
        Ok(Exit(0))
    });
    let url = server.exec(act, requested(false, true, false, false)).expect("an address");
    // One of an unknown kind, one twice, and one after all are there.
    let kinds = ["error", "something", "error", "stdout"];
    let mut client = Raw::start(&server, &url, &[], &kinds).await;
    assert_eq!(client.read().await.1, [3, 1, 5, 1]);
    let mut late = BytesMut::new();
    client.spdy.open(&Headers::new(&[("streamType", "stderr")]), &mut late);
    client.socket.write_all(&late).await.expect("sent");
    assert_eq!(client.read().await.1, [9, 3]);
}
