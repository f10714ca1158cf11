//! Blobs: whole and in ranges (end-2), and their deletion (end-10).

use std::io::{Seek, SeekFrom};

use hyper::body::Incoming;
use hyper::header::RANGE;
use hyper::{Method, Request, Response, StatusCode};

use super::Shared;
use super::reply::{Code, Failure, Payload, reply};
use super::storage::Link;
use crate::contract::Digest;

pub(super) fn get(
    shared: &Shared,
    request: &Request<Incoming>,
    name: &str,
    digest: &Digest,
) -> Result<Response<Payload>, Failure> {
    let Some((mut file, size)) = shared.storage.open_blob(name, Link::Blob, digest)? else {
        return Err(unknown(name, digest));
    };
    let text = digest.to_string();
    let common = [
        ("content-type", "application/octet-stream"),
        ("docker-content-digest", text.as_str()),
        ("accept-ranges", "bytes"),
    ];
    if request.method() == Method::HEAD {
        let length = size.to_string();
        return Ok(reply(
            StatusCode::OK,
            &[&common[..], &[("content-length", &length)]].concat(),
            Payload::None,
        ));
    }
    let range = request.headers().get(RANGE).and_then(|value| value.to_str().ok());
    match range.map_or(Wanted::All, |range| wanted(range, size)) {
        Wanted::All => Ok(reply(StatusCode::OK, &common, Payload::File(file, size))),
        Wanted::Part(first, last) => {
            file.seek(SeekFrom::Start(first))?;
            let range = format!("bytes {first}-{last}/{size}");
            let headers = [&common[..], &[("content-range", range.as_str())]].concat();
            Ok(reply(StatusCode::PARTIAL_CONTENT, &headers, Payload::File(file, last - first + 1)))
        }
        Wanted::Nothing => {
            let failure =
                Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, "the range is outside");
            Err(failure.with("content-range", format!("bytes */{size}")))
        }
    }
}

pub(super) fn delete(shared: &Shared, name: &str, digest: &Digest) -> Result<Response<Payload>, Failure> {
    let _held = shared.storage.lock();
    match shared.storage.unlink(name, Link::Blob, digest)? {
        true => Ok(reply(StatusCode::ACCEPTED, &[], Payload::None)),
        false => Err(unknown(name, digest)),
    }
}

fn unknown(name: &str, digest: &Digest) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, Code::BlobUnknown, format!("{name} has no blob {digest}"))
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// First and last byte.
    Part(u64, u64),
    Nothing,
}

/// One range (RFC 9110, 14.1.2); several, and other units, are answered with everything.
fn wanted(range: &str, size: u64) -> Wanted {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Wanted::All;
    };
    let end = size.checked_sub(1);
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Wanted::All,
        (Ok(first), last) if last.is_ok() || range.ends_with('-') => match end {
            Some(end) if first <= end => Wanted::Part(first, last.unwrap_or(end).min(end)),
            _ => Wanted::Nothing,
        },
        (Err(_), Ok(count)) if first.is_empty() => match end {
            Some(end) if count > 0 => Wanted::Part(size.saturating_sub(count), end),
            _ => Wanted::Nothing,
        },
        _ => Wanted::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, size, expected) in [
            ("bytes=0-", 10, Wanted::Part(0, 9)),
            ("bytes=3-5", 10, Wanted::Part(3, 5)),
            ("bytes=3-99", 10, Wanted::Part(3, 9)),
            ("bytes=-4", 10, Wanted::Part(6, 9)),
            ("bytes=-40", 10, Wanted::Part(0, 9)),
            ("bytes=10-", 10, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=5-3", 10, Wanted::All),
            ("bytes=0-1,4-5", 10, Wanted::All),
            ("items=0-1", 10, Wanted::All),
            ("bytes=-", 10, Wanted::All),
        ] {
            assert_eq!(wanted(range, size), expected, "{range}");
        }
    }
}
