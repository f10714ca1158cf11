//! Signature Version 4: what a request is signed with, so that AWS knows who asks.
//!
//! AWS documents it under "Create a signed AWS API request". Only headers are signed, as our requests are forms that are posted.

use aws_lc_rs::{digest, hmac};
use jiff::Timestamp;

use crate::credentials::Credentials;

/// What is signed of a request. A session's token is among the headers, so it is not shown.
pub(crate) struct Signed<'a> {
    /// `GET` or `POST`.
    pub(crate) method: &'a str,
    /// The path, as it is sent.
    pub(crate) path: &'a str,
    /// Lower-case names and values, all of which are signed; `host` is among them.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// What is sent.
    pub(crate) body: &'a [u8],
}

/// For what a signature holds, besides the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// As `eu-central-1`.
    pub(crate) region: &'a str,
    /// As `ec2`.
    pub(crate) service: &'a str,
    /// When it is signed.
    pub(crate) at: Timestamp,
}

/// How moments are written in headers: `20150830T123600Z`.
pub(crate) fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The value of the header `authorization`. `x-amz-date` has to be among the headers, and the session's token, if there is one.
pub(crate) fn authorization(request: &Signed<'_>, scope: Scope<'_>, credentials: &Credentials) -> String {
    let mut headers: Vec<(&str, String)> =
        request.headers.iter().map(|(name, value)| (*name, trimmed(value))).collect();
    headers.sort();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let listed: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let (method, path, body) = (request.method, request.path, hash(request.body));
    let canonical = format!("{method}\n{path}\n\n{listed}\n{names}\n{body}");
    let at = stamp(scope.at);
    let day = at.get(..8).unwrap_or_default();
    let within = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let text = format!("AWS4-HMAC-SHA256\n{at}\n{within}\n{}", hash(canonical.as_bytes()));
    let secret = format!("AWS4{}", credentials.secret_key);
    let key = [day, scope.region, scope.service, "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| keyed(&key, part.as_bytes()));
    let signature = hex(&keyed(&key, text.as_bytes()));
    let who = &credentials.access_key;
    format!("AWS4-HMAC-SHA256 Credential={who}/{within}, SignedHeaders={names}, Signature={signature}")
}

/// A header's value as it is signed: without spaces around it, and one for each row of them within.
fn trimmed(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

fn keyed(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

/// SHA-256 in hexadecimal.
pub(crate) fn hash(data: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, data).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(request: &Signed<'_>) -> String {
        let at = "2015-08-30T12:36:00Z".parse().unwrap();
        let credentials = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let scope = Scope { region: "us-east-1", service: "service", at };
        let text = authorization(request, scope, &credentials);
        let begin =
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=";
        assert!(text.starts_with(begin), "{text}");
        text.rsplit_once("Signature=").unwrap().1.into()
    }

    /// AWS's public test suite of Signature Version 4: the cases that are within what is signed here.
    #[test]
    fn signatures_are_those_of_the_public_test_suite() {
        let base = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        let get =
            |headers: &[(&str, &str)]| signature(&Signed { method: "GET", path: "/", headers, body: b"" });
        // get-vanilla
        assert_eq!(get(&base), "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
        // get-header-value-trim
        let trim = [base[0], ("my-header1", " value1"), ("my-header2", "  \"a   b   c\""), base[1]];
        assert_eq!(get(&trim), "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736");
        // post-vanilla
        let post = Signed { method: "POST", path: "/", headers: &base, body: b"" };
        assert_eq!(signature(&post), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
        // post-x-www-form-urlencoded
        let form = [("content-type", "application/x-www-form-urlencoded"), base[1], base[0]];
        let post = Signed { method: "POST", path: "/", headers: &form, body: b"Param1=value1" };
        assert_eq!(signature(&post), "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a");
    }

    #[test]
    fn another_secret_body_or_token_is_another_signature() {
        let base = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        let one = signature(&Signed { method: "POST", path: "/", headers: &base, body: b"a" });
        let two = signature(&Signed { method: "POST", path: "/", headers: &base, body: b"b" });
        let tokened = [base[0], base[1], ("x-amz-security-token", "t")];
        let three = signature(&Signed { method: "POST", path: "/", headers: &tokened, body: b"a" });
        assert!(one != two && one != three && two != three);
    }
}
