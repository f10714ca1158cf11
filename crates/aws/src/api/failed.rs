//! Why a call failed.

use super::xml::Refusal;

/// As much of a service's words is repeated, in characters.
const SHOWN: usize = 400;
/// What follows is for a program, and long.
const ENCODED: &str = "Encoded authorization failure message";

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The service was asked too often.
    Throttled,
    /// The credentials have not this right.
    NotAllowed,
    /// The credentials are not known, or wrong.
    NotKnown,
    /// They were good once.
    Expired,
    /// The service is in trouble.
    Trouble,
    /// Anything else that it says, by its code.
    Refused,
    /// Nobody answered.
    Lost,
    /// It is not known who asks, or where.
    NotAsked,
    /// What it answered is not understood.
    NotUnderstood,
}

/// A call that failed, for people and for who asks by code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {text}")]
pub(crate) struct Failed {
    pub(crate) kind: Kind,
    /// As IAM has it: `ec2:DescribeInstances`.
    pub(crate) action: String,
    /// The service's code; empty where it said none.
    pub(crate) code: String,
    text: String,
}

impl Failed {
    /// What a service has refused to whom has credentials of `source`.
    pub(crate) fn refused(action: &str, refusal: &Refusal, status: u16, source: &str) -> Self {
        let kind = kind(&refusal.code, status);
        // What was to be signed follows in some refusals, with the session's token in it.
        let words = refusal.message.split(ENCODED).next().unwrap_or_default();
        let words = words.split("The Canonical String").next().unwrap_or_default().trim();
        let words: String = words.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        let words = if words.is_empty() { "it says nothing more".to_owned() } else { words };
        let code = &refusal.code;
        let text = match kind {
            Kind::Throttled => format!("the account is asked too often ({code}): {words}"),
            Kind::NotAllowed => format!(
                "not allowed ({code}): {words}; allow {action} in the IAM policy of the credentials, which are those of {source}"
            ),
            Kind::NotKnown => {
                format!("the credentials are not accepted ({code}): {words}; they are those of {source}")
            }
            Kind::Expired => format!("the credentials have expired ({code}): they are those of {source}"),
            _ => format!("{code}: {words}"),
        };
        Self { kind, action: action.into(), code: code.clone(), text }
    }

    /// Nobody answered.
    pub(crate) fn lost(action: &str, why: &str) -> Self {
        Self { kind: Kind::Lost, action: action.into(), code: String::new(), text: why.into() }
    }

    /// It could not be asked.
    pub(crate) fn not_asked(action: &str, why: &str) -> Self {
        Self { kind: Kind::NotAsked, action: action.into(), code: String::new(), text: why.into() }
    }

    /// It was answered, but how.
    pub(crate) fn not_understood(action: &str, why: &str) -> Self {
        let why: String = why.chars().take(SHOWN).collect();
        let text = format!("the answer is not understood: {why}");
        Self { kind: Kind::NotUnderstood, action: action.into(), code: String::new(), text }
    }

    /// Whether the service said one of these codes.
    pub(crate) fn is(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }
}

/// What a code means. Some services put the kind before it.
fn kind(code: &str, status: u16) -> Kind {
    let code = code.strip_prefix("Client.").or_else(|| code.strip_prefix("Server.")).unwrap_or(code);
    match code {
        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "TooManyRequestsException"
        | "EC2ThrottledException"
        | "BandwidthLimitExceeded"
        | "SlowDown"
        | "PriorRequestNotComplete" => Kind::Throttled,
        "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" => Kind::NotAllowed,
        "AuthFailure"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException"
        | "MissingAuthenticationToken"
        | "IncompleteSignature"
        | "InvalidSignatureException"
        | "InvalidAccessKeyId" => Kind::NotKnown,
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => Kind::Expired,
        "InternalError"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestTimeout"
        | "RequestTimeoutException" => Kind::Trouble,
        _ if status == 429 => Kind::Throttled,
        _ if status >= 500 => Kind::Trouble,
        _ => Kind::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_right_is_named() {
        let message = "You are not authorized to perform this operation. Encoded authorization failure message: aGVsbG8";
        let refusal = Refusal { code: "UnauthorizedOperation".into(), message: message.into() };
        let failed = Failed::refused("ec2:DescribeInstances", &refusal, 403, "the environment");
        assert_eq!(failed.kind, Kind::NotAllowed);
        assert_eq!(
            failed.to_string(),
            "ec2:DescribeInstances: not allowed (UnauthorizedOperation): You are not authorized to perform this operation.; \
             allow ec2:DescribeInstances in the IAM policy of the credentials, which are those of the environment"
        );
    }

    #[test]
    fn kinds_by_code_and_status() {
        for (code, status, want) in [
            ("RequestLimitExceeded", 503, Kind::Throttled),
            ("Client.RequestLimitExceeded", 503, Kind::Throttled),
            ("AccessDenied", 403, Kind::NotAllowed),
            ("AuthFailure", 401, Kind::NotKnown),
            ("ExpiredToken", 400, Kind::Expired),
            ("Weird", 500, Kind::Trouble),
            ("Weird", 429, Kind::Throttled),
            ("InvalidInstanceID.NotFound", 400, Kind::Refused),
        ] {
            assert_eq!(kind(code, status), want, "{code} {status}");
        }
    }
}
