//! AWS as far as the provider has to know who it is: STS, the metadata service, a container's agent, and an EC2 without instances.
//!
//! Whoever has an access key `K` here has the secret `hush-K`, and if it was given out here, the token `token-K`.

use std::sync::{Arc, Mutex, MutexGuard};

use aws::{Aws, Environment};
use aws_lc_rs::{digest, hmac};
use cpi::contract::CloudProvider as _;
use jiff::{SignedDuration, Timestamp};
use testkit::faulty::{Faulty, answer};

pub(crate) const REGION: (&str, &str) = ("AWS_REGION", "eu-central-1");
/// The metadata service is not asked.
pub(crate) const OFF: (&str, &str) = ("AWS_EC2_METADATA_DISABLED", "true");
/// What containers prove themselves by to the agent.
pub(crate) const PROOF: &str = "Bearer proof-1";

/// What was heard, and what is answered otherwise than it should be.
#[derive(Default)]
pub(crate) struct State {
    heard: Vec<String>,
    refusals: Vec<(String, u16, String)>,
    /// So many keys were given out.
    given: u32,
    /// For so many seconds those that are given out are good.
    good_for: i64,
}

/// The server, on loopback.
pub(crate) struct World {
    server: Faulty,
    state: Arc<Mutex<State>>,
}

impl World {
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State { good_for: 3600, ..State::default() }));
        let its = state.clone();
        let server = Faulty::start(move |_, head, stream| {
            let (status, text) = answered(&its, head);
            answer(stream, status, "", text.as_bytes());
        });
        Self { server, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// For who answers in its place.
    pub(crate) fn shared(&self) -> Arc<Mutex<State>> {
        self.state.clone()
    }

    /// Where it is.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.addr)
    }

    /// What was heard since this was last asked.
    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.state().heard)
    }

    /// What begins so is answered otherwise, once.
    pub(crate) fn refuse(&self, what: &str, status: u16, text: &str) {
        self.state().refusals.push((what.into(), status, text.into()));
    }

    /// What is given out from now on is good for so many seconds.
    pub(crate) fn good_for(&self, seconds: i64) {
        self.state().good_for = seconds;
    }

    /// A provider with these variables in its environment, whose services are here.
    pub(crate) fn provider(&self, config: &str, variables: &[(&str, &str)]) -> Aws {
        let at = self.at("");
        let here = [("AWS_ENDPOINT_URL", at.as_str())];
        let environment: Environment = here.into_iter().chain(variables.iter().copied()).collect();
        Aws::new(config.parse().unwrap(), environment).unwrap()
    }
}

/// A call that everybody may make who is known.
pub(crate) async fn ask(provider: &Aws) -> Result<(), String> {
    provider.initialize("shop").await.map_err(|error| error.to_string())
}

/// What AWS says where it refuses.
pub(crate) fn refusal(code: &str) -> String {
    format!("<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors></Response>")
}

/// A header's value.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.split("\r\n\r\n").next()?.split("\r\n");
    lines.filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// A field of a form, as far as that needs no decoding beyond this test's own values.
fn field(body: &str, name: &str) -> Option<String> {
    let value = body.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.replace("%3A", ":").replace("%2F", "/"))
}

/// What is answered to a request; `head` is all of it.
pub(crate) fn answered(state: &Mutex<State>, head: &str) -> (u16, String) {
    let mut state = state.lock().unwrap();
    let line = head.split(" HTTP/1.1").next().unwrap_or_default().to_owned();
    let body = head.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let action = field(body, "Action");
    let what = match &action {
        None => line.clone(),
        Some(action) => {
            let mut words = vec![action.clone()];
            let role = field(body, "RoleArn").and_then(|arn| Some(arn.rsplit_once('/')?.1.to_owned()));
            words.extend(role);
            words.extend(field(body, "ExternalId"));
            words.extend(field(body, "WebIdentityToken"));
            words.extend(["by".to_owned(), who(head)]);
            words.join(" ")
        }
    };
    state.heard.push(what.clone());
    if let Some(at) = state.refusals.iter().position(|(begins, _, _)| what.starts_with(begins.as_str())) {
        let (_, status, text) = state.refusals.remove(at);
        return (status, text);
    }
    if what.ends_with("by a forger") {
        return (403, refusal("SignatureDoesNotMatch"));
    }
    match action.as_deref() {
        Some("DescribeInstances") if !what.ends_with("by nobody") => {
            (200, "<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>".into())
        }
        Some("AssumeRole") if what.ends_with("by nobody") => (403, refusal("MissingAuthenticationToken")),
        Some(action @ ("AssumeRole" | "AssumeRoleWithWebIdentity")) => {
            let role = what.split(' ').nth(1).unwrap_or_default().to_owned();
            let (key, expires) = state.given(&role);
            let credentials = format!(
                "<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>hush-{key}</SecretAccessKey>\
                 <SessionToken>token-{key}</SessionToken><Expiration>{expires}</Expiration>"
            );
            let result = format!("<{action}Result><Credentials>{credentials}</Credentials></{action}Result>");
            (200, format!("<{action}Response>{result}</{action}Response>"))
        }
        Some(_) => (403, refusal("UnauthorizedOperation")),
        None => metadata(&mut state, &line, head),
    }
}

/// The metadata service, in its second version alone, and a container's agent.
fn metadata(state: &mut State, line: &str, head: &str) -> (u16, String) {
    const ROLES: &str = "GET /latest/meta-data/iam/security-credentials/";
    if line == "GET /v1/credentials" {
        return match header(head, "authorization") {
            Some(PROOF) => (200, state.told("agent")),
            _ => (401, String::new()),
        };
    }
    if line == "PUT /latest/api/token" {
        return match header(head, "x-aws-ec2-metadata-token-ttl-seconds") {
            Some(_) => (200, "session".into()),
            None => (400, String::new()),
        };
    }
    if header(head, "x-aws-ec2-metadata-token") != Some("session") {
        return (401, String::new());
    }
    match line {
        "GET /latest/meta-data/placement/region" => (200, "eu-north-1".into()),
        ROLES => (200, "worker\n".into()),
        line if line.strip_prefix(ROLES) == Some("worker") => (200, state.told("instance")),
        _ => (404, String::new()),
    }
}

impl State {
    /// A new access key of this name, and when it expires.
    fn given(&mut self, name: &str) -> (String, Timestamp) {
        self.given += 1;
        let at = Timestamp::now() + SignedDuration::from_secs(self.good_for);
        (format!("{name}-{}", self.given), at)
    }

    fn told(&mut self, name: &str) -> String {
        let (key, expires) = self.given(name);
        format!(
            r#"{{"Code":"Success","AccessKeyId":"{key}","SecretAccessKey":"hush-{key}","Token":"token-{key}","Expiration":"{expires}"}}"#
        )
    }
}

/// Who has signed a request, and for what: `web-1 for eu-central-1/ec2`; `nobody`, or `a forger`.
fn who(head: &str) -> String {
    let Some(text) = header(head, "authorization") else { return "nobody".into() };
    signed(head, text).unwrap_or_else(|| "a forger".into())
}

/// As AWS documents it under "Create a signed AWS API request".
fn signed(head: &str, authorization: &str) -> Option<String> {
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(name)?;
        rest.split(',').next()
    };
    let (credential, names) = (part("Credential=")?, part("SignedHeaders=")?);
    let (key, scope) = credential.split_once('/')?;
    let [day, region, service, "aws4_request"] = scope.split('/').collect::<Vec<_>>()[..] else {
        return None;
    };
    let is_given = key.contains('-');
    if header(head, "x-amz-security-token") != is_given.then(|| format!("token-{key}")).as_deref() {
        return None;
    }
    // What proves nothing of the request is no signature of it.
    let must: &[&str] = &["host", "x-amz-date"];
    let is_signed = |name: &str| names.split(';').any(|one| one == name);
    if !must.iter().all(|name| is_signed(name)) || is_given && !is_signed("x-amz-security-token") {
        return None;
    }
    let mut headers = String::new();
    for name in names.split(';') {
        headers += &format!("{name}:{}\n", header(head, name)?);
    }
    let (line, body) = (head.split("\r\n").next()?, head.split_once("\r\n\r\n")?.1);
    let [method, path, _] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    let canonical = format!("{method}\n{path}\n\n{headers}\n{names}\n{}", hash(body.as_bytes()));
    let date = header(head, "x-amz-date").filter(|date| date.starts_with(day))?;
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(canonical.as_bytes()));
    let secret = format!("AWS4hush-{key}").into_bytes();
    let chain = [day, region, service, "aws4_request", text.as_str()];
    let signature = chain.iter().fold(secret, |key, part| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec()
    });
    (part("Signature=")? == hex(&signature)).then(|| format!("{key} for {region}/{service}"))
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
