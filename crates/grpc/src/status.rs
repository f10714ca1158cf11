//! What a call comes to: a code, and a text for people.

use std::fmt;
use std::path::PathBuf;

use http::{HeaderMap, HeaderValue};

/// gRPC's status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// No error.
    Ok = 0,
    /// The caller gave up.
    Cancelled = 1,
    /// Nobody knows what.
    Unknown = 2,
    /// The request is wrong, whatever the state of the machine.
    InvalidArgument = 3,
    /// The caller's time was over.
    DeadlineExceeded = 4,
    /// What the request names is not there.
    NotFound = 5,
    /// What the request makes is there already.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// Some limit is reached.
    ResourceExhausted = 8,
    /// The request does not fit the state of what it names.
    FailedPrecondition = 9,
    /// Something came in between; the caller may begin anew.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// The method is unknown.
    Unimplemented = 12,
    /// The server's own fault.
    Internal = 13,
    /// Nobody answers; try again.
    Unavailable = 14,
    /// Data are lost.
    DataLoss = 15,
    /// The caller must say who it is.
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code with this number; unknown numbers are [`Code::Unknown`], as the specification wants.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        usize::try_from(number).ok().and_then(|at| Self::ALL.get(at)).copied().unwrap_or(Self::Unknown)
    }
}

/// How a call failed: a code and a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code:?})")]
pub struct Status {
    /// What kind of failure it is, for programs.
    pub code: Code,
    /// What went wrong, for people.
    pub message: String,
}

/// How many bytes of a message go into a header: peers limit the size of all headers together.
const MESSAGE_HEADER: usize = 4096;

impl Status {
    /// A status of this code and text.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The method is not served.
    #[must_use]
    pub fn unimplemented(method: &str) -> Self {
        Self::new(Code::Unimplemented, format!("{method} is not served here"))
    }

    /// `grpc-status` and `grpc-message`.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        headers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if let Ok(message) = HeaderValue::try_from(encode(&self.message))
            && !self.message.is_empty()
        {
            headers.insert("grpc-message", message);
        }
    }

    /// The status in these headers or trailers, if they hold one.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let number = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse().ok());
        let code = number.map_or(Code::Unknown, Code::from_number);
        let message = headers.get("grpc-message").map(|text| decode(text.as_bytes())).unwrap_or_default();
        Some(Self { code, message })
    }
}

/// A `grpc-message` of this text: percent-encoding of everything that is not printable ASCII, cut after 4 KiB.
#[must_use]
pub fn encode(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for c in message.chars() {
        if out.len() > MESSAGE_HEADER {
            out.push_str("...");
            break;
        }
        match c {
            ' '..='~' if c != '%' => out.push(c),
            _ => {
                let mut bytes = [0; 4];
                out.extend(c.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
            }
        }
    }
    out
}

/// The text of a `grpc-message`; what is no escape stays.
#[must_use]
pub fn decode(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.first_chunk::<2>().filter(|_| first == b'%').and_then(|hex| {
            let text = std::str::from_utf8(hex).ok()?;
            hex.iter().all(u8::is_ascii_hexdigit).then(|| u8::from_str_radix(text, 16).ok())?
        });
        out.push(escaped.unwrap_or(first));
        rest = tail.get(if escaped.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Why a client got no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens at the socket.
    #[error("cannot connect to {}: {source}; is the server running?", path.display())]
    Connect {
        /// The socket's file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The call failed: there, here, or between.
    #[error("cannot call {method}: {status}")]
    Call {
        /// The method's name, without the service's.
        method: &'static str,
        /// What came back, or what the client made of the failure.
        status: Status,
    },
}

impl Error {
    /// The status; a server that cannot be reached is [`Code::Unavailable`].
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Connect { .. } => Code::Unavailable,
            Self::Call { status, .. } => status.code,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_status_survives_the_headers() {
        for message in ["", "plain", "100 % of \"ä\"\nnext", "\u{1F980}", "%41"] {
            let status = Status::new(Code::NotFound, message);
            let mut headers = HeaderMap::new();
            status.write(&mut headers);
            assert_eq!(Status::read(&headers), Some(status));
        }
        assert_eq!(Status::read(&HeaderMap::new()), None);
    }

    #[test]
    fn a_long_message_is_cut() {
        let text = encode(&"ä".repeat(10_000));
        assert!(text.len() < MESSAGE_HEADER + 16 && text.ends_with("..."), "{} bytes", text.len());
    }

    #[test]
    fn numbers_and_codes_agree() {
        for (number, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert_eq!(Code::from_number(u32::try_from(number).unwrap()), code);
        }
        assert_eq!(Code::from_number(17), Code::Unknown);
    }

    proptest! {
        #[test]
        fn no_message_breaks_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(decode(&bytes).len() <= 3 * bytes.len());
        }

        #[test]
        fn what_is_encoded_comes_back(text in ".{0,64}") {
            prop_assert_eq!(decode(encode(&text).as_bytes()), text);
        }
    }
}
