//! What came of it.

use std::fmt;

use serde::Serialize;

use crate::Result;
use crate::bench::median;

/// Milliseconds from the command to a node that is ready; from a pod's object to Ready beyond what CRI takes for the same pod; of many pods.
const READY: f64 = 2000.0;
const BEYOND: f64 = 150.0;
const MANY: f64 = 1000.0;
/// MB that everything may hold, and milliseconds of CPU a second that it may take with nothing to do.
const MEMORY: f64 = 60.0;
const CPU: f64 = 5.0;

/// With no pods: MB, and milliseconds of CPU time a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rest {
    pub(super) memory: f64,
    pub(super) cpu: f64,
}

/// The same, and MB with the pods of the round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    pub(super) rest: Rest,
    pub(super) full: f64,
}

/// Milliseconds.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) ready: f64,
    pub(super) by_object: Vec<f64>,
    pub(super) by_cri: Vec<f64>,
    pub(super) many: f64,
    pub(super) idle: Idle,
    /// With `--mesh`.
    pub(super) meshed: Rest,
}

#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    value: f64,
    bound: Option<f64>,
    kept: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    rounds: usize,
    rows: Vec<Row>,
    kept: bool,
}

impl Outcome {
    pub(super) fn new(rounds: &[Round]) -> Result<Self> {
        if rounds.is_empty() {
            return Err("nothing was measured".into());
        }
        let of = |figure: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
        let all = |figure: fn(&Round) -> &[f64]| {
            median(&rounds.iter().flat_map(|round| figure(round).iter().copied()).collect::<Vec<_>>())
        };
        let (object, cri) = (all(|round| &round.by_object), all(|round| &round.by_cri));
        let row = |what, value: f64, bound: Option<f64>| Row {
            what,
            value,
            bound,
            kept: bound.is_none_or(|most| value <= most),
        };
        let rows = vec![
            row("from the command to a node that is ready, ms", of(&|round| round.ready), Some(READY)),
            row("a pod, from its object to Ready, ms", object, None),
            row("the same pod by CRI alone, ms", cri, None),
            row("a pod beyond CRI alone, ms", object - cri, Some(BEYOND)),
            row("20 pods, from the first object to the last Ready, ms", of(&|round| round.many), Some(MANY)),
            row("idle: PSS of all programs, MB", of(&|round| round.idle.rest.memory), Some(MEMORY)),
            row("with 27 pods: PSS of all programs, MB", of(&|round| round.idle.full), None),
            row("idle: CPU ms a second", of(&|round| round.idle.rest.cpu), Some(CPU)),
            row("idle with --mesh: PSS of all programs, MB", of(&|round| round.meshed.memory), None),
            row("idle with --mesh: CPU ms a second", of(&|round| round.meshed.cpu), None),
        ];
        let kept = rows.iter().all(|row| row.kept);
        Ok(Self { rounds: rounds.len(), rows, kept })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "up: everything on one machine, {} rounds, medians", self.rounds)?;
        for Row { what, value, bound, kept } in &self.rows {
            write!(f, "{what:<54} {value:>10.1}")?;
            let word = if *kept { "kept" } else { "NOT KEPT" };
            match bound {
                Some(most) => writeln!(f, "  at most {most:.0}: {word}")?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "{}", if self.kept { "kept" } else { "NOT KEPT" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_is_too_high_is_told() {
        let rest = Rest { memory: 50.0, cpu: 1.0 };
        let (idle, meshed) = (Idle { rest, full: 60.0 }, Rest { memory: 62.0, ..rest });
        let round =
            |ready| Round { ready, by_object: vec![120.0], by_cri: vec![30.0], many: 900.0, idle, meshed };
        assert!(Outcome::new(&[round(500.0)]).unwrap().kept);
        let slow = Outcome::new(&[round(2500.0)]).unwrap();
        assert!(!slow.kept && slow.to_string().contains("2500.0  at most 2000: NOT KEPT"), "{slow}");
        assert!(Outcome::new(&[]).is_err());
    }
}
