//! What the proxy answers itself.

use std::io::Write as _;

use super::rules::RuleId;
use crate::telemetry::Reason;

/// An answer without a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What is told: a line without its end.
    pub(super) text: String,
    /// Where to ask instead.
    pub(super) location: Option<String>,
    /// The rule that says so.
    pub(crate) rule: Option<RuleId>,
    /// Why, for who counts.
    pub(crate) reason: Option<Reason>,
}

impl Answer {
    pub(super) fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), location: None, rule: None, reason: Reason::of(status) }
    }

    /// The same, for another reason than its status tells.
    pub(super) fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// The same, as a rule says.
    pub(super) fn by(self, rule: Option<RuleId>) -> Self {
        Self { rule, ..self }
    }

    /// What it has for a body.
    pub(super) fn body(&self) -> String {
        if self.text.is_empty() { String::new() } else { format!("sextant mesh: {}\n", self.text) }
    }

    /// Writes it. `head` is the answer to a HEAD, `connection` what the client is told about its connection.
    pub(super) fn write(&self, out: &mut Vec<u8>, head: bool, connection: Option<&str>) {
        let body = self.body();
        let mut line = |text: std::fmt::Arguments<'_>| {
            // A vector takes all that is written.
            let _all = out.write_fmt(text);
            out.extend_from_slice(b"\r\n");
        };
        line(format_args!("HTTP/1.1 {} {}", self.status, reason(self.status)));
        if let Some(location) = &self.location {
            line(format_args!("location: {location}"));
        }
        if !body.is_empty() {
            line(format_args!("content-type: text/plain; charset=utf-8"));
        }
        line(format_args!("content-length: {}", body.len()));
        if let Some(connection) = connection {
            line(format_args!("connection: {connection}"));
        }
        line(format_args!(""));
        if !head {
            out.extend_from_slice(body.as_bytes());
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
