//! How a command's end is told on the error stream, and read from there.

use serde::{Deserialize, Serialize};

use super::Exit;
use crate::Failure;

/// The part of `metav1.Status` that streams use.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    #[serde(skip_serializing_if = "String::is_empty")]
    kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Empty>,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "is_zero")]
    code: i32,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Empty {}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

fn is_zero(code: &i32) -> bool {
    *code == 0
}

/// The body of a refusal to stream: a Status in JSON, for client-go reads any other text that YAML takes for a mapping
/// (`cannot upgrade: ...`) as a Status without a message, and shows nothing.
pub(crate) fn refusal(code: u16, why: &str) -> Vec<u8> {
    let status = Status {
        kind: "Status".into(),
        api_version: "v1".into(),
        metadata: Some(Empty {}),
        status: "Failure".into(),
        message: why.to_owned(),
        code: code.into(),
        ..Status::default()
    };
    serde_json::to_vec(&status).unwrap_or_default()
}

/// What a refusal's body says: a Status' message, or all of it.
pub(crate) fn why(body: &[u8]) -> String {
    match serde_json::from_slice::<Status>(body) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

const NON_ZERO_EXIT: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";

/// How versions 4 and 5 tell it: a Status in JSON, whatever happened.
pub(super) fn json(end: &Result<Exit, Failure>) -> Vec<u8> {
    let metadata = Some(Empty {});
    let status = match end {
        Ok(Exit(0)) => Status { metadata, status: "Success".into(), ..Status::default() },
        Ok(Exit(code)) => Status {
            metadata,
            status: "Failure".into(),
            message: exited(*code),
            reason: NON_ZERO_EXIT.into(),
            details: Some(Details {
                causes: vec![Cause { reason: EXIT_CODE.into(), message: code.to_string() }],
            }),
            ..Status::default()
        },
        Err(failure) => Status {
            metadata,
            status: "Failure".into(),
            message: failed(failure),
            reason: "InternalError".into(),
            code: 500,
            ..Status::default()
        },
    };
    serde_json::to_vec(&status).unwrap_or_default()
}

/// How older versions tell it: text, and nothing if all is well.
pub(super) fn text(end: &Result<Exit, Failure>) -> Vec<u8> {
    match end {
        Ok(Exit(0)) => Vec::new(),
        Ok(Exit(code)) => exited(*code).into_bytes(),
        Err(failure) => failed(failure).into_bytes(),
    }
}

fn exited(code: u8) -> String {
    format!("command terminated with non-zero exit code: {code}")
}

fn failed(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    format!("Internal error occurred: {text}")
}

/// Reads what versions 4 and 5 tell; the error is the server's message, or says that it is none.
pub(crate) fn parse(bytes: &[u8]) -> Result<Exit, String> {
    let status: Status = serde_json::from_slice(bytes)
        .map_err(|error| format!("cannot read the server's status {:?}: {error}", excerpt(bytes)))?;
    match status.status.as_str() {
        "Success" => Ok(Exit::SUCCESS),
        "Failure" if status.reason == NON_ZERO_EXIT => {
            let causes = status.details.unwrap_or_default().causes;
            let code = causes
                .iter()
                .find(|cause| cause.reason == EXIT_CODE)
                .and_then(|cause| cause.message.parse().ok());
            code.map(Exit).ok_or_else(|| "cannot read the server's status: it names no exit code".to_owned())
        }
        "Failure" => Err(status.message),
        other => {
            Err(format!("cannot read the server's status: it is {other:?}, neither Success nor Failure"))
        }
    }
}

fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_come_back() {
        for code in [0, 1, 137, 255] {
            assert_eq!(parse(&json(&Ok(Exit(code)))), Ok(Exit(code)));
        }
        let failure = parse(&json(&Err("no such container".into()))).expect_err("a failure");
        assert_eq!(failure, "Internal error occurred: no such container");
    }

    #[test]
    fn the_json_is_what_clients_read() {
        let status: serde_json::Value = serde_json::from_slice(&json(&Ok(Exit(3)))).expect("JSON");
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0]["reason"], "ExitCode");
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        assert_eq!(json(&Ok(Exit(0))), br#"{"metadata":{},"status":"Success"}"#);
    }

    #[test]
    fn a_refusal_is_a_status_with_all_of_its_text() {
        let body = refusal(404, "cannot upgrade: no such address");
        let status: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&status["kind"], &status["code"]), (&"Status".into(), &404.into()));
        assert_eq!(why(&body), "cannot upgrade: no such address");
        assert_eq!(why(b" plain: text\n"), "plain: text");
        assert_eq!(why(b"{}"), "{}");
    }

    #[test]
    fn older_versions_hear_of_failures_only() {
        assert_eq!(text(&Ok(Exit(0))), b"");
        assert_eq!(text(&Ok(Exit(2))), b"command terminated with non-zero exit code: 2");
    }

    #[test]
    fn a_status_that_is_none_is_said_to_be_none() {
        for wrong in
            ["", "x", "{}", r#"{"status":"Perhaps"}"#, r#"{"status":"Failure","reason":"NonZeroExitCode"}"#]
        {
            let said = parse(wrong.as_bytes()).expect_err(wrong);
            assert!(said.starts_with("cannot read the server's status"), "{said}");
        }
    }
}
