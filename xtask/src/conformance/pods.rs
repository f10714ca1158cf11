//! critest, against `sextant node`.

use std::path::Path;
use std::process::Command;

use super::Conformance;
use crate::Result;
use crate::packages;
use crate::program::call;

/// Has the suite's own driver start the node and run the specs: it leaves `results.txt` in `out`.
pub(super) fn run(args: &Conformance, sextant: &Path, out: &Path) -> Result<()> {
    packages::install(&["docker-registry"])?;
    let mut run = Command::new(std::path::absolute(&args.suite)?.join("cri/run"));
    call(run.arg(sextant).arg(std::path::absolute(out)?).args(&args.items))
}
