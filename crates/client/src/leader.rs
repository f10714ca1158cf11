//! Leader election: of several processes one works, and another one goes on when it is gone.
//!
//! It is client-go's, over a Lease that both understand: who holds it renews it; who does not watches it, and takes it once it has not
//! been renewed for as long as it says, by its own clock (clocks of machines are not compared).

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::Instant;

/// How long a lease is, and how it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// After so long without a renewal anybody may take it.
    pub lease: Duration,
    /// After so long without a renewal its holder stops: earlier than anybody takes it.
    pub renew: Duration,
    /// How often it is renewed, or looked at.
    pub retry: Duration,
}

impl Terms {
    /// A lease of this length, whole seconds and one at least, with the proportions of the usual ones.
    #[must_use]
    pub fn of(lease: Duration) -> Self {
        Self { lease, renew: lease * 2 / 3, retry: lease * 2 / 15 }
    }
}

impl Default for Terms {
    /// As all of Kubernetes has it: 15, 10 and 2 seconds.
    fn default() -> Self {
        Self::of(Duration::from_secs(15))
    }
}

/// One who wants to lead.
#[derive(Clone, Debug)]
pub struct Election {
    api: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    terms: Terms,
}

/// The lease, held.
#[derive(Debug)]
pub struct Held {
    lease: Lease,
    /// When the renewal that is known to have succeeded was sent.
    renewed: Instant,
}

/// The lease as somebody else has it.
#[derive(Debug, Default)]
struct Seen {
    spec: Option<(LeaseSpec, Instant)>,
}

impl Seen {
    /// Whether it may be taken: nobody holds it, or who does has not renewed it for as long as it says.
    fn is_free(&mut self, spec: &LeaseSpec, now: Instant) -> bool {
        let since = match &self.spec {
            Some((seen, since)) if seen == spec => *since,
            _ => {
                self.spec = Some((spec.clone(), now));
                now
            }
        };
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default();
        holder(spec).is_empty() || now.duration_since(since) > Duration::from_secs(seconds)
    }
}

fn holder(spec: &LeaseSpec) -> &str {
    spec.holder_identity.as_deref().unwrap_or_default()
}

/// Why a lease was not renewed.
enum Failed {
    /// Somebody else has it.
    Taken(String),
    /// It is not known whether somebody has.
    Unknown(kube::Error),
}

impl Election {
    /// For the lease `namespace`/`name`, as `identity`, which no other process has.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str, identity: String, terms: Terms) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self { api, namespace: namespace.into(), name: name.into(), identity, terms }
    }

    /// Resolves once the lease is held, with what [`Election::keep`] needs. Failures are told, and it is tried again.
    pub async fn acquire(&self) -> Held {
        let mut seen = Seen::default();
        let mut told = String::new();
        loop {
            let renewed = Instant::now();
            let words = match tokio::time::timeout(self.terms.renew, self.take(&mut seen)).await {
                Ok(Ok(Ok(lease))) => return Held { lease, renewed },
                Ok(Ok(Err(holder))) => format!("waits for lease {self}, which {holder} has"),
                Ok(Err(error)) => {
                    format!("warning: cannot take lease {self}: {}", crate::causes(&error))
                }
                Err(_) => format!("warning: cannot take lease {self}: the API server does not answer"),
            };
            if words != told {
                eprintln!("sextant: {words}");
                told = words;
            }
            tokio::time::sleep(self.terms.retry).await;
        }
    }

    /// Takes the lease if it is free; else who has it.
    async fn take(&self, seen: &mut Seen) -> kube::Result<Result<Lease, String>> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let lease = json!({"metadata": {"name": self.name}, "spec": self.spec(0)});
            let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            return match self.api.create(&PostParams::default(), &lease).await {
                Err(error) if is_conflict(&error) => Ok(Err("somebody else".into())),
                created => created.map(Ok),
            };
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let has = holder(&spec);
        if has != self.identity && !seen.is_free(&spec, Instant::now()) {
            return Ok(Err(has.into()));
        }
        match self
            .patch(&lease, self.spec(spec.lease_transitions.unwrap_or_default().saturating_add(1)))
            .await
        {
            Err(error) if is_conflict(&error) => Ok(Err("somebody else".into())),
            taken => taken.map(Ok),
        }
    }

    /// What is written into a lease that is taken.
    fn spec(&self, transitions: i32) -> Value {
        let now = MicroTime(Timestamp::now());
        json!({"holderIdentity": self.identity, "leaseDurationSeconds": self.terms.lease.as_secs(),
            "acquireTime": now, "renewTime": now, "leaseTransitions": transitions})
    }

    /// Changes the lease, if nobody has since.
    async fn patch(&self, lease: &Lease, spec: Value) -> kube::Result<Lease> {
        let version = lease.metadata.resource_version.as_deref().unwrap_or_default();
        let patch = json!({"metadata": {"resourceVersion": version}, "spec": spec});
        self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Holds the lease until that is not certain any more, and says why. What is done in the leader's name has to end at once then.
    pub async fn keep(&self, held: &mut Held) -> String {
        let mut failure = String::from("the API server does not answer");
        loop {
            let until = held.renewed + self.terms.renew;
            tokio::time::sleep_until(until.min(Instant::now() + self.terms.retry)).await;
            let sent = Instant::now();
            match tokio::time::timeout_at(until, self.change(&held.lease, renewal)).await {
                Ok(Ok(lease)) => *held = Held { lease, renewed: sent },
                Ok(Err(Failed::Taken(holder))) => return format!("{holder} has it"),
                Ok(Err(Failed::Unknown(error))) => failure = crate::causes(&error),
                Err(_) => {
                    return format!("not renewed for {} seconds: {failure}", self.terms.renew.as_secs());
                }
            }
        }
    }

    /// Changes the lease as long as this holds it.
    async fn change(&self, lease: &Lease, spec: impl Fn() -> Value) -> Result<Lease, Failed> {
        match self.patch(lease, spec()).await {
            Err(error) if is_conflict(&error) => {}
            changed => return changed.map_err(Failed::Unknown),
        }
        // Somebody has changed it: another holder, a person who has given it a label, or a renewal whose answer was not waited for.
        let lease = self.api.get(&self.name).await.map_err(Failed::Unknown)?;
        let has = lease.spec.as_ref().map(holder).unwrap_or_default();
        if has != self.identity {
            let has = if has.is_empty() { "nobody" } else { has };
            return Err(Failed::Taken(has.into()));
        }
        self.patch(&lease, spec()).await.map_err(Failed::Unknown)
    }

    /// Gives the lease back, so that nobody has to wait for its end. The leader's work must have ended.
    pub async fn release(&self, held: Held) {
        let spec = || json!({"holderIdentity": null, "renewTime": MicroTime(Timestamp::now()), "leaseDurationSeconds": 1});
        // Where that fails the others wait, and nothing else.
        let _ = tokio::time::timeout(self.terms.retry, self.change(&held.lease, spec)).await;
    }
}

impl std::fmt::Display for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is written into a lease that is kept.
fn renewal() -> Value {
    json!({"renewTime": MicroTime(Timestamp::now())})
}

/// Whether somebody else was faster.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests;
