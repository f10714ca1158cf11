//! Uploads: one PUT for what is small, chunks that go on after a cut for what is large.

use std::io::{self, Read};
use std::thread;

use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE};
use ureq::http::{Method, StatusCode};

use super::auth::Scope;
use super::call::{Call, CallBody, Reply};
use super::push::OpenAt;
use super::repository::{Repository, Target};
use super::transport::ContentError;
use super::{Client, Error, form, redirect, retry};
use crate::contract::Descriptor;

const OCTETS: &str = "application/octet-stream";

/// Where an upload goes on: a whole URL.
pub(super) fn location(reply: &Reply) -> Result<String, Error> {
    let location = reply.header("location").ok_or_else(|| reply.malformed("an upload without Location"))?;
    redirect::resolve(&reply.url, location)
        .ok_or_else(|| reply.malformed(format!("cannot go on with an upload at {location:?}")))
}

impl Client {
    /// Sends a blob, from the beginning as often as it takes; `first` is an upload that a mount began.
    pub(super) fn upload(
        &self,
        target: &Target<'_>,
        repository: &Repository,
        blob: &Descriptor,
        mut first: Option<String>,
        open: &OpenAt<'_>,
        act: &str,
    ) -> Result<(), Error> {
        let patience = &self.config().patience;
        let mut attempt = 0;
        loop {
            let sent = match first.take() {
                Some(location) => self.send(target, blob, (location, None), open, act),
                None => self
                    .begin_upload(target, repository, act)
                    .and_then(|begun| self.send(target, blob, begun, open, act)),
            };
            let failure = match sent {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // 404: the registry forgot the upload.
            let again = failure.is_transient() || failure.status() == Some(404);
            match retry::pause(patience, attempt, failure.retry_after()).filter(|_| again) {
                Some(pause) => thread::sleep(pause),
                None => return Err(failure),
            }
            attempt += 1;
        }
    }

    /// The upload's URL, and the least chunk the registry wants.
    fn begin_upload(
        &self,
        target: &Target<'_>,
        repository: &Repository,
        act: &str,
    ) -> Result<(String, Option<u64>), Error> {
        let call = Call::new(self, Method::POST, format!("{}/blobs/uploads/", repository.path()), act);
        let reply = self.call(target, &Scope::push(target.repository), &call, &[StatusCode::ACCEPTED])?;
        let least = reply.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        Ok((location(&reply)?, least))
    }

    fn send(
        &self,
        target: &Target<'_>,
        blob: &Descriptor,
        (location, least): (String, Option<u64>),
        open: &OpenAt<'_>,
        act: &str,
    ) -> Result<(), Error> {
        let chunk = self.config().chunk.max(least.unwrap_or_default()).max(1);
        match blob.size > chunk {
            false => self.commit(target, blob, &location, 0, open, act),
            true => {
                let location = self.send_chunks(target, blob, location, chunk, open, act)?;
                self.commit(target, blob, &location, blob.size, open, act)
            }
        }
    }

    /// Sends all chunks; after a failure the registry is asked how far it got.
    fn send_chunks(
        &self,
        target: &Target<'_>,
        blob: &Descriptor,
        mut location: String,
        chunk: u64,
        open: &OpenAt<'_>,
        act: &str,
    ) -> Result<String, Error> {
        let scope = Scope::push(target.repository);
        let (mut at, mut fruitless) = (0, 0);
        while at < blob.size {
            let length = chunk.min(blob.size - at);
            let content = || exactly(open, at, length);
            let mut call = Call::new(self, Method::PATCH, location.clone(), act)
                .header(CONTENT_TYPE, OCTETS)
                .header(CONTENT_RANGE, format!("{at}-{}", at + length - 1))
                .body(CallBody::Stream(length, &content));
            call.retry = false;
            let reply = match self.call(target, &scope, &call, &[StatusCode::ACCEPTED]) {
                Ok(reply) => reply,
                Err(failure) if failure.is_transient() || failure.status() == Some(416) => {
                    let pause = retry::pause(&self.config().patience, fruitless, failure.retry_after());
                    let Some(pause) = pause else { return Err(failure) };
                    thread::sleep(pause);
                    fruitless += 1;
                    let ask = Call::new(self, Method::GET, location.clone(), act);
                    self.call(target, &scope, &ask, &[StatusCode::NO_CONTENT])?
                }
                Err(failure) => return Err(failure),
            };
            let received = received(&reply).filter(|received| *received <= blob.size);
            let received =
                received.ok_or_else(|| reply.malformed("its Range does not say how far the upload is"))?;
            if received > at {
                fruitless = 0;
            } else if reply.response.status() == StatusCode::ACCEPTED {
                return Err(reply.malformed("it accepted a chunk and has no more bytes than before"));
            }
            at = received;
            // A status need not repeat the location.
            if reply.header("location").is_some() {
                location = self::location(&reply)?;
            }
        }
        Ok(location)
    }

    /// The PUT that ends an upload, with everything from `at` on.
    fn commit(
        &self,
        target: &Target<'_>,
        blob: &Descriptor,
        location: &str,
        at: u64,
        open: &OpenAt<'_>,
        act: &str,
    ) -> Result<(), Error> {
        let digest = blob.digest.to_string();
        let content = || exactly(open, at, blob.size - at);
        let mut call = Call::new(self, Method::PUT, form::with_query(location, &[("digest", &digest)]), act)
            .header(CONTENT_TYPE, OCTETS)
            .body(if at < blob.size { CallBody::Stream(blob.size - at, &content) } else { CallBody::None });
        call.headers_within = self.config().patience.commit;
        // After a failure the upload starts over: whether the registry has the bytes cannot be known.
        call.retry = false;
        self.call(
            target,
            &Scope::push(target.repository),
            &call,
            &[StatusCode::CREATED, StatusCode::NO_CONTENT],
        )?;
        Ok(())
    }
}

/// How many bytes an upload has, by its `Range: 0-99`; `0-0` is what registries say of none, and of one.
fn received(reply: &Reply) -> Option<u64> {
    let range = reply.header("range")?;
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    match (first.trim(), last.trim().parse::<u64>().ok()?) {
        ("0", 0) => Some(0),
        ("0", last) => last.checked_add(1),
        _ => None,
    }
}

/// The content from `at`, exactly `length` bytes of it: a file that shrank must not leave the registry waiting.
fn exactly(open: &OpenAt<'_>, at: u64, length: u64) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(Exactly { content: open(at)?, left: length }))
}

struct Exactly {
    content: Box<dyn Read + Send>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let marked = |error| io::Error::other(ContentError(error));
        let count = self.content.read(buffer.get_mut(..most).unwrap_or_default()).map_err(marked)?;
        if count == 0 && most > 0 {
            let text = format!("it ended {} bytes early", self.left);
            return Err(marked(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
