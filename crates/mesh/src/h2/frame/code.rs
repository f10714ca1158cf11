//! Why a stream or a connection ends.

use std::fmt;

/// An error code (RFC 9113, 7); those that are not known mean as much as [`Code::INTERNAL_ERROR`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($name:ident = $number:literal, $about:literal;)*) => {
        impl Code {
            $(#[doc = $about] pub const $name: Self = Self($number);)*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    NO_ERROR = 0, "Nothing is wrong: a connection ends, or an answer is whole without the rest of its request.";
    PROTOCOL_ERROR = 1, "Against the rules, and no other code says it better.";
    INTERNAL_ERROR = 2, "The fault of whoever says it.";
    FLOW_CONTROL_ERROR = 3, "More was sent than the window let, or the window grew too large.";
    SETTINGS_TIMEOUT = 4, "Settings were not acknowledged.";
    STREAM_CLOSED = 5, "A frame for a stream that had ended.";
    FRAME_SIZE_ERROR = 6, "A frame of a wrong size.";
    REFUSED_STREAM = 7, "Nothing was done of it: it may be sent again.";
    CANCEL = 8, "Nobody wants the rest.";
    COMPRESSION_ERROR = 9, "The tables of headers differ.";
    CONNECT_ERROR = 10, "The connection behind a CONNECT broke.";
    ENHANCE_YOUR_CALM = 11, "Too much of something.";
    INADEQUATE_SECURITY = 12, "TLS is not good enough.";
    HTTP_1_1_REQUIRED = 13, "To be asked by HTTP/1.1.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
