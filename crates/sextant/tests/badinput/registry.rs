//! A registry that serves images from memory and keeps a log; a test makes it lie, stumble or hang.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use testkit::faulty::{Faulty, answer};

use crate::image::{Image, files};

/// One request, and where its answer goes.
pub(crate) struct Ask<'a> {
    /// Without the leading `/v2/`: `bad/manifests/1`.
    pub(crate) path: &'a str,
    /// The offset of a `Range`.
    pub(crate) from: Option<usize>,
    /// The whole head, header names in lower case.
    pub(crate) head: &'a str,
    pub(crate) server: SocketAddr,
    pub(crate) stream: &'a mut TcpStream,
    images: &'a BTreeMap<String, Image>,
    log: &'a Mutex<Vec<Sent>>,
}

/// A line of the log: what was asked for, from which offset, and how many bytes of a blob went out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) path: String,
    pub(crate) from: Option<usize>,
    pub(crate) bytes: usize,
}

/// Returns whether it answered; what it leaves is answered honestly.
type Fault = dyn Fn(&mut Ask<'_>) -> bool + Send + Sync;

pub(crate) struct Registry {
    server: Faulty,
    log: Arc<Mutex<Vec<Sent>>>,
}

impl Registry {
    /// Serves `bad` as `bad:1`, with a fault, and honestly a good image.
    pub(crate) fn new(bad: Image, fault: impl Fn(&mut Ask<'_>) -> bool + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), bad, fault)
    }

    /// Serves it as it is.
    pub(crate) fn of(bad: Image) -> Self {
        Self::new(bad, |_| false)
    }

    pub(crate) fn on(
        listener: TcpListener,
        bad: Image,
        fault: impl Fn(&mut Ask<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        let images = [("bad", bad), ("good", good())].map(|(name, image)| (name.to_owned(), image)).into();
        let (log, fault): (Arc<Mutex<Vec<Sent>>>, Box<Fault>) = (Arc::default(), Box::new(fault));
        let kept = log.clone();
        let server = Faulty::on(listener, move |server, head, stream| {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let path = path.split('?').next().unwrap_or_default().strip_prefix("/v2/").unwrap_or_default();
            let from = head.lines().find_map(|line| line.strip_prefix("range: bytes="));
            let from = from.map(|range| range.trim_end_matches('-').parse().unwrap());
            let mut ask = Ask { path, from, head, server, stream, images: &images, log: &kept };
            if path.starts_with("good/") || !fault(&mut ask) {
                ask.honest();
            }
        });
        Self { server, log }
    }

    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}:1", self.server.addr)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    /// Its process is killed: nobody listens any more.
    pub(crate) fn stop(&self) {
        self.server.stop();
    }

    /// What was asked for under `bad`, in order.
    pub(crate) fn log(&self) -> Vec<Sent> {
        self.log.lock().unwrap().iter().filter(|sent| sent.path.starts_with("bad/")).cloned().collect()
    }
}

impl<'a> Ask<'a> {
    pub(crate) fn is_blob(&self) -> bool {
        self.path.contains("/blobs/")
    }

    /// Whether it is for the first layer of the bad image.
    pub(crate) fn is_layer(&self) -> bool {
        self.path.ends_with(&format!("/blobs/{}", self.images["bad"].layer()))
    }

    pub(crate) fn note(&self, bytes: usize) {
        self.log.lock().unwrap().push(Sent { path: self.path.to_owned(), from: self.from, bytes });
    }

    /// Answers with this; always true, for a fault to return.
    pub(crate) fn answer(&mut self, status: u16, headers: &str, body: &[u8]) -> bool {
        self.note(body.len());
        answer(self.stream, status, headers, body);
        true
    }

    /// Answers as any registry would.
    pub(crate) fn honest(&mut self) {
        let mut parts = self.path.splitn(3, '/');
        let (name, kind, what) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        let image = name.and_then(|name| self.images.get(name));
        match (kind, image) {
            (Some("manifests"), Some(image)) => {
                let (manifest, headers) =
                    (image.manifest.clone(), format!("content-type: {}\r\n", image.media_type));
                self.answer(200, &headers, &manifest);
            }
            (Some("blobs"), Some(image)) if image.blobs.keys().any(|digest| digest.to_string() == what) => {
                self.blob(usize::MAX);
            }
            _ => {
                let unknown = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"there is no such thing"}]}"#;
                self.answer(404, "content-type: application/json\r\n", unknown);
            }
        }
    }

    /// The blob that is asked for.
    pub(crate) fn whole(&self) -> &'a [u8] {
        let digest = self.path.rsplit('/').next().unwrap_or_default().parse().unwrap();
        &self.images[self.path.split('/').next().unwrap_or_default()].blobs[&digest]
    }

    /// The header for the blob from where it was asked for.
    pub(crate) fn content_range(&self) -> String {
        let length = self.whole().len();
        format!("content-range: bytes {}-{}/{length}\r\n", self.from.unwrap_or(0), length.max(1) - 1)
    }

    /// Whether the client has gone.
    pub(crate) fn hung_up(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let end = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !end.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Answers with a blob from where it was asked for, and hangs up after so many bytes.
    pub(crate) fn blob(&mut self, most: usize) -> bool {
        let rest = &self.whole()[self.from.unwrap_or(0)..];
        let status = if self.from.is_some() { "206 Partial Content" } else { "200 OK" };
        let range = self.content_range();
        let head = format!("HTTP/1.1 {status}\r\n{range}content-length: {}\r\n\r\n", rest.len());
        let sent = &rest[..rest.len().min(most)];
        self.note(sent.len());
        // The client may hang up at any time.
        let _ = self.stream.write_all(head.as_bytes()).and_then(|()| self.stream.write_all(sent));
        true
    }
}

/// What is pulled after a fault, to show that nothing was spoiled.
fn good() -> Image {
    Image::new(&[files(&[("etc/greeting", b"hello")])])
}
