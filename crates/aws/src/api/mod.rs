//! AWS' query protocol: calls that are signed, tried again where that helps, and not made too fast.

pub(crate) mod endpoint;
pub(crate) mod exchange;
pub(crate) mod failed;
pub(crate) mod form;
pub(crate) mod http;
mod pace;
pub(crate) mod sign;
pub(crate) mod xml;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::exchange::Outcome;
pub(crate) use self::exchange::{Call, Exchange};
pub(crate) use self::failed::{Failed, Kind};
pub(crate) use self::form::Form;
use self::pace::Pace;
pub(crate) use self::xml::Element;
use crate::config::{Config, Environment, Service};
use crate::credentials::{Chain, metadata};

/// So often is a call tried.
const TRIES: u32 = 6;
/// How long is waited before the second try; twice as long before each further one.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest of these waits.
const LONGEST: Duration = Duration::from_secs(5);
/// A list has no more pages than this.
const PAGES: usize = 500;
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// No try begins later than this after the first: controllers wait for a minute.
const WHOLE: Duration = Duration::from_secs(35);

/// Who calls.
#[derive(Debug)]
pub(crate) struct Client {
    exchange: Exchange,
    chain: Chain,
    region: OnceCell<String>,
    /// Of the services that are called by [`call`](Self::call).
    paces: [(Service, Pace); 2],
}

impl Client {
    /// # Errors
    /// What is configured cannot be used: a text for people.
    pub(crate) fn new(config: Arc<Config>, environment: Arc<Environment>) -> Result<Self, String> {
        for name in ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"] {
            if environment.says(name) {
                return Err(format!(
                    "{name} is not supported: name the services' addresses by AWS_ENDPOINT_URL_EC2 and \
                     AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2 instead"
                ));
            }
        }
        let bundle = environment.get("AWS_CA_BUNDLE").map(std::path::PathBuf::from);
        let http = http::Http::new(bundle.as_deref())?;
        let exchange = Exchange { http, config, environment };
        let chain = Chain::new(&exchange)?;
        let paces = [(Service::Ec2, Pace::new(100, 20)), (Service::Elb, Pace::new(40, 10))];
        Ok(Self { exchange, chain, region: OnceCell::new(), paces })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.exchange.config
    }

    /// The region: the configuration's, the environment's, the profile's, or that of the instance that this runs on.
    ///
    /// # Errors
    /// Nobody says which.
    pub(crate) async fn region(&self) -> Result<&str, String> {
        self.region.get_or_try_init(|| region(&self.exchange)).await.map(String::as_str)
    }

    /// What the metadata service of the instance that this runs on says.
    ///
    /// # Errors
    /// It says nothing, or is not asked.
    pub(crate) async fn own(&self, path: &str) -> Result<String, String> {
        metadata::read(&self.exchange, path).await
    }

    /// Calls a service, and reads its answer.
    ///
    /// What may help is tried again, also where an answer was lost, unless the form says otherwise: each call may come twice.
    ///
    /// # Errors
    /// Why it failed at last.
    pub(crate) async fn call<T>(
        &self,
        service: Service,
        action: &str,
        form: Form,
        read: impl FnOnce(Element<'_>) -> T,
    ) -> Result<T, Failed> {
        let call = Call { service, action, form: &form };
        let right = call.right();
        let text = self.answered(call, &right).await?;
        xml::read(&text, read).map_err(|why| Failed::not_understood(&right, &why))
    }

    /// All pages of a list. `read` says what a page has, and what the next one is asked for by, as the parameter `token`.
    ///
    /// # Errors
    /// Why a page could not be had, or there is no end of them.
    pub(crate) async fn pages<T>(
        &self,
        service: Service,
        action: &str,
        form: Form,
        token: &str,
        read: impl Fn(Element<'_>) -> (Vec<T>, String),
    ) -> Result<Vec<T>, Failed> {
        let right = Call { service, action, form: &form }.right();
        let (mut all, mut next) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let form = if next.is_empty() { form.clone() } else { form.clone().with(token, &next) };
            let (page, more) = self.call(service, action, form, &read).await?;
            all.extend(page);
            if more.is_empty() || more == next {
                return Ok(all);
            }
            next = more;
        }
        Err(Failed::not_understood(&right, "its pages have no end"))
    }

    async fn answered(&self, call: Call<'_>, right: &str) -> Result<String, Failed> {
        let not_asked = |why: String| Failed::not_asked(right, &why);
        let region = self.region().await.map_err(not_asked)?;
        let began = Instant::now();
        let pace = self.paces.iter().find(|(service, _)| *service == call.service).map(|(_, pace)| pace);
        let mut tried = 0;
        loop {
            if let Some(pace) = pace {
                pace.take().await;
            }
            let credentials = self.chain.get(region).await.map_err(not_asked)?;
            let sent =
                self.exchange.send(call, region, Some(&credentials), PATIENCE).await.map_err(not_asked)?;
            let (failed, after) = match sent {
                Outcome::Answered(text) => return Ok(text),
                Outcome::Refused(refusal, status, after) => {
                    (Failed::refused(right, &refusal, status, self.chain.source()), after)
                }
                Outcome::Lost(why) => (Failed::lost(right, &why), None),
            };
            tried += 1;
            match failed.kind {
                Kind::Throttled => pace.into_iter().for_each(Pace::drain),
                // Somebody has taken them back before their time.
                Kind::Expired if tried == 1 => self.chain.forget(&credentials).await,
                Kind::Lost if call.form.is_once() => return Err(failed),
                Kind::Trouble | Kind::Lost => {}
                _ => return Err(failed),
            }
            let pause = pause(tried).max(after.unwrap_or_default());
            if tried >= TRIES || began.elapsed().saturating_add(pause) > WHOLE {
                return Err(failed);
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// How long to wait after so many tries: not all who were refused at once come back at once.
pub(crate) fn pause(tried: u32) -> Duration {
    let whole = PAUSE.saturating_mul(2_u32.saturating_pow(tried.saturating_sub(1).min(10))).min(LONGEST);
    let mut random = [0; 4];
    // Without randomness it is the longest wait.
    let share = match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    whole.mul_f64(0.5 + share / 2.0)
}

async fn region(exchange: &Exchange) -> Result<String, String> {
    if let Some(region) = &exchange.config.region {
        return Ok(region.clone());
    }
    let environment = &exchange.environment;
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(value) = environment.get(name) {
            return crate::config::region(value).map_err(|why| format!("{name}: {why}"));
        }
    }
    let (profile, _) = environment.profile();
    if let Some(settings) = environment.settings(profile)?
        && let Some(value) = settings.get("region")
    {
        return crate::config::region(value).map_err(|why| format!("profile {profile}: region: {why}"));
    }
    let told = metadata::read(exchange, "placement/region").await.map_err(|why| {
        format!("cannot find the region: set Region in --cloud-config, or AWS_REGION (this machine does not tell: {why})")
    })?;
    crate::config::region(&told).map_err(|why| format!("this machine's metadata: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        for (tried, most) in [(1, 200), (2, 400), (3, 800), (30, 5000)] {
            let pause = pause(tried).as_millis();
            assert!((most / 2..=most).contains(&pause), "{tried}: {pause}");
        }
    }
}
