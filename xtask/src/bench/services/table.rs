//! What came of it.

use std::fmt;

use serde::Serialize;

use super::load::{Round, SERVICES};
use crate::bench::median;

/// Milliseconds within which a change is where packets go.
const REACHED: f64 = 20.0;

/// One figure, the median of all rounds, and what was promised.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    value: f64,
    bound: Option<f64>,
}

impl Row {
    fn is_kept(&self) -> bool {
        self.bound.is_none_or(|most| self.value < most)
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    rounds: usize,
    rows: Vec<Row>,
    kept: bool,
}

impl Outcome {
    pub(super) fn new(rounds: &[Round]) -> Self {
        let row = |what, figure: fn(&Round) -> f64, bound| {
            let value = median(&rounds.iter().map(figure).collect::<Vec<_>>());
            Row { what, value, bound }
        };
        let rows = vec![
            row("a change, to the first packet: p50 ms", |r| r.changed.p50, None),
            row("a change, to the first packet: p99 ms", |r| r.changed.p99, Some(REACHED)),
            row("of these to the answer of the API: p50 ms", |r| r.acknowledged.p50, None),
            row("of these to the answer of the API: p99 ms", |r| r.acknowledged.p99, None),
            row("a new Service's endpoints: p50 ms", |r| r.made.p50, None),
            row("a new Service's endpoints: p99 ms", |r| r.made.p99, Some(REACHED)),
            row("CPU ms a change, both programs", |r| r.cpu, None),
            row("all made and reached, ms", |r| r.filled, None),
            row("RSS of sextant services at most, MiB", |r| r.memory / 1024.0, None),
        ];
        let kept = !rounds.is_empty() && rows.iter().all(Row::is_kept);
        Self { rounds: rounds.len(), rows, kept }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "services: {SERVICES} Services, {} rounds, medians", self.rounds)?;
        for row in &self.rows {
            write!(f, "{:<46} {:>10.2}", row.what, row.value)?;
            match row.bound {
                Some(most) => {
                    writeln!(f, "  under {most}: {}", if row.is_kept() { "kept" } else { "NOT KEPT" })?;
                }
                None => writeln!(f)?,
            }
        }
        writeln!(f, "{}", if self.kept { "kept" } else { "NOT KEPT" })
    }
}
