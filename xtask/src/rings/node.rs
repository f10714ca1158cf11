//! The node's own tests (`crates/sextant/tests/node`) that a ring runs at a size of its own.

use super::{Count, Extent, unit};
use crate::Result;
use crate::program::cargo_command;

/// What the crash ring calls it, as its other scenarios.
const KILLS: &str = "node";

/// The daemon killed at random moments while pods come and go, and a log is rotated that loses no line.
pub(super) fn kills(extent: &mut Extent) -> Result<Count> {
    if !KILLS.contains(&extent.only) {
        return Ok(Count::default());
    }
    let (kills, pods) = match extent.full {
        true => (extent.kills.div_ceil(10), 110),
        false => (extent.kills.div_ceil(20), 12),
    };
    let variables = [
        ("SEXTANT_NODE_KILLS", kills),
        ("SEXTANT_NODE_PODS", pods),
        ("SEXTANT_NODE_SEED", extent.random.number()),
    ];
    run("a_killed_node", &variables)
}

/// Pods come and go, evenly over so many minutes (as fast as they can, if that takes longer).
pub(super) fn cycles(extent: &Extent) -> Result<Count> {
    run("cycles_", &[("SEXTANT_NODE_CYCLES", extent.cycles), ("SEXTANT_NODE_MINUTES", extent.minutes)])
}

fn run(test: &str, variables: &[(&str, u64)]) -> Result<Count> {
    let mut command = cargo_command();
    command.args(["test", "--workspace", "--locked", "--test", "node", "--", test]);
    command.envs(variables.iter().map(|(name, value)| (name, value.to_string())));
    unit::chosen(command)
}
