//! HTTP/1.1 as a proxy needs it (RFC 9110, RFC 9112): heads are read in place and written again by pieces, bodies are only followed.
//!
//! [`Ending`] finds where a head ends while it arrives, [`Head::request`] and [`Head::response`] read it, [`write`] writes it again with what
//! a route changes, and [`Body`] follows the bytes behind it to their end. Nothing is allocated for a header.
//!
//! It is strict where two readers of one message could differ, since that is how a request is smuggled past whoever checks it: lines end
//! with CR LF and nothing else, no line is folded, a name is followed by its colon, a length is given once and one way, and the only transfer
//! coding is `chunked`. What breaks a rule is a [`Fault`] with the status to answer.

mod body;
mod fault;
mod field;
mod head;
mod path;
mod write;

#[cfg(test)]
mod tests;

pub use body::{Body, Piece};
pub use fault::Fault;
pub use field::{Kind, is_token};
pub use head::{Bounds, Ending, Framing, Head, Method};
pub use path::{Target, normal};
pub use write::{Edits, Forward, request, response};

// What a name, a value, a host and a length are is the same in each version of HTTP.
pub(crate) use field::{text_byte, token_byte};
pub(crate) use head::{host_byte, length};
