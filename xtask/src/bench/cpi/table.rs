//! What came of it, beside what must be.

use std::fmt;

use serde::Serialize;

use super::load::{NODES, Phase, Round, SERVICES};
use super::metal::Metal;
use crate::bench::median;

/// What must be asked for of the provider, for so many nodes and services that are new or are looked at. Routes are listed after
/// changes of nodes, once a second at most, as long as it takes.
type Needs = &'static [(&'static str, usize)];

/// Each node is asked about once, each load balancer made once.
const CALLS_COLD: Needs = &[
    ("Initialize", 1),
    ("InstanceMetadata", NODES),
    ("EnsureLoadBalancer", SERVICES),
    ("CreateRoute", NODES),
];
/// A node is initialized, and gets its range; its addresses and its condition are written. A service is held, and told of its address.
/// People are told of each node once, of each load balancer before and after it is made.
const REQUESTS_COLD: Needs = &[
    ("list nodes", 1),
    ("list services", 1),
    ("patch nodes", 2 * NODES),
    ("patch nodes/status", 2 * NODES),
    ("patch services", SERVICES),
    ("patch services/status", SERVICES),
    ("create events", NODES + 2 * SERVICES),
];
/// A process that was not there may have missed what has changed of a node's addresses and of a load balancer; nothing is written.
const CALLS_AGAIN: Needs =
    &[("Initialize", 1), ("InstanceMetadata", NODES), ("EnsureLoadBalancer", SERVICES)];
const REQUESTS_AGAIN: Needs = &[("list nodes", 1), ("list services", 1), ("create events", 2 * SERVICES)];
/// Each load balancer is led to the node that has joined, once.
const CALLS_JOIN: Needs = &[("InstanceMetadata", 1), ("UpdateLoadBalancer", SERVICES), ("CreateRoute", 1)];
const REQUESTS_JOIN: Needs =
    &[("patch nodes", 2), ("patch nodes/status", 2), ("create events", 1 + SERVICES)];

/// Milliseconds within which the client of a machine without a cloud is served by a new Service.
const REACHED: f64 = 100.0;
/// Milliseconds within which it is served again when the node that answers is cut off.
const TAKEN: f64 = 1000.0;

/// Whether a request is one of the controllers of clouds. Those of volumes are in the same process.
pub(super) fn is_of_clouds(request: &str) -> bool {
    let mut words = request.split(' ');
    let is_watch = words.next() == Some("watch");
    let resource = words.next().unwrap_or_default();
    !is_watch && matches!(resource.split('/').next(), Some("nodes" | "services" | "events"))
}

/// How often something was asked for, and must be.
#[derive(Debug, Serialize)]
struct Count {
    what: String,
    /// The most of all rounds.
    made: usize,
    needed: usize,
}

#[derive(Debug, Serialize)]
struct Table {
    name: &'static str,
    /// Seconds to each step, medians.
    seconds: Vec<(&'static str, f64)>,
    /// CPU seconds of both programs, median.
    cpu: f64,
    calls: Vec<Count>,
    requests: Vec<Count>,
    /// Requests of other controllers in the process.
    others: usize,
    /// How often routes were listed.
    listed: usize,
}

/// One figure of all rounds, and what was promised.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    /// Milliseconds.
    value: f64,
    bound: Option<f64>,
}

impl Row {
    fn is_kept(&self) -> bool {
        self.bound.is_none_or(|most| self.value <= most)
    }
}

/// Each median is that of all, each worst the median of the rounds' worst.
fn of_metal(rounds: &[Metal]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut pair = |of: fn(&Metal) -> &[f64], median_of, worst_of, bound| {
        let all: Vec<f64> = rounds.iter().flat_map(|round| of(round).iter().copied()).collect();
        let worst = |round: &Metal| of(round).iter().copied().fold(f64::NAN, f64::max);
        let worst: Vec<f64> = rounds.iter().map(worst).collect();
        rows.push(Row { what: median_of, value: median(&all), bound: None });
        rows.push(Row { what: worst_of, value: median(&worst), bound: Some(bound) });
    };
    pair(
        |round| round.reached.as_slice(),
        "a new Service, to the first answer",
        "the worst of a round",
        REACHED,
    );
    pair(
        |round| round.taken.as_slice(),
        "a node cut off, to the other's answer",
        "the worst of a round",
        TAKEN,
    );
    rows
}

#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    rounds: usize,
    metal: Vec<Row>,
    /// Whether metal keeps what is promised.
    kept: bool,
    /// MiB that the controllers had resident at most, median.
    memory: f64,
    phases: Vec<Table>,
}

impl Outcome {
    pub(super) fn new(rounds: &[Round], metal: &[Metal]) -> Self {
        let phase = |name, calls, requests, of: fn(&Round) -> &Phase| {
            table(name, &rounds.iter().map(of).collect::<Vec<_>>(), calls, requests)
        };
        let phases = vec![
            phase("nobody has seen them yet", CALLS_COLD, REQUESTS_COLD, |round| &round.cold),
            phase("the controllers are started again", CALLS_AGAIN, REQUESTS_AGAIN, |round| &round.again),
            phase("a node joins", CALLS_JOIN, REQUESTS_JOIN, |round| &round.join),
        ];
        let memory = median(&rounds.iter().map(|round| round.memory / 1024.0).collect::<Vec<_>>());
        let metal = of_metal(metal);
        let kept = metal.iter().all(Row::is_kept);
        Self { rounds: rounds.len(), metal, kept, memory, phases }
    }
}

fn table(name: &'static str, phases: &[&Phase], calls: Needs, requests: Needs) -> Table {
    let figure =
        |of: &dyn Fn(&Phase) -> f64| median(&phases.iter().map(|phase| of(phase)).collect::<Vec<_>>());
    let most = |of: &dyn Fn(&Phase) -> usize| phases.iter().map(|phase| of(phase)).max().unwrap_or_default();
    let steps = phases.first().into_iter().flat_map(|phase| phase.steps.keys());
    let seconds =
        steps.map(|step| (*step, figure(&|phase| phase.steps.get(step).copied().unwrap_or(f64::NAN))));
    let mut seconds: Vec<_> = seconds.collect();
    seconds.sort_by(|one, other| one.1.total_cmp(&other.1));
    let made_calls = phases.iter().flat_map(|phase| &phase.calls);
    let made_calls = made_calls.map(|(call, _)| *call).filter(|call| *call != "ListRoutes");
    let made_requests = phases.iter().flat_map(|phase| &phase.requests);
    let made_requests = made_requests.map(|(request, _)| request.as_str()).filter(|one| is_of_clouds(one));
    let count = |phase: &Phase, what: &str| phase.requests.get(what).copied().unwrap_or_default();
    let others = |phase: &Phase| -> usize {
        phase.requests.iter().filter(|(one, _)| !is_of_clouds(one)).map(|(_, count)| count).sum()
    };
    Table {
        name,
        seconds,
        cpu: figure(&|phase| phase.cpu),
        calls: counts(calls, made_calls, &|what| {
            most(&|phase| phase.calls.get(what).copied().unwrap_or_default())
        }),
        requests: counts(requests, made_requests, &|what| most(&|phase| count(phase, what))),
        others: most(&others),
        listed: most(&|phase| phase.calls.get("ListRoutes").copied().unwrap_or_default()),
    }
}

/// What must be, and what was besides.
fn counts<'a>(needs: Needs, made: impl Iterator<Item = &'a str>, most: &dyn Fn(&str) -> usize) -> Vec<Count> {
    let mut all: Vec<(&str, usize)> = needs.to_vec();
    for what in made {
        if all.iter().all(|(one, _)| *one != what) {
            all.push((what, 0));
        }
    }
    all.into_iter().map(|(what, needed)| Count { what: what.into(), made: most(what), needed }).collect()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "cpi: {NODES} nodes and {SERVICES} services, {} rounds; RSS of the controllers at most {:.1} MiB",
            self.rounds, self.memory
        )?;
        for phase in &self.phases {
            writeln!(f, "\n{}: {:.1} s of CPU, api and control", phase.name, phase.cpu)?;
            for (step, seconds) in &phase.seconds {
                writeln!(f, "  {step:<38} {seconds:>8.2} s")?;
            }
            let counted =
                [("calls of the provider", &phase.calls), ("requests to the API server", &phase.requests)];
            for (title, counts) in counted {
                writeln!(f, "  {title:<38} {:>8} {:>8}", "made", "needed")?;
                for Count { what, made, needed } in counts {
                    let above = match made.checked_sub(*needed) {
                        Some(0) | None => String::new(),
                        Some(more) => format!("  {more} more"),
                    };
                    writeln!(f, "    {what:<36} {made:>8} {needed:>8}{above}")?;
                }
            }
            writeln!(
                f,
                "    routes listed {}; requests of other controllers {}",
                phase.listed, phase.others
            )?;
        }
        writeln!(f, "\nmetal, ms, by a client in another network namespace")?;
        for row in &self.metal {
            write!(f, "  {:<38} {:>8.1}", row.what, row.value)?;
            match row.bound {
                Some(most) => {
                    writeln!(f, "  at most {most}: {}", if row.is_kept() { "kept" } else { "NOT KEPT" })?;
                }
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
    fn requests_are_told_apart() {
        for (request, is) in [
            ("patch nodes/status", true),
            ("list nodes", true),
            ("patch nodes (409)", true),
            ("watch nodes", false),
            ("list persistentvolumes", false),
            ("get /api", false),
        ] {
            assert_eq!(is_of_clouds(request), is, "{request}");
        }
    }

    #[test]
    fn what_was_made_and_need_not_be_is_told() {
        let mut phase = Phase::default();
        phase.calls.extend([("InstanceMetadata", NODES + 3), ("UpdateLoadBalancer", 7), ("ListRoutes", 2)]);
        phase.requests.extend([("patch nodes (409)".to_owned(), 4), ("list pods".to_owned(), 1)]);
        let told = table("x", &[&phase, &Phase::default()], CALLS_COLD, REQUESTS_COLD);
        let of = |counts: &[Count], what: &str| {
            counts.iter().find(|one| one.what == what).map(|one| (one.made, one.needed))
        };
        assert_eq!(of(&told.calls, "InstanceMetadata"), Some((NODES + 3, NODES)));
        assert_eq!(of(&told.calls, "UpdateLoadBalancer"), Some((7, 0)));
        assert_eq!(of(&told.calls, "EnsureLoadBalancer"), Some((0, SERVICES)));
        assert_eq!(of(&told.calls, "ListRoutes"), None);
        assert_eq!(of(&told.requests, "patch nodes (409)"), Some((4, 0)));
        assert_eq!((told.others, told.listed), (1, 2));
    }

    #[test]
    fn what_is_promised_of_metal_is_judged_by_the_worst_of_each_round() {
        let round = |worst: f64| Metal { reached: vec![20.0, worst, 30.0], taken: vec![600.0, 700.0, 650.0] };
        let kept = |rounds: &[Metal]| Outcome::new(&[], rounds).kept;
        assert!(
            kept(&[round(40.0), round(100.0), round(400.0)]),
            "one round of three may have been disturbed"
        );
        assert!(!kept(&[round(40.0), round(100.5), round(400.0)]));
        let slow = Metal { taken: vec![1001.0], ..round(40.0) };
        assert!(!kept(&[slow]));
        assert!(!kept(&[]) && !kept(&[Metal::default()]), "what was not measured is not kept");
        let rows = of_metal(&[round(40.0)]);
        let figures: Vec<f64> = rows.iter().map(|row| row.value).collect();
        assert_eq!(figures, [30.0, 40.0, 650.0, 700.0]);
    }
}
