//! Answers: JSON errors with the spec's codes, bodies from memory and from files.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

const CHUNK: usize = 256 * 1024;

/// Error codes of the distribution spec.
#[derive(Debug, Clone, Copy)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Unsupported,
    Unknown,
}

impl Code {
    fn text(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unsupported => "UNSUPPORTED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    code: Code,
    message: String,
    headers: Vec<(&'static str, String)>,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self, head: bool) -> Response<Payload> {
        let error = serde_json::json!({ "code": self.code.text(), "message": self.message });
        let body = serde_json::json!({ "errors": [error] }).to_string();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(self.headers.iter().map(|(name, value)| (*name, value.as_str())));
        reply(self.status, &headers, if head { Payload::None } else { Payload::full(body) })
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let status = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, Code::Unknown, error.to_string())
    }
}

/// An answer with headers; a value that no header can carry is left out.
pub(super) fn reply(
    status: StatusCode,
    headers: &[(&'static str, &str)],
    payload: Payload,
) -> Response<Payload> {
    let length = payload.length();
    let mut response = Response::new(payload);
    *response.status_mut() = status;
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    // HEAD answers carry the length of what they do not carry.
    if status != StatusCode::NO_CONTENT && !response.headers().contains_key(CONTENT_LENGTH) {
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response
}

/// The body of an answer.
pub(super) enum Payload {
    None,
    Full(Bytes),
    /// A file from where it stands, and how many bytes of it.
    File(File, u64),
}

impl Payload {
    pub(super) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(bytes.into())
    }

    fn length(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Full(bytes) => bytes.len() as u64,
            Self::File(_, left) => *left,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::None => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::File(_, 0) => Poll::Ready(None),
            Self::File(file, left) => {
                let most = usize::try_from(*left).unwrap_or(CHUNK).min(CHUNK);
                let mut chunk = vec![0; most];
                // A blob is a regular file, mostly in the page cache: handing each chunk to a thread costs more.
                let read = file.read(&mut chunk).and_then(|count| match count {
                    0 => Err(io::ErrorKind::UnexpectedEof.into()),
                    count => Ok(count),
                });
                Poll::Ready(Some(read.map(|count| {
                    chunk.truncate(count);
                    *left -= count as u64;
                    Frame::data(chunk.into())
                })))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.length() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}
