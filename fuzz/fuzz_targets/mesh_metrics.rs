//! What traffic a node says that there was: refused, or summed up and asked for its quantiles, and told again as the same.

use std::collections::BTreeMap;

use meshwire::contract::Validate;
use meshwire::contract::flows::{Parties, Requests, flows, reports};
use meshwire::contract::v1::ReportRequest;
use prost::Message;

fn summed(reports: Vec<ReportRequest>) -> BTreeMap<Parties, Requests> {
    let mut sums: BTreeMap<Parties, Requests> = BTreeMap::new();
    for (parties, requests) in reports.into_iter().flat_map(flows) {
        sums.entry(parties).or_default().merge(&requests);
    }
    sums
}

pub fn run(bytes: &[u8]) {
    let Ok(report) = ReportRequest::decode(bytes) else { return };
    if let Err(error) = report.validate() {
        assert!(error.field.as_deref().is_some_and(|field| !field.is_empty()), "{error}");
        assert!(error.message.len() <= 4096, "{} bytes", error.message.len());
        return;
    }
    let (node, token) = (report.node.clone(), report.token.clone());
    let sums = summed(vec![report]);
    let mut all = Requests::default();
    sums.values().for_each(|requests| all.merge(requests));
    let [half, most, last] = [0.5, 0.9, 0.99].map(|share| all.latency.quantile(share));
    assert!(half <= most && most <= last);
    assert_eq!(half.is_none(), all.latency.count() == 0);
    assert!(all.since(&all).is_empty());
    let again = reports(&node, &token, &sums);
    again.iter().for_each(|report| report.validate().expect("what is told is valid"));
    assert_eq!(summed(again), sums);
}
