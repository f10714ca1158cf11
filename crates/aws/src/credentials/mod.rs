//! Who asks: found once, and found anew before they expire. Secrets are shown nowhere.

mod container;
pub(crate) mod metadata;
mod select;
mod sts;

pub(crate) use self::sts::role;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::select::Source;
use crate::api::Exchange;

/// New ones are asked for so long before these expire.
const EARLY: SignedDuration = SignedDuration::from_secs(300);
/// Where new ones were not to be had, they are asked for again after this.
const PAUSE: Duration = Duration::from_secs(20);
/// Who asks within this after a failure, or has waited for what failed, is told the same where there are no old ones.
const SAME: Duration = Duration::from_secs(2);

/// By what requests are signed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    pub(crate) token: Option<String>,
    pub(crate) expires: Option<Timestamp>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Credentials {
    pub(crate) fn new(access_key: &str, secret_key: &str) -> Self {
        Self { access_key: access_key.into(), secret_key: secret_key.into(), token: None, expires: None }
    }

    fn is_good(&self, now: Timestamp, early: SignedDuration) -> bool {
        self.expires.is_none_or(|expires| now.duration_until(expires) > early)
    }
}

/// Credentials as the metadata service and containers' agents tell them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    access_key_id: String,
    #[serde(default)]
    secret_access_key: String,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    expiration: Option<String>,
}

/// Reads what is told. The text is not repeated in errors.
pub(crate) fn told(text: &[u8]) -> Result<Credentials, String> {
    let told: Told = serde_json::from_slice(text)
        .map_err(|_| "what is told of credentials is not the JSON that it should be")?;
    if let Some(code) = told.code.filter(|code| code != "Success") {
        let code: String = code.chars().take(20).collect();
        return Err(format!("no credentials are told, but {code:?}"));
    }
    filled(&told.access_key_id, &told.secret_access_key, told.token.as_deref(), told.expiration.as_deref())
}

/// Credentials of their parts, of which none may be missing but those that may.
fn filled(
    access_key: &str,
    secret_key: &str,
    token: Option<&str>,
    expires: Option<&str>,
) -> Result<Credentials, String> {
    if access_key.is_empty() || secret_key.is_empty() {
        return Err("the credentials that are told have no access key or no secret key".into());
    }
    let expires = match expires.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|_| "the credentials that are told expire at no time that is one")?)
        }
    };
    let token = token.filter(|token| !token.is_empty()).map(str::to_owned);
    Ok(Credentials { token, expires, ..Credentials::new(access_key, secret_key) })
}

/// What is known now.
#[derive(Debug, Default)]
struct Held {
    credentials: Option<Arc<Credentials>>,
    /// When new ones were asked for in vain, and why.
    failed: Option<(Instant, String)>,
}

/// Where credentials come from, and those that came last.
#[derive(Debug)]
pub(crate) struct Chain {
    exchange: Exchange,
    source: Source,
    told: String,
    held: Mutex<Held>,
}

impl Chain {
    /// Finds out where they come from.
    ///
    /// # Errors
    /// What is configured is wrong, or is not supported.
    pub(crate) fn new(exchange: &Exchange) -> Result<Self, String> {
        let source = select::select(&exchange.environment, &exchange.config)?;
        let told = source.to_string();
        Ok(Self { exchange: exchange.clone(), source, told, held: Mutex::default() })
    }

    /// Where they come from, for people.
    pub(crate) fn source(&self) -> &str {
        &self.told
    }

    /// Credentials that are good for a while.
    ///
    /// # Errors
    /// There are none.
    pub(crate) async fn get(&self, region: &str) -> Result<Arc<Credentials>, String> {
        let came = Instant::now();
        let mut held = self.held.lock().await;
        let now = Timestamp::now();
        let usable = |early| held.credentials.clone().filter(|one| one.is_good(now, early));
        if let Some(good) = usable(EARLY) {
            return Ok(good);
        }
        let last = usable(SignedDuration::from_secs(10));
        if let Some((failed, why)) = &held.failed {
            match &last {
                Some(last) if failed.elapsed() < PAUSE => return Ok(last.clone()),
                // A place that does not answer takes its time, and those who wait here would each ask it in turn.
                None if came.saturating_duration_since(*failed) < SAME => return Err(why.clone()),
                _ => {}
            }
        }
        match self.source.fetch(&self.exchange, region).await {
            Ok(new) => {
                let new = Arc::new(new);
                *held = Held { credentials: Some(new.clone()), failed: None };
                Ok(new)
            }
            Err(why) => {
                let why = format!("cannot get credentials from {}: {why}", self.told);
                held.failed = Some((Instant::now(), why.clone()));
                last.ok_or(why)
            }
        }
    }

    /// Drops credentials that a service has said to be expired.
    pub(crate) async fn forget(&self, which: &Arc<Credentials>) {
        let mut held = self.held.lock().await;
        if held.credentials.as_ref().is_some_and(|held| Arc::ptr_eq(held, which)) {
            // A failure of before says nothing of what is asked for now.
            *held = Held::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use testkit::faulty::{Faulty, answer};

    use super::*;
    use crate::config::{Config, Environment};

    /// A chain whose credentials an agent tells, here: one that fails.
    fn chain(agent: &Faulty) -> Chain {
        let at = format!("http://{}/", agent.addr);
        let environment: Environment =
            [("AWS_CONTAINER_CREDENTIALS_FULL_URI", at.as_str())].into_iter().collect();
        let http = crate::api::http::Http::new(None).unwrap();
        let (config, environment) = (Arc::new(Config::default()), Arc::new(environment));
        Chain::new(&Exchange { http, config, environment }).unwrap()
    }

    #[tokio::test]
    async fn who_waits_for_what_fails_is_told_so() {
        let agent = Faulty::start(|_, _, stream| answer(stream, 500, "", b""));
        let chain = chain(&agent);
        // All are there before the first is answered.
        let told = futures_util::future::join_all((0..10).map(|_| chain.get("r"))).await;
        assert!(told.iter().all(|one| one.as_ref().is_err_and(|why| why.contains("status 500"))), "{told:?}");
        assert_eq!(agent.requests(), 1);
        // Later it is asked again.
        let before = Instant::now().checked_sub(SAME).unwrap();
        chain.held.lock().await.failed.as_mut().unwrap().0 = before;
        assert!(chain.get("r").await.is_err());
        assert_eq!(agent.requests(), 2);
    }

    #[tokio::test]
    async fn a_failure_of_before_does_not_stand_in_the_way() {
        let agent = Faulty::start(|_, _, stream| answer(stream, 500, "", b""));
        let chain = chain(&agent);
        let soon = Timestamp::now() + SignedDuration::from_secs(200);
        let old = Arc::new(Credentials { expires: Some(soon), ..Credentials::new("A", "S") });
        chain.held.lock().await.credentials = Some(old.clone());
        assert_eq!(chain.get("r").await.as_ref(), Ok(&old), "old ones are used as long as they are good");
        assert_eq!(agent.requests(), 1);
        chain.forget(&old).await;
        assert!(chain.get("r").await.is_err());
        assert_eq!(agent.requests(), 2);
    }

    #[test]
    fn what_is_told_of_credentials() {
        let text = br#"{"Code":"Success","AccessKeyId":"A","SecretAccessKey":"hush","Token":"hushhush","Expiration":"2030-01-01T00:00:00Z","More":1}"#;
        let found = told(text).unwrap();
        assert_eq!((found.access_key.as_str(), found.token.as_deref()), ("A", Some("hushhush")));
        assert!(!format!("{found:?}").contains("hush"));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(found.is_good(at("2029-12-31T23:00:00Z"), EARLY));
        assert!(!found.is_good(at("2029-12-31T23:56:00Z"), EARLY));
        for (text, why) in [
            ("hush", "is not the JSON"),
            (r#"{"Code":"Failed"}"#, "\"Failed\""),
            (r#"{"AccessKeyId":"hush"}"#, "no access key or no secret key"),
            (r#"{"AccessKeyId":"a","SecretAccessKey":"hush","Expiration":"soon"}"#, "expire at no time"),
        ] {
            let error = told(text.as_bytes()).unwrap_err();
            assert!(error.contains(why) && !error.contains("hush"), "{error}");
        }
    }
}
