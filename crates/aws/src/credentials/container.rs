//! Credentials that an agent on the host tells containers: EKS' pod identity, and ECS.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::{Credentials, told};
use crate::api::Exchange;
use crate::api::exchange::secret;
use crate::config::{Environment, url};

/// Where ECS' agent is.
const ECS: &str = "http://169.254.170.2";
/// Where agents may be without TLS: on this machine.
const NEAR: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
const PATIENCE: Duration = Duration::from_secs(5);

/// How containers prove themselves to it.
#[derive(PartialEq, Eq)]
enum Proof {
    None,
    Text(String),
    File(PathBuf),
}

/// Where the agent is.
pub(super) struct Place {
    pub(super) url: http::Uri,
    proof: Proof,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Place {
    /// What the environment says; `None` where that is nothing.
    pub(super) fn of(environment: &Environment) -> Result<Option<Self>, String> {
        let (name, text) = match (
            environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ) {
            (Some(path), _) => ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", format!("{ECS}{path}")),
            (None, Some(text)) => ("AWS_CONTAINER_CREDENTIALS_FULL_URI", text.to_owned()),
            (None, None) => return Ok(None),
        };
        let url = url(&text).map_err(|why| format!("{name}: {why}"))?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_near = host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || NEAR.contains(&host);
        if url.scheme_str() != Some("https") && !is_near {
            return Err(format!("{name}: {url} must be https, as it is not on this machine"));
        }
        let proof = match (
            environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        ) {
            (Some(file), _) => Proof::File(file.into()),
            (None, Some(text)) => Proof::Text(text.into()),
            (None, None) => Proof::None,
        };
        Ok(Some(Self { url, proof }))
    }
}

pub(super) async fn fetch(exchange: &Exchange, place: &Place) -> Result<Credentials, String> {
    let proof = match &place.proof {
        Proof::None => None,
        Proof::Text(text) => Some(text.clone()),
        Proof::File(file) => {
            let read = tokio::fs::read_to_string(file).await;
            Some(read.map_err(|e| format!("cannot read {}: {e}", file.display()))?.trim().to_owned())
        }
    };
    let mut request = Request::get(place.url.clone());
    if let Some(proof) = proof {
        request = request.header("authorization", secret(&proof)?);
    }
    let request = request.body(Full::new(Bytes::new())).map_err(|e| e.to_string())?;
    let answer = exchange.http.send(request, PATIENCE).await?;
    if !answer.status.is_success() {
        return Err(format!("it answers with status {}", answer.status.as_u16()));
    }
    told(&answer.body)
}
