//! The last words of containers: what a file in them says when they have ended, or the end of their logs.

use crate::agent::Agent;
use crate::names::{Key, TERMINATION_PATH, TERMINATION_POLICY};
use crate::observed::{Observed, is_exited};
use crate::server::logs;
use crate::volumes;

/// As much of a container's last words is told.
const WORDS_MAX: usize = 4096;
/// As much of its log, where that is told instead.
const LOG_MAX: usize = 2048;

/// Reads the last words of containers that have ended.
pub(crate) fn collect(agent: &Agent, key: &Key, observed: &Observed) {
    for container in observed.containers.iter().filter(|one| is_exited(one)) {
        let is_known = agent.with_memory(key, |memory| memory.last_words.contains_key(&container.id));
        if is_known != Some(false) {
            continue;
        }
        let path = container.annotations.get(TERMINATION_PATH);
        let file = path.and_then(|path| container.mounts.iter().find(|mount| mount.container_path == *path));
        let most = u64::try_from(WORDS_MAX).unwrap_or_default();
        let mut words =
            file.and_then(|file| volumes::beginning(&file.host_path, most).ok()).unwrap_or_default();
        let policy = container.annotations.get(TERMINATION_POLICY).map(String::as_str);
        if words.is_empty() && policy == Some("FallbackToLogsOnError") && container.exit_code != 0 {
            words = logs::end(std::path::Path::new(&container.log_path), LOG_MAX).unwrap_or_default();
        }
        agent.with_memory(key, |memory| memory.last_words.insert(container.id.clone(), words));
    }
}
