//! The metadata service of the instance that this runs on, in its second version: with a token for a session.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;

use super::{Credentials, told};
use crate::api::exchange::secret;
use crate::api::{Exchange, pause};
use crate::config::url;

const V4: &str = "http://169.254.169.254";
const V6: &str = "http://[fd00:ec2::254]";
/// Where it is, it is near.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: u32 = 3;
const ROLES: &str = "iam/security-credentials/";

/// What is at a path below `meta-data`.
pub(crate) async fn read(exchange: &Exchange, path: &str) -> Result<String, String> {
    let answer = Session::open(exchange).await?.get(path).await?;
    let text = String::from_utf8(answer.to_vec());
    text.map(|text| text.trim().to_owned()).map_err(|_| format!("{path} of the metadata service is no text"))
}

/// The credentials of the instance's role.
pub(super) async fn credentials(exchange: &Exchange) -> Result<Credentials, String> {
    let session = Session::open(exchange).await?;
    let roles = session.get(ROLES).await?;
    let roles = String::from_utf8_lossy(&roles);
    let role = roles.lines().next().unwrap_or_default().trim();
    let is_one = |c: u8| c.is_ascii_alphanumeric() || b"_+=,.@-".contains(&c);
    if role.is_empty() || !role.bytes().all(is_one) {
        return Err("the instance has no role; give it an instance profile".into());
    }
    told(&session.get(&format!("{ROLES}{role}")).await?)
}

struct Session<'a> {
    exchange: &'a Exchange,
    base: String,
    token: String,
}

impl<'a> Session<'a> {
    async fn open(exchange: &'a Exchange) -> Result<Self, String> {
        let environment = &exchange.environment;
        if environment.says("AWS_EC2_METADATA_DISABLED") {
            return Err("the metadata service is not asked, as AWS_EC2_METADATA_DISABLED says so".into());
        }
        let base = match environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            Some(text) => {
                url(text).map_err(|why| format!("AWS_EC2_METADATA_SERVICE_ENDPOINT: {why}"))?.to_string()
            }
            None if environment
                .get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
                .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6")) =>
            {
                V6.into()
            }
            None => V4.into(),
        };
        let base = base.trim_end_matches('/').to_owned();
        let mut session = Self { exchange, base, token: String::new() };
        let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "300");
        let token = session.ask(Method::PUT, "/latest/api/token", ttl).await?;
        session.token = String::from_utf8(token.to_vec())
            .map_err(|_| "the metadata service gives a token that is no text".to_owned())?;
        Ok(session)
    }

    async fn get(&self, path: &str) -> Result<Bytes, String> {
        let token = ("x-aws-ec2-metadata-token", self.token.as_str());
        self.ask(Method::GET, &format!("/latest/meta-data/{path}"), token).await
    }

    async fn ask(&self, method: Method, path: &str, header: (&str, &str)) -> Result<Bytes, String> {
        let mut why = String::new();
        for tried in 0..TRIES {
            if tried > 0 {
                tokio::time::sleep(pause(tried)).await;
            }
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("{}{path}", self.base))
                .header(header.0, secret(header.1)?)
                .body(Full::new(Bytes::new()));
            let request = request.map_err(|e| format!("cannot ask {}{path}: {e}", self.base))?;
            match self.exchange.http.send(request, PATIENCE).await {
                Ok(answer) if answer.status.is_success() => return Ok(answer.body),
                Ok(answer) if answer.status.is_server_error() || answer.status.as_u16() == 429 => {
                    why = format!("status {}", answer.status.as_u16());
                }
                Ok(answer) => {
                    let status = answer.status.as_u16();
                    return Err(format!(
                        "the metadata service at {} answers {path} with status {status}",
                        self.base
                    ));
                }
                Err(lost) => {
                    // Off EC2 nobody is there, and nobody will be.
                    return Err(format!("no metadata service answers at {}: {lost}", self.base));
                }
            }
        }
        Err(format!("the metadata service at {} does not answer {path}: {why}", self.base))
    }
}
