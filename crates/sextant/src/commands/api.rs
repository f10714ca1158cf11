//! `sextant api`: a Kubernetes API for one machine.

use std::path::Path;
use std::time::Duration;

use api::serve::{Instance, Options};

use super::daemon;
use crate::cli::ApiArgs;
use crate::failure::{Context, Failure, Result};

/// How long requests that are being answered have when it ends.
const GRACE: Duration = Duration::from_secs(5);

/// After so long with hardly any work things are quiet.
const QUIET: Duration = Duration::from_secs(5);
/// CPU time that is hardly any work.
const HARDLY: Duration = Duration::from_millis(2);

/// Serves until it is told to end.
pub(crate) fn run(data_dir: &Path, args: &ApiArgs) -> Result<()> {
    kernel::memory::share_one_arena();
    let options = Options {
        folder: data_dir.join("api"),
        listen: args.listen.clone(),
        names: args.name.clone(),
        kubeconfig: args.kubeconfig.clone(),
        audit: args.audit_log.clone().map(|path| (path, args.audit_log_size << 20, args.audit_log_files)),
        node: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .context(|| "start the API server".into())?;
    runtime.block_on(serve(options))
}

async fn serve(options: Options) -> Result<()> {
    let instance = Instance::start(options).await.map_err(|e| Failure::new(e.to_string()))?;
    let addresses: Vec<String> = instance.addresses().iter().map(ToString::to_string).collect();
    eprintln!(
        "sextant api: serves on {}; kubectl --kubeconfig {} get namespaces",
        addresses.join(", "),
        instance.kubeconfig().display()
    );
    daemon::tell_ready("api");
    let resting = tokio::spawn(rest());
    daemon::told_to_end().await;
    resting.abort();
    instance.stop(GRACE).await;
    Ok(())
}

/// Gives back what the start and bursts of requests have left, memory and text that ran for them, once things are quiet.
async fn rest() {
    let mut is_full = true;
    loop {
        let before = cpu_time();
        tokio::time::sleep(QUIET).await;
        if cpu_time().saturating_sub(before) > HARDLY {
            is_full = true;
        } else if std::mem::take(&mut is_full) {
            // Where that fails more is held, and nothing else.
            let _ = kernel::memory::give_back();
        }
    }
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(now).unwrap_or_default()
}
