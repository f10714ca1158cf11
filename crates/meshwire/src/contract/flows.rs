//! What traffic there was, in reports of nodes, and out of them again.

use std::collections::BTreeMap;

use grpc::Failure;
use prost::Message as _;
use smi::contract::{Name, is_name};
use smi::latency::{Histogram, PLACES};

use super::v1::{Flow, Latencies, Named, ReportRequest};

/// So many bytes of flows make a report: over TCP a control plane takes no request of more than 64 kB.
pub const REPORT: usize = 32 * 1024;
/// The most flows of one report.
pub const FLOWS: usize = 4096;

/// Between whom requests went.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parties {
    /// The pod that has asked.
    pub client: Name,
    /// The Service that it has asked.
    pub service: Name,
    /// The Service whose endpoint was asked, if one was.
    pub backend: Option<Name>,
    /// The pod that was asked, if it is known.
    pub server: Option<Name>,
}

/// How many requests there were, and how long they took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests {
    /// Those that were answered and did not fail.
    pub successes: u64,
    /// Those that failed, and not by the client's doing.
    pub failures: u64,
    /// How long those took that had an answer.
    pub latency: Histogram,
}

impl Requests {
    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.successes == 0 && self.failures == 0
    }

    /// Takes others to its own.
    pub fn merge(&mut self, other: &Self) {
        self.successes = self.successes.saturating_add(other.successes);
        self.failures = self.failures.saturating_add(other.failures);
        self.latency.merge(&other.latency);
    }

    /// What came since an earlier look at the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            successes: self.successes.saturating_sub(before.successes),
            failures: self.failures.saturating_sub(before.failures),
            latency: self.latency.since(&before.latency),
        }
    }
}

fn named(name: &Name) -> Named {
    Named { namespace: name.namespace.clone(), name: name.name.clone() }
}

fn name(named: Named) -> Name {
    Name::new(named.namespace, named.name)
}

fn flow(parties: &Parties, requests: &Requests) -> Flow {
    let parts = requests.latency.parts();
    Flow {
        client: Some(named(&parties.client)),
        service: Some(named(&parties.service)),
        backend: parties.backend.as_ref().map(named),
        server: parties.server.as_ref().map(named),
        successes: requests.successes,
        failures: requests.failures,
        latencies: Some(Latencies {
            // Parts are far fewer than 2^32.
            parts: parts.iter().map(|(part, _)| u32::try_from(*part).unwrap_or(u32::MAX)).collect(),
            counts: parts.iter().map(|(_, count)| *count).collect(),
            micros: requests.latency.micros(),
        }),
    }
}

/// The reports that tell of these flows; none where there are none.
#[must_use]
pub fn reports(node: &str, token: &str, flows: &BTreeMap<Parties, Requests>) -> Vec<ReportRequest> {
    let mut reports: Vec<ReportRequest> = Vec::new();
    let mut length = 0;
    for (parties, requests) in flows {
        let flow = flow(parties, requests);
        let size = flow.encoded_len();
        let is_full = length + size > REPORT;
        match reports.last_mut() {
            Some(report) if !is_full && report.flows.len() < FLOWS => {
                report.flows.push(flow);
                length += size;
            }
            _ => {
                reports.push(ReportRequest {
                    node: node.to_owned(),
                    token: token.to_owned(),
                    flows: vec![flow],
                });
                length = size;
            }
        }
    }
    reports
}

/// The flows of a report that is valid.
#[must_use]
pub fn flows(report: ReportRequest) -> Vec<(Parties, Requests)> {
    let read = |flow: Flow| {
        let latency = flow.latencies.map(|latencies| {
            let parts = latencies.parts.iter().map(|part| usize::try_from(*part).unwrap_or(PLACES));
            Histogram::of(parts.zip(latencies.counts.iter().copied()), latencies.micros)
        });
        let parties = Parties {
            client: name(flow.client?),
            service: name(flow.service?),
            backend: flow.backend.map(name),
            server: flow.server.map(name),
        };
        let requests = Requests {
            successes: flow.successes,
            failures: flow.failures,
            latency: latency.unwrap_or_default(),
        };
        Some((parties, requests))
    };
    report.flows.into_iter().filter_map(read).collect()
}

/// The first thing that is wrong with a report's flows.
pub(super) fn check(flows: &[Flow]) -> Result<(), Failure> {
    if flows.len() > FLOWS {
        return Err(Failure::invalid("flows", format!("has {} of them, {FLOWS} is the most", flows.len())));
    }
    for (place, flow) in flows.iter().enumerate() {
        for (field, is_needed, named) in [
            ("client", true, &flow.client),
            ("service", true, &flow.service),
            ("backend", false, &flow.backend),
            ("server", false, &flow.server),
        ] {
            let wrong = match named {
                None if is_needed => Some("is missing"),
                Some(named) if !is_name(&named.namespace) || !is_name(&named.name) => {
                    Some("has no namespace or no name that an object can have")
                }
                _ => None,
            };
            if let Some(wrong) = wrong {
                return Err(Failure::invalid(format!("flows[{place}].{field}"), wrong));
            }
        }
        let Some(latencies) = &flow.latencies else { continue };
        let are_parts =
            latencies.parts.iter().all(|part| usize::try_from(*part).is_ok_and(|part| part < PLACES));
        // In order, which has none of them twice: so there are no more than there can be.
        let are_ordered = latencies.parts.is_sorted_by(|one, next| one < next);
        if !are_parts || !are_ordered || latencies.parts.len() != latencies.counts.len() {
            let field = format!("flows[{place}].latencies");
            let text = format!("must have parts below {PLACES} in order, and a count for each");
            return Err(Failure::invalid(field, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Validate as _;
    use super::*;

    fn parties(number: usize) -> Parties {
        Parties {
            client: Name::new("shop", format!("web-{number}")),
            service: Name::new("shop", "api"),
            backend: (!number.is_multiple_of(2)).then(|| Name::new("shop", "api-v2")),
            server: number.is_multiple_of(3).then(|| Name::new("shop", "api-v2-0")),
        }
    }

    fn requests(number: usize) -> Requests {
        let count = u64::try_from(number).unwrap();
        let latency = Histogram::of([(number % PLACES, count), (number / 2 % PLACES, 1)], count * 100);
        Requests { successes: count, failures: 1, latency }
    }

    #[test]
    fn what_is_told_comes_out_of_reports_that_are_short_enough() {
        let told: BTreeMap<Parties, Requests> =
            (0..2000).map(|number| (parties(number), requests(number))).collect();
        let all = reports("node-1", &"t".repeat(1024), &told);
        assert!(all.len() > 1);
        for report in &all {
            report.validate().unwrap();
            assert!(report.encoded_len() < 64 * 1024, "{}", report.encoded_len());
        }
        let read: BTreeMap<Parties, Requests> = all.into_iter().flat_map(flows).collect();
        assert_eq!(read, told);
        assert!(reports("node-1", "", &BTreeMap::new()).is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let one: BTreeMap<Parties, Requests> = [(parties(3), requests(40))].into();
        let good = reports("node-1", "", &one).remove(0);
        assert_eq!(good.validate(), Ok(()));
        let refused = |change: &dyn Fn(&mut ReportRequest)| {
            let mut report = good.clone();
            change(&mut report);
            report.validate().unwrap_err().field.unwrap()
        };
        assert_eq!(refused(&|report| report.node.clear()), "node");
        assert_eq!(refused(&|report| report.flows = vec![report.flows[0].clone(); FLOWS + 1]), "flows");
        assert_eq!(refused(&|report| report.flows[0].client = None), "flows[0].client");
        assert_eq!(refused(&|report| report.flows[0].service = None), "flows[0].service");
        let unnamed = || Some(Named { namespace: "shop".into(), name: "a\nb".into() });
        assert_eq!(refused(&|report| report.flows[0].server = unnamed()), "flows[0].server");
        let latencies = |report: &mut ReportRequest, parts: &[u32], counts: &[u64]| {
            report.flows[0].latencies =
                Some(Latencies { parts: parts.to_vec(), counts: counts.to_vec(), micros: 0 });
        };
        let bad: [(&[u32], &[u64]); 4] =
            [(&[1, 2], &[1]), (&[2, 1], &[1, 1]), (&[1, 1], &[1, 1]), (&[464], &[1])];
        for (parts, counts) in bad {
            assert_eq!(refused(&|report| latencies(report, parts, counts)), "flows[0].latencies");
        }
        assert!(
            !format!("{:?}", ReportRequest { token: "secret".into(), ..good.clone() }).contains("secret")
        );
    }
}
