//! Where a list ended, as Kubernetes writes it into `metadata.continue`.

use crate::contract::{Result, Status};
use crate::merge::go::json_word;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};

/// Without padding, and lenient about the last bits, as Go reads it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Where a list ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// As of which revision the list goes on; `None`: as of now.
    pub(super) revision: Option<u64>,
    /// The last namespace and name that were told; the namespace is empty within one.
    pub(super) after: (String, String),
}

impl Token {
    /// As clients get it.
    pub(super) fn text(&self) -> String {
        let (namespace, name) = &self.after;
        let start =
            if namespace.is_empty() { format!("/{name}\u{0}") } else { format!("/{namespace}/{name}\u{0}") };
        let revision = self.revision.and_then(|revision| i64::try_from(revision).ok()).unwrap_or(-1);
        BASE64.encode(json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start}).to_string())
    }

    /// Reads what a client sent back.
    pub(super) fn parse(text: &str) -> Result<Token> {
        let invalid = |cause: String| {
            Status::bad_request(format!("invalid continue token: continue key is not valid{cause}"))
        };
        let bytes = BASE64.decode(text).map_err(|error| {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) => at,
                _ => text.len(),
            };
            invalid(format!(": illegal base64 data at input byte {at}"))
        })?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(format!(": {}", go_complaint(&error, &bytes))))?;
        if !matches!(value, Value::Null | Value::Object(_)) {
            return Err(invalid(format!(
                ": json: cannot unmarshal {} into Go value of type storage.continueToken",
                json_word(&value)
            )));
        }
        let version = value.get("v").and_then(Value::as_str).unwrap_or_default();
        if version != "meta.k8s.io/v1" {
            return Err(invalid(format!(": server does not recognize this encoded version {version}")));
        }
        let revision = value.get("rv").and_then(Value::as_i64).unwrap_or(0);
        if revision == 0 {
            return Err(invalid(
                ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned(),
            ));
        }
        let start = value.get("start").and_then(Value::as_str).unwrap_or_default();
        if start.is_empty() {
            return Err(invalid(": encoded start key empty (version meta.k8s.io/v1)".to_owned()));
        }
        let start = start.strip_prefix('/').unwrap_or(start);
        if start.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(invalid(format!(": {start}")));
        }
        let start = start.trim_end_matches('\u{0}');
        let after = start.split_once('/').unwrap_or(("", start));
        Ok(Token { revision: u64::try_from(revision).ok(), after: (after.0.to_owned(), after.1.to_owned()) })
    }
}

/// What Go's JSON says of bytes that are none, at their first byte that is no space.
fn go_complaint(error: &serde_json::Error, bytes: &[u8]) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => "unexpected end of JSON input".to_owned(),
        Some(byte) if byte.is_ascii_graphic() => {
            format!("invalid character '{}' looking for beginning of value", char::from(*byte))
        }
        // Go takes the byte for a code point, and quotes those that are Latin letters as they are.
        Some(byte) => format!("invalid character '\\x{byte:02x}' looking for beginning of value"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back() {
        for after in [("", "a"), ("ns", "b")] {
            let token = Token { revision: Some(12), after: (after.0.to_owned(), after.1.to_owned()) };
            assert_eq!(Token::parse(&token.text()).expect("its own"), token);
        }
    }

    #[test]
    fn what_is_no_token_is_refused_in_the_words_of_kubernetes() {
        assert_eq!(
            Token::parse("xyz").expect_err("no JSON").message,
            "invalid continue token: continue key is not valid: invalid character '\\xc7' looking for beginning of value"
        );
        let escaping = BASE64.encode(r#"{"v":"meta.k8s.io/v1","rv":3,"start":"../x"}"#);
        assert!(Token::parse(&escaping).expect_err("a way out").message.contains("../x"));
    }
}
