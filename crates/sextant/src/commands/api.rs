//! `sextant api`: a Kubernetes API for one machine.

use std::path::Path;
use std::time::Duration;

use api::serve::{Instance, Options};
use grpc::process;

use crate::cli::ApiArgs;
use crate::failure::{Context, Failure, Result};

/// How long requests that are being answered have when it ends.
const GRACE: Duration = Duration::from_secs(5);

/// Serves until it is told to end.
pub(crate) fn run(data_dir: &Path, args: &ApiArgs) -> Result<()> {
    kernel::memory::share_one_arena();
    let options = Options {
        folder: data_dir.join("api"),
        listen: args.listen.clone(),
        listen_ahead: args.listen_ahead.clone(),
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
    process::tell_ready("api");
    let resting = tokio::spawn(process::rest());
    process::told_to_end().await;
    resting.abort();
    instance.stop(GRACE).await;
    Ok(())
}
