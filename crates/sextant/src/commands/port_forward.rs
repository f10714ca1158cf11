use std::path::Path;

use crate::cli::PortForwardArgs;
use crate::failure::Result;
use crate::pods::{self, Runtime};

/// `sextant port-forward`
pub(super) fn run(run_dir: &Path, args: &PortForwardArgs) -> Result<()> {
    let runtime = Runtime::connect(run_dir, &args.cri)?;
    let pod = runtime.pod(&args.pod)?;
    pods::forward(&runtime, &pod, args.address, &args.ports)
}
