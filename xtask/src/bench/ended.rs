//! Programs that end with who started them.

use std::process::Child;

use crate::Result;

/// A program that is killed when this is dropped.
pub(crate) struct Ended(pub(super) Child);

impl Ended {
    /// KiB that it has had resident at most.
    pub(crate) fn peak(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
