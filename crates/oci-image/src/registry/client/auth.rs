//! Authorization: Basic, and tokens of the registry's token service (distribution's token specification).

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{HeaderValue, Request};

use super::error::Answer;
use super::repository::Target;
use super::{Challenge, Client, Error, form, redirect, retry};
use crate::contract::Digest;
use crate::registry::credentials::Credential;
use crate::registry::hosts::{self, TlsFiles};

const CLIENT_ID: &str = "sextant";
const ANSWER_MAX: u64 = 1 << 20;
/// What the token specification says of a token without `expires_in`.
const TOKEN_LIFE: u64 = 60;
/// A token about to expire is not begun with.
const MARGIN: Duration = Duration::from_secs(5);

/// What is to be done, in the token service's words: `repository:library/busybox:pull`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope(Vec<String>);

impl Scope {
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    pub(super) fn pull(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull")])
    }

    pub(super) fn push(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:pull,push")])
    }

    pub(super) fn delete(repository: &str) -> Self {
        Self(vec![format!("repository:{repository}:delete,pull")])
    }

    pub(super) fn and_pull(mut self, repository: &str) -> Self {
        self.0.push(format!("repository:{repository}:pull"));
        self
    }
}

/// Whose token, for what, where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    endpoint: String,
    repository: String,
    scope: Scope,
    /// Fingerprint of the caller's own credential: tokens are not shared between callers.
    caller: Option<Digest>,
}

/// What was learnt from endpoints: their way of authorization, and tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    known: Mutex<HashMap<TokenKey, Authorization>>,
    /// The challenge of an endpoint, so that the next scope needs no 401.
    challenges: Mutex<HashMap<String, Challenge>>,
}

#[derive(Clone)]
struct Authorization {
    header: HeaderValue,
    until: Option<Instant>,
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorization").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn token_key(&self, target: &Target<'_>, scope: &Scope) -> TokenKey {
        let fingerprint = |credential: &Credential| match credential {
            Credential::Basic { username, password } => {
                Digest::sha256(format!("b{username}:{password}").as_bytes())
            }
            Credential::Identity(token) => Digest::sha256(format!("i{token}").as_bytes()),
            Credential::Bearer(token) => Digest::sha256(format!("t{token}").as_bytes()),
        };
        TokenKey {
            endpoint: target.url(),
            repository: target.repository.to_owned(),
            scope: scope.clone(),
            caller: self.credential.as_ref().map(fingerprint),
        }
    }

    /// The `Authorization` to send unasked: a known token, or a new one where the endpoint's way is known.
    pub(super) fn authorization(
        &self,
        target: &Target<'_>,
        key: &TokenKey,
    ) -> Result<Option<HeaderValue>, Error> {
        let tokens = &self.shared.tokens;
        let known = tokens.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(authorization) = known
            && authorization.until.is_none_or(|until| until > Instant::now() + MARGIN)
        {
            return Ok(Some(authorization.header));
        }
        let challenge =
            tokens.challenges.lock().unwrap_or_else(PoisonError::into_inner).get(&key.endpoint).cloned();
        match challenge {
            Some(challenge) => self.answer(target, key, &challenge),
            None => Ok(None),
        }
    }

    /// Answers a 401; false when there is no challenge we can answer, or no credentials to answer it with.
    pub(super) fn learn(
        &self,
        target: &Target<'_>,
        key: &TokenKey,
        challenges: Vec<Challenge>,
    ) -> Result<bool, Error> {
        let tokens = &self.shared.tokens;
        tokens.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let Some(challenge) = find("bearer").or_else(|| find("basic")) else { return Ok(false) };
        let answered = self.answer(target, key, challenge)?.is_some();
        if answered {
            let mut unscoped = challenge.clone();
            unscoped.parameters.remove("scope");
            let mut known = tokens.challenges.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(key.endpoint.clone(), unscoped);
        }
        Ok(answered)
    }

    fn answer(
        &self,
        target: &Target<'_>,
        key: &TokenKey,
        challenge: &Challenge,
    ) -> Result<Option<HeaderValue>, Error> {
        let credential = self.credential_for(target)?;
        let authorization = match (challenge.scheme.as_str(), credential) {
            ("basic", Some(Credential::Basic { username, password })) => {
                Authorization { header: basic(&username, &password)?, until: None }
            }
            ("basic", _) => return Ok(None),
            (_, Some(Credential::Bearer(token))) => {
                Authorization { header: bearer(target, &token)?, until: None }
            }
            (_, credential) => self.token(target, key, challenge, credential.as_ref())?,
        };
        let header = authorization.header.clone();
        let mut known = self.shared.tokens.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key.clone(), authorization);
        Ok(Some(header))
    }

    /// The caller's own credential for the registry itself; what files know for a mirror.
    pub(super) fn credential_for(&self, target: &Target<'_>) -> Result<Option<Credential>, Error> {
        let files = &self.config().credentials;
        Ok(match (target.endpoint.mirror, &self.credential) {
            (true, _) => files.find(&target.endpoint.authority, target.repository)?,
            (false, Some(own)) => Some(own.clone()),
            (false, None) => files.find(target.registry, target.repository)?,
        })
    }

    fn token(
        &self,
        target: &Target<'_>,
        key: &TokenKey,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<Authorization, Error> {
        let failed = |cause: String, transient| Error::Token {
            registry: target.endpoint.authority.clone(),
            realm: challenge.get("realm").unwrap_or_default().to_owned(),
            cause,
            transient,
        };
        let realm =
            challenge.get("realm").ok_or_else(|| failed("the challenge names no realm".into(), false))?;
        let (scheme, host, _) =
            redirect::origin(realm).ok_or_else(|| failed("the realm is no http(s) URL".into(), false))?;
        let plain_home = target.url().starts_with("http://");
        if credential.is_some() && scheme != "https" && !plain_home && !hosts::is_loopback(&host) {
            return Err(failed("it is plain http, and credentials are not sent there".into(), false));
        }
        let mut scopes = key.scope.0.clone();
        for scope in challenge.get("scope").unwrap_or_default().split(' ').filter(|scope| !scope.is_empty()) {
            if !scopes.iter().any(|known| known == scope) {
                scopes.push(scope.to_owned());
            }
        }
        let patience = &self.config().patience;
        let mut attempt = 0;
        loop {
            let (cause, transient, asked) = match self
                .ask_token(target, challenge, realm, &scopes, credential)
            {
                Ok(Ok(token)) => {
                    let until = Some(Instant::now() + Duration::from_secs(token.expires_in.max(TOKEN_LIFE)));
                    return Ok(Authorization { header: bearer(target, &token.text)?, until });
                }
                Ok(Err((status, cause, asked))) => (cause, retry::is_transient_status(status), asked),
                Err(error) => (error.to_string(), error.is_transient() && !error.is_refusal(), None),
            };
            match retry::pause(patience, attempt, asked).filter(|_| transient) {
                Some(pause) => std::thread::sleep(pause),
                None => return Err(failed(cause, transient)),
            }
            attempt += 1;
        }
    }

    /// A token, or the service's refusal: status, words, `Retry-After`.
    #[allow(clippy::type_complexity, reason = "a refusal of three parts, used once")]
    fn ask_token(
        &self,
        target: &Target<'_>,
        challenge: &Challenge,
        realm: &str,
        scopes: &[String],
        credential: Option<&Credential>,
    ) -> Result<Result<Token, (u16, String, Option<Duration>)>, super::TransportError> {
        let mut form: Vec<(&str, &str)> = Vec::new();
        form.extend(challenge.get("service").map(|service| ("service", service)));
        let joined = scopes.join(" ");
        let (mut get, mut post) = (Request::builder(), None);
        match credential {
            Some(Credential::Identity(token)) => {
                form.extend([
                    ("client_id", CLIENT_ID),
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token),
                ]);
                form.extend((!joined.is_empty()).then_some(("scope", joined.as_str())));
                post = Some(form::encode(&form));
            }
            other => {
                form.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
                if let Some(Credential::Basic { username, password }) = other {
                    form.push(("account", username));
                    let encoded = STANDARD.encode(format!("{username}:{password}"));
                    get = get.header("authorization", format!("Basic {encoded}"));
                }
            }
        }
        let same_host = redirect::origin(realm).map(|(_, host, _)| host)
            == redirect::origin(&target.url()).map(|(_, host, _)| host);
        // The realm's certificate may be the registry's; another host's client certificate is none of its business.
        let tls = match same_host {
            true => target.endpoint.tls.clone(),
            false => TlsFiles { client: Vec::new(), ..target.endpoint.tls.clone() },
        };
        let within = self.config().patience.headers;
        let built = |error: ureq::http::Error| super::TransportError::Request(error.to_string());
        let mut response = match &post {
            Some(text) => {
                let post = Request::post(realm).header("content-type", "application/x-www-form-urlencoded");
                self.shared.transport.send(&tls, None, post.body(text.as_str()).map_err(built)?, within)?
            }
            None => {
                let get = get.uri(form::with_query(realm, &form)).body(()).map_err(built)?;
                self.shared.transport.send(&tls, None, get, within)?
            }
        };
        let mut body = Vec::new();
        let read = response.body_mut().as_reader().take(ANSWER_MAX).read_to_end(&mut body);
        let status = response.status().as_u16();
        if !response.status().is_success() {
            let hint = if status == 401 { "; the user name or password is wrong" } else { "" };
            let cause = format!("it answered {status}{}{hint}", Answer::parse(&body));
            return Ok(Err((status, cause, retry::retry_after(response.headers()))));
        }
        read.map_err(super::TransportError::Io)?;
        Ok(Token::parse(&body).ok_or_else(|| (status, "its answer holds no token".to_owned(), None)))
    }
}

struct Token {
    text: String,
    expires_in: u64,
}

impl Token {
    fn parse(body: &[u8]) -> Option<Self> {
        let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
        let text =
            |name: &str| answer.get(name).and_then(|value| value.as_str()).filter(|text| !text.is_empty());
        let token = text("token").or_else(|| text("access_token"))?;
        let expires_in = answer.get("expires_in").and_then(serde_json::Value::as_u64).unwrap_or(TOKEN_LIFE);
        Some(Self { text: token.to_owned(), expires_in: expires_in.min(86_400) })
    }
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, Error> {
    let encoded = STANDARD.encode(format!("{username}:{password}"));
    sensitive(&format!("Basic {encoded}")).ok_or_else(|| Error::Answer {
        url: String::new(),
        fault: "the credentials cannot be sent in a header".to_owned(),
    })
}

fn bearer(target: &Target<'_>, token: &str) -> Result<HeaderValue, Error> {
    sensitive(&format!("Bearer {token}")).ok_or_else(|| Error::Answer {
        url: target.url(),
        fault: "the token cannot be sent in a header".to_owned(),
    })
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
