//! What this node's pods have asked, told to the control plane now and then: metrics are asked for there.
//!
//! Counted is where it is asked. What has come to pods is what others have asked, and theirs to tell.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grpc::Code;
use mesh::proxy::Tables;
use mesh::telemetry::Counted;
use meshwire::caller::Client;
use meshwire::contract::flows::{self, Requests};
use tokio::sync::watch;
use tokio::time::sleep;

use super::known::Known;
use super::plane::Way;

/// How often it is told.
const EVERY: Duration = Duration::from_secs(5);
/// How long the control plane may take to hear it.
const PATIENCE: Duration = Duration::from_secs(10);
/// For so long what was counted is kept for a control plane that is away: what it is asked about is the last half minute.
const KEPT: Duration = Duration::from_secs(30);

/// What was counted until a look, by the numbers of what is counted by itself.
type Counts = HashMap<u64, Requests>;

/// Who tells it.
pub(super) struct Reports {
    pub(super) way: Arc<Way>,
    pub(super) known: Known,
    pub(super) client: watch::Receiver<Option<Client>>,
}

impl Reports {
    /// Tells, for as long as it is polled. While the control plane is away, which it is for a moment now and then, only what came lately is kept for it.
    pub(super) async fn run(mut self) {
        let (mut before, mut is_heard, mut told) = (Some(Counts::new()), true, false);
        let mut looked = Instant::now();
        loop {
            sleep(EVERY).await;
            // Another connection may be to another version, or to one with other arguments.
            is_heard |= self.client.has_changed().unwrap_or_default();
            let client = self.client.borrow_and_update().clone();
            let Some(client) = client.filter(|_| is_heard) else {
                // Before the first connection nobody was served, and nothing is forgotten by this. Where nobody asks there is nothing to go on from.
                if before.is_some() && looked.elapsed() > KEPT {
                    before = self.look(None).ok().map(|(_, now)| now);
                    looked = Instant::now();
                }
                continue;
            };
            looked = Instant::now();
            match self.tell(&client, &mut before).await {
                Ok(()) => told = false,
                Err(Unheard::Unasked) => (is_heard, before) = (false, None),
                Err(Unheard::Failed(why)) => {
                    if !std::mem::replace(&mut told, true) {
                        eprintln!(
                            "sextant mesh: warning: cannot tell the control plane what traffic there was: {why}; goes on, without what was counted until now"
                        );
                    }
                }
            }
        }
    }

    async fn tell(&self, client: &Client, before: &mut Option<Counts>) -> Result<(), Unheard> {
        let failed = |error: &dyn std::fmt::Display| Unheard::Failed(error.to_string());
        let (flows, now) = self.look(before.as_ref()).map_err(|error| failed(&error))?;
        // What is not heard now is not told again: it may have been.
        *before = Some(now);
        if flows.is_empty() {
            return Ok(());
        }
        let token = self.way.token().map_err(|error| failed(&error))?;
        let client = client.with_deadline(PATIENCE);
        for report in flows::reports(&self.way.node, &token, &flows) {
            if let Err(error) = client.report(report).await {
                let is_unasked = error.code() == Code::Unimplemented;
                return Err(if is_unasked { Unheard::Unasked } else { failed(&error) });
            }
        }
        Ok(())
    }

    /// What came since the look before, and all that there is now; where there was none, nothing came.
    fn look(&self, before: Option<&Counts>) -> io::Result<(BTreeMap<flows::Parties, Requests>, Counts)> {
        let (series, tables) = self.known.looker().counted()?;
        let rows = series.iter().filter(|counted| !counted.is_inside()).map(|counted| {
            let numbers = &counted.numbers;
            let (successes, failures) = (numbers.successes(), numbers.failures());
            let requests = Requests { successes, failures, latency: numbers.latency.clone() };
            (counted.number, self.parties_of(counted, &tables), requests)
        });
        let (flows, now) = news(rows, before.unwrap_or(&Counts::new()));
        Ok((if before.is_some() { flows } else { BTreeMap::new() }, now))
    }

    /// Between whom it was; none of what is no Service's, or of a pod that nobody remembers.
    fn parties_of(&self, counted: &Counted, tables: &Tables) -> Option<flows::Parties> {
        let name = |service| tables.service(service).map(|(name, _)| name.clone());
        Some(flows::Parties {
            client: self.known.pod(counted.client)?,
            service: counted.frontend.and_then(name)?,
            backend: counted.backend.and_then(name),
            server: counted.pod.clone(),
        })
    }
}

/// Why nobody has heard it.
enum Unheard {
    /// Nobody asks that control plane about it.
    Unasked,
    Failed(String),
}

/// What came between each since a look before, and what there is now.
fn news(
    rows: impl Iterator<Item = (u64, Option<flows::Parties>, Requests)>,
    before: &Counts,
) -> (BTreeMap<flows::Parties, Requests>, Counts) {
    let (mut flows, mut now): (BTreeMap<flows::Parties, Requests>, Counts) = (BTreeMap::new(), Counts::new());
    for (number, parties, requests) in rows.filter(|(_, _, requests)| !requests.is_empty()) {
        let since = before.get(&number).map_or_else(|| requests.clone(), |before| requests.since(before));
        now.insert(number, requests);
        if let Some(parties) = parties.filter(|_| !since.is_empty()) {
            flows.entry(parties).or_default().merge(&since);
        }
    }
    (flows, now)
}

#[cfg(test)]
mod tests {
    use smi::contract::Name;
    use smi::latency::Histogram;

    use super::*;

    fn parties(service: &str) -> flows::Parties {
        let name = |name: &str| Name::new("shop", name);
        flows::Parties {
            client: name("web"),
            service: name(service),
            backend: Some(name(service)),
            server: None,
        }
    }

    fn requests(count: u64) -> Requests {
        Requests { successes: count, failures: 0, latency: Histogram::of([(3, count)], 3 * count) }
    }

    #[test]
    fn each_request_is_told_once() {
        let row = |number: u64, service: &str, count: u64| (number, Some(parties(service)), requests(count));
        let (flows, before) =
            news([row(1, "api", 5), row(2, "api", 1), row(3, "db", 0)].into_iter(), &Counts::new());
        // Endpoints of one Service, whose pods nobody knows, are one.
        assert_eq!(flows, BTreeMap::from([(parties("api"), requests(6))]));
        // An endpoint has come to an end and another has its address: both go on counting by numbers of their own.
        let rows = [row(1, "api", 7), row(4, "api", 2), row(2, "api", 1), row(3, "db", 9)];
        let (flows, before) = news(rows.into_iter(), &before);
        assert_eq!(flows, BTreeMap::from([(parties("api"), requests(4)), (parties("db"), requests(9))]));
        let (flows, before) = news([row(4, "api", 2)].into_iter(), &before);
        assert!(flows.is_empty() && before.len() == 1, "what is forgotten there is forgotten here");
        // Of whom nobody knows who it was it is not told later, either.
        let (flows, before) = news([(5, None, requests(3))].into_iter(), &before);
        assert!(flows.is_empty());
        assert_eq!(news([row(5, "api", 3)].into_iter(), &before).0, BTreeMap::new());
    }
}
