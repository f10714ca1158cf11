//! `sextant mesh top`: who asks whom how often, how well and how fast.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use mesh::telemetry::Numbers;
use serde_json::json;

use super::super::wire::{Row, State, is_of};
use super::{or_dash, state};
use crate::cli::{MeshTopArgs, TopBy};
use crate::failure::Result;
use crate::objects::shown;
use crate::output::{self, Table, bytes};
use crate::terminal;

/// What is shown on a line, by what is on it.
type Lines = BTreeMap<[String; 2], Numbers>;

/// What was counted, together where that is wanted.
fn lines(state: &State, args: &MeshTopArgs) -> Lines {
    let mut lines = Lines::new();
    let is_wanted = |row: &&Row| args.service.as_ref().is_none_or(|service| is_of(service, &row.service));
    for row in state.traffic.iter().filter(is_wanted) {
        let service = match (row.inbound, row.service.is_empty()) {
            (true, _) => format!("inbound of {}", row.pod),
            (false, true) => "others".into(),
            (false, false) => row.service.clone(),
        };
        let second = match args.by {
            TopBy::Service | TopBy::Rule => service,
            TopBy::Backend if row.backend.is_empty() => service,
            TopBy::Backend => row.backend.clone(),
            TopBy::Endpoint => match (row.pod.is_empty(), row.endpoint.is_empty()) {
                (_, true) => format!("none of {service}"),
                (true, _) => row.endpoint.clone(),
                _ => format!("{} ({})", row.pod, row.endpoint),
            },
        };
        let first = if args.by == TopBy::Rule { or_dash(&row.rule) } else { or_dash(&row.client) };
        lines.entry([first, second]).or_default().merge(&row.numbers());
    }
    lines
}

/// What there was in a time.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Rate {
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// A Service, a backend or an endpoint.
    to: String,
    requests_per_second: f64,
    /// Of those that were answered; `None` where none was.
    success_rate: Option<f64>,
    p50_us: Option<u64>,
    p90_us: Option<u64>,
    p99_us: Option<u64>,
    sent_per_second: f64,
    received_per_second: f64,
    /// Connections that are passed on unread and are open now.
    connections: u64,
    connections_failed: u64,
    retried: u64,
}

/// Between two looks; those with most to do first.
fn rates(before: &Lines, now: &Lines, seconds: f64, by: TopBy) -> Vec<Rate> {
    let none = Numbers::default();
    let rate = |(key, numbers): (&[String; 2], &Numbers)| {
        let since = numbers.since(before.get(key).unwrap_or(&none));
        let per_second = |count: u64| count as f64 / seconds;
        let answered = since.successes() + since.failures();
        let micros = |share| since.latency.quantile(share).map(|took| took.as_micros() as u64);
        let [first, to] = key.clone();
        let (client, rule) = if by == TopBy::Rule { (None, Some(first)) } else { (Some(first), None) };
        Rate {
            client,
            rule,
            to,
            requests_per_second: per_second(since.requests()),
            success_rate: (answered > 0).then(|| since.successes() as f64 / answered as f64),
            p50_us: micros(0.5),
            p90_us: micros(0.9),
            p99_us: micros(0.99),
            sent_per_second: per_second(since.sent),
            received_per_second: per_second(since.received),
            connections: numbers.opened.saturating_sub(numbers.closed),
            connections_failed: since.failed,
            retried: since.retried,
        }
    };
    let mut rates: Vec<Rate> = now.iter().map(rate).collect();
    let much = |rate: &Rate| (rate.requests_per_second, rate.received_per_second + rate.sent_per_second);
    rates.sort_by(|one, other| {
        let ((requests, bytes), (than, and)) = (much(other), much(one));
        requests.total_cmp(&than).then(bytes.total_cmp(&and))
    });
    rates
}

/// Shows it, once or again and again.
pub(super) fn top(run_dir: &Path, args: &MeshTopArgs) -> Result<()> {
    let is_terminal = io::stdout().is_terminal();
    let once = args.once || args.output.json() || !is_terminal;
    if !is_terminal && !args.once && !args.output.json() {
        eprintln!("sextant: standard output is no terminal: shown once");
    }
    let mut before = state(run_dir)?;
    loop {
        std::thread::sleep(Duration::from_secs(args.window));
        let now = state(run_dir)?;
        if now.at <= before.at || now.since != before.since {
            // Another process answers: what it has counted began anew.
            before = now;
            continue;
        }
        let seconds = (now.at - before.at) as f64 / 1000.0;
        let rates = rates(&lines(&before, args), &lines(&now, args), seconds, args.by);
        if args.output.json() {
            return Ok(output::json(&json!(rates))?);
        }
        let mut text = table_of(&rates, args.by);
        if !once {
            if let Some(size) = terminal::size() {
                // What does not fit is what has least to do.
                let rows = usize::try_from(size.rows).unwrap_or(usize::MAX).saturating_sub(1).max(2);
                text = text.split_inclusive('\n').take(rows).collect();
            }
            // From the top of a cleared screen.
            text.insert_str(0, "\x1b[H\x1b[2J");
        }
        let mut out = io::stdout();
        out.write_all(text.as_bytes())?;
        if once {
            return Ok(());
        }
        out.flush()?;
        before = now;
    }
}

fn table_of(rates: &[Rate], by: TopBy) -> String {
    if rates.is_empty() {
        return "Nothing has passed through the mesh of this node.\n".into();
    }
    let (first, second) = match by {
        TopBy::Service => ("CLIENT", "SERVICE"),
        TopBy::Backend => ("CLIENT", "BACKEND"),
        TopBy::Endpoint => ("CLIENT", "ENDPOINT"),
        TopBy::Rule => ("RULE", "SERVICE"),
    };
    let head =
        [first, second, "REQ/S", "SUCCESS", "P50", "P90", "P99", "SENT/S", "RECEIVED/S", "CONNECTIONS"];
    let mut table = Table::new(head);
    for rate in rates {
        let who = rate.client.as_ref().or(rate.rule.as_ref()).cloned().unwrap_or_default();
        table.row([
            who,
            shown(&rate.to),
            format!("{:.1}", rate.requests_per_second),
            rate.success_rate.map_or_else(|| "-".into(), |share| format!("{:.1} %", share * 100.0)),
            latency(rate.p50_us),
            latency(rate.p90_us),
            latency(rate.p99_us),
            bytes(rate.sent_per_second as u64),
            bytes(rate.received_per_second as u64),
            rate.connections.to_string(),
        ]);
    }
    table.to_string()
}

/// Microseconds as people say them.
pub(super) fn latency(micros: Option<u64>) -> String {
    match micros {
        None => "-".into(),
        Some(micros @ 0..1000) => format!("{micros} us"),
        Some(micros @ 1000..1_000_000) => format!("{:.1} ms", micros as f64 / 1e3),
        Some(micros) => format!("{:.2} s", micros as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use mesh::telemetry::Histogram;

    use super::*;

    fn numbers(requests: u64, failures: u64, more: u64) -> Numbers {
        let mut classes = [0; 6];
        classes[2] = requests - failures;
        classes[5] = failures;
        // All of them in the part of 16 us and so many more.
        let latency = Histogram::of([(16 + usize::try_from(more).unwrap(), requests)], requests * 1000);
        Numbers { classes, latency, ..Numbers::default() }
    }

    #[test]
    fn rates_are_between_two_looks_and_the_busiest_comes_first() {
        let key = |to: &str| ["shop/front".to_owned(), to.to_owned()];
        let before = Lines::from([(key("shop/a:80"), numbers(100, 0, 1))]);
        let now = Lines::from([
            (key("shop/a:80"), numbers(110, 5, 1)),
            (key("shop/b:80"), numbers(40, 0, 2)),
            (key("shop/c:80"), Numbers { opened: 3, closed: 1, ..Numbers::default() }),
        ]);
        let rates = rates(&before, &now, 2.0, TopBy::Service);
        let told: Vec<_> = rates
            .iter()
            .map(|rate| (rate.to.as_str(), rate.requests_per_second, rate.success_rate))
            .collect();
        assert_eq!(
            told,
            [("shop/b:80", 20.0, Some(1.0)), ("shop/a:80", 5.0, Some(0.5)), ("shop/c:80", 0.0, None)]
        );
        assert_eq!((rates[1].p50_us, rates[2].p50_us, rates[2].connections), (Some(17), None, 2));
        let table = table_of(&rates, TopBy::Service);
        assert!(table.lines().nth(2).unwrap().contains("50.0 %"), "{table}");
    }

    #[test]
    fn latencies_have_the_unit_that_fits() {
        for (micros, wanted) in
            [(None, "-"), (Some(999), "999 us"), (Some(1500), "1.5 ms"), (Some(2_500_000), "2.50 s")]
        {
            assert_eq!(latency(micros), wanted);
        }
    }
}
