//! `sextant node`: the runtime that a kubelet lives on.

use std::path::Path;
use std::sync::Arc;

use cri::plugin::{Config, Place, Setup};

use crate::cli::NodeArgs;
use crate::container;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// Serves until it is told to end. Pods run on.
pub(crate) fn run(instance: Instance, args: &NodeArgs) -> Result<()> {
    let mut config = read(&args.config)?;
    let instance = Arc::new(instance);
    config.network.builtin |= args.builtin_network;
    let built_in_network =
        config.network.builtin.then(|| container::default_network(&instance)).transpose()?;
    let socket = args.socket.clone().unwrap_or_else(|| instance.run.join("cri.sock"));
    let store = instance.store()?;
    let place = Place {
        data: instance.data.clone(),
        run: instance.run.clone(),
        name: instance.name.clone(),
        ledger: instance.ledger.clone(),
    };
    let shown = socket.clone();
    let setup = Setup {
        place,
        config,
        store,
        socket,
        builtins: cni::plugin::builtins(),
        built_in_network,
        layers_of_others: {
            let instance = Arc::clone(&instance);
            Box::new(move || container::Record::layers_in_use(&instance))
        },
        others: Box::new(move |owner| instance.is_alive(owner)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .context(|| "start the node".into())?;
    let ready = move || eprintln!("sextant node: serves CRI on {}", shown.display());
    runtime.block_on(cri::plugin::run(setup, told_to_end()?, ready)).map_err(|e| Failure::new(e.to_string()))
}

/// The default file need not be there; one that was asked for must.
fn read(path: &Path) -> Result<Config> {
    if path == Path::new("/etc/sextant/node.toml") && !path.exists() {
        return Ok(Config::default());
    }
    Config::read(path).map_err(|e| Failure::new(e.to_string()))
}

/// Resolves at SIGTERM or SIGINT.
fn told_to_end() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| move || signal(kind);
    let (terminate, interrupt) = (listen(SignalKind::terminate()), listen(SignalKind::interrupt()));
    Ok(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = (terminate(), interrupt()) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
