use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long this thread has kept a core busy: with more threads than cores, the wall's clock would count the others too.
pub(crate) fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
}
