//! What would be tried for a reference, in which order and with which settings, without using the network.

use std::fmt;

use super::repository::{Repository, Target};
use super::{Client, Error};
use crate::reference::Reference;
use crate::registry::credentials::Credential;
use crate::registry::hosts::Endpoint;

/// The endpoints of a reference's registry, in the order in which they are tried.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The reference, complete.
    pub reference: Reference,
    /// What is tried, first to last.
    pub steps: Vec<Step>,
}

/// One endpoint and everything that decides how it is talked to.
#[derive(Debug, Clone)]
pub struct Step {
    /// The endpoint with its settings.
    pub endpoint: Endpoint,
    /// `user NAME`, `identity token`, `bearer token` or `none`.
    pub credential: String,
    /// The proxy's URL, without its password.
    pub proxy: Option<String>,
}

impl Client {
    /// Explains which endpoints a pull or push of `reference` would use. Credential helpers are asked.
    pub fn explain(&self, reference: &Reference) -> Result<Explanation, Error> {
        let repository = Repository::of(self, reference)?;
        let step = |target: Target<'_>| {
            let credential = match self.credential_for(&target)? {
                Some(Credential::Basic { username, .. }) => format!("user {username}"),
                Some(Credential::Identity(_)) => "identity token".to_owned(),
                Some(Credential::Bearer(_)) => "bearer token".to_owned(),
                None => "none".to_owned(),
            };
            let uri = target.endpoint.url().parse().ok();
            let proxy = uri.and_then(|uri| self.shared.transport.proxy_for(&uri).map(without_password));
            Ok(Step { endpoint: target.endpoint.clone(), credential, proxy })
        };
        let steps = repository.targets().map(step).collect::<Result<_, Error>>()?;
        Ok(Explanation { reference: reference.clone(), steps })
    }
}

fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    format!("{scheme}://{}", rest.rsplit_once('@').map_or(rest, |(_, host)| host))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.reference)?;
        for (number, step) in self.steps.iter().enumerate() {
            write!(f, "  {}. {step}", number + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = &self.endpoint;
        writeln!(f, "{} ({})", endpoint.url(), endpoint.capabilities)?;
        let mut line = |name: &str, text: String| writeln!(f, "       {name}: {text}");
        match &endpoint.origin {
            Some(path) => line("from", path.display().to_string())?,
            None => line("from", "built-in default".to_owned())?,
        }
        line("credential", self.credential.clone())?;
        if let Some(proxy) = &self.proxy {
            line("proxy", proxy.clone())?;
        }
        if endpoint.mirror {
            line("mirror", "the registry's own credentials are not sent to it".to_owned())?;
        }
        if let Some(namespace) = &endpoint.namespace {
            line("query", format!("?ns={namespace}"))?;
        }
        for ca in &endpoint.tls.ca {
            line("ca", ca.display().to_string())?;
        }
        for (certificate, _) in &endpoint.tls.client {
            line("client certificate", certificate.display().to_string())?;
        }
        if endpoint.tls.skip_verify {
            line("skip_verify", "any certificate is accepted".to_owned())?;
        }
        // Values may be secrets.
        for (name, _) in &endpoint.headers {
            line("header", name.clone())?;
        }
        if let Some(timeout) = endpoint.dial_timeout {
            line("dial_timeout", format!("{timeout:?}"))?;
        }
        if endpoint.http_fallback {
            line("plain http", "tried if TLS fails, this is loopback".to_owned())?;
        }
        Ok(())
    }
}
