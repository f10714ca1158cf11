use oci_runtime::contract::{Cpu, Memory, Pids, Resources, Rlimit};
use serde_json::json;

use super::Options;
use crate::failure::{Failure, Result};

/// Writes the limits of the options into a configuration's resources.
pub(super) fn apply(resources: &mut Resources, options: &Options) {
    if let Some(limit) = options.memory {
        // No swap beyond it: what people mean by a memory limit.
        resources.memory = Some(Memory { limit: Some(limit), swap: Some(limit), ..Memory::default() });
    }
    if let Some(quota) = options.cpu_quota {
        resources.cpu = Some(Cpu { quota: Some(quota), period: Some(100_000), ..Cpu::default() });
    }
    if let Some(limit) = options.pids {
        resources.pids = Some(Pids { limit: Some(limit) });
    }
}

/// The limits of `--ulimit`.
pub(super) fn rlimits(options: &Options) -> Result<Vec<Rlimit>> {
    options
        .ulimits
        .iter()
        .map(|(name, soft, hard)| {
            serde_json::from_value(json!({"type": name, "soft": soft, "hard": hard})).map_err(|_| {
                let name = name.trim_start_matches("RLIMIT_").to_lowercase();
                Failure::new(format!(
                    "cannot use --ulimit {name}={soft}: no limit {name:?}: see getrlimit(2)"
                ))
            })
        })
        .collect()
}
