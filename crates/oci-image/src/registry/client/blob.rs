//! Blobs (end-2): streamed from any offset, resumed where a connection was cut.

use std::io::{self, Read};
use std::thread;

use ureq::http::header::RANGE;
use ureq::http::{Method, StatusCode};

use super::auth::Scope;
use super::body::Body;
use super::call::{Call, Reply};
use super::repository::{Capability, Repository, Target};
use super::{Client, Error, retry};
use crate::contract::Descriptor;
use crate::reference::Reference;

impl Client {
    /// Streams a blob from `offset`. A connection that is cut or stalls is replaced by another that goes on where it
    /// ended, as long as there is progress. The bytes are not verified: that is for who knows the digest to do.
    pub fn blob(&self, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<BlobReader, Error> {
        let repository = Repository::of(self, reference)?;
        let body = self.open_in(&repository, blob, offset)?;
        Ok(BlobReader {
            client: self.clone(),
            repository,
            blob: blob.clone(),
            at: offset,
            body,
            fruitless: 0,
        })
    }

    /// One connection's worth of a blob: exactly the bytes from `offset` to its size, or an error.
    pub(super) fn open_in(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        offset: u64,
    ) -> Result<Body, Error> {
        let act = format!("pull blob {}@{}", repository.reference.name(), blob.digest);
        if offset >= blob.size {
            return Ok(Body::empty());
        }
        let path = format!("{}/blobs/{}", repository.path(), blob.digest);
        let open = |target: &Target<'_>| self.open_at(target, &path, blob, offset, &act);
        let failure = match repository.at_each(Capability::Pull, &act, open) {
            Ok(body) => return Ok(body),
            Err(failure) => failure,
        };
        // What may not be pushed is found where its maker keeps it (image-spec, "urls"), without our credentials.
        let urls =
            blob.urls.iter().filter(|url| blob.media_type.is_nondistributable() && url.starts_with("http"));
        let mut found =
            urls.filter_map(|url| self.open_at(&repository.itself()?, url, blob, offset, &act).ok());
        found.next().ok_or(failure)
    }

    fn open_at(
        &self,
        target: &Target<'_>,
        path: &str,
        blob: &Descriptor,
        offset: u64,
        act: &str,
    ) -> Result<Body, Error> {
        let mut call = Call::new(self, Method::GET, path, act);
        if offset > 0 {
            call = call.header(RANGE, format!("bytes={offset}-"));
        }
        let expected = [StatusCode::OK, StatusCode::PARTIAL_CONTENT, StatusCode::RANGE_NOT_SATISFIABLE];
        let scope = Scope::pull(target.repository);
        let mut reply = self.call(target, &scope, &call, &expected)?;
        if reply.response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            // A server that cannot do ranges and says so instead of ignoring them, or has another size.
            call.headers.clear();
            reply = self.call(target, &scope, &call, &[StatusCode::OK])?;
        }
        let start = match reply.response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(&reply, blob, offset)?,
            _ => 0,
        };
        let length = reply.header("content-length").and_then(|length| length.parse::<u64>().ok());
        if let Some(length) = length.filter(|length| Some(*length) != blob.size.checked_sub(start)) {
            let wanted = blob.size.saturating_sub(start);
            return Err(reply.malformed(format!("it announces {length} bytes where {wanted} are expected")));
        }
        let Reply { url, response } = reply;
        let reader = response.into_body().into_reader();
        Ok(Body::new(url, Box::new(reader), self.config().patience, offset - start, blob.size - offset))
    }
}

/// Where a 206 begins; it must be where we asked, and of a blob of the right size.
fn range_start(reply: &Reply, blob: &Descriptor, offset: u64) -> Result<u64, Error> {
    // `bytes 5-9/10`.
    let header = reply.header("content-range").unwrap_or_default();
    let parsed = header.strip_prefix("bytes ").and_then(|range| {
        let (range, total) = range.split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        Some((number(start)?, number(end)?, total.trim() == "*" || number(total) == Some(blob.size)))
    });
    match parsed {
        Some((start, end, true)) if start == offset && end.checked_add(1) == Some(blob.size) => Ok(start),
        _ => {
            let fault =
                format!("Content-Range {header:?} does not answer bytes={offset}- of {} bytes", blob.size);
            Err(reply.malformed(fault))
        }
    }
}

/// A blob that arrives whole or ends in an error, over as many connections as it takes.
pub struct BlobReader {
    client: Client,
    repository: Repository,
    blob: Descriptor,
    at: u64,
    body: Body,
    fruitless: u32,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobReader")
            .field("blob", &self.blob.digest)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let failure = match self.body.read(buffer) {
                Ok(count) => {
                    self.at += count as u64;
                    if count > 0 {
                        self.fruitless = 0;
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
                Err(error) => error,
            };
            let Some(pause) = retry::pause(&self.client.config().patience, self.fruitless, None) else {
                return Err(failure);
            };
            thread::sleep(pause);
            self.fruitless += 1;
            match self.client.open_in(&self.repository, &self.blob, self.at) {
                Ok(body) => self.body = body,
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}
