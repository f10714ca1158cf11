//! `sextant node`: the runtime that a kubelet lives on.

pub(super) mod within;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::plugin::{Config, Place, Setup};
use grpc::process;

use super::csi_driver::Beside;
use crate::cli::{BuiltinNetwork, NodeArgs};
use crate::container;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// Where no network is configured: what Debian calls a directory that is not to be (hier(7) of its policy).
pub(super) const NOWHERE: &str = "/nonexistent";

/// Prints the configuration with its defaults.
pub(crate) fn print_config() -> Result<()> {
    io::stdout().write_all(Config::EXAMPLE.as_bytes()).context(|| "print the configuration".into())
}

/// Serves until it is told to end, CRI and, where that is asked for, CSI. Pods run on, and volumes stay in use.
pub(crate) fn run(instance: Instance, args: &NodeArgs) -> Result<()> {
    kernel::memory::share_one_arena();
    let mut config = read(&args.config)?;
    config.network.builtin |= args.builtin_network.is_some();
    if args.builtin_network == Some(BuiltinNetwork::Always) {
        config.network.conf_dir = PathBuf::from(NOWHERE);
    }
    if let Some(socket) = &args.mesh_pods {
        let own = || instance.run.join(cni::mesh::SOCKET);
        config.network.mesh_pods = Some(socket.clone().unwrap_or_else(own));
    }
    let socket = args.socket.clone().unwrap_or_else(|| instance.run.join("cri.sock"));
    let shown = socket.clone();
    let (data, run) = (instance.data.clone(), instance.run.clone());
    let setup = setup(instance, config, socket)?;
    let driver = args.csi.driver();
    let mut driver = driver.map(|driver| Beside::start(&data, &run, &driver, "node")).transpose()?;
    let driver_ended = driver.as_mut().map(Beside::ended);
    let ready = move || {
        eprintln!("sextant node: serves CRI on {}", shown.display());
        process::tell_ready("node");
    };
    // A node without the volumes that it was to have is to be started again; its pods run on meanwhile.
    let stop = async {
        match driver_ended {
            None => process::told_to_end().await,
            Some(ended) => tokio::select! {
                () = process::told_to_end() => {}
                () = ended => {}
            },
        }
    };
    let served = serve(setup, stop, ready);
    let driver_served = driver.map_or(Ok(()), Beside::end);
    served.and(driver_served)
}

/// A node of this instance, which lives beside its containers.
pub(super) fn setup(instance: Instance, config: Config, socket: PathBuf) -> Result<Setup> {
    let instance = Arc::new(instance);
    let built_in_network =
        config.network.builtin.then(|| container::default_network(&instance)).transpose()?;
    let store = instance.store()?;
    let place = Place {
        data: instance.data.clone(),
        run: instance.run.clone(),
        name: instance.name.clone(),
        ledger: instance.ledger.clone(),
    };
    Ok(Setup {
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
    })
}

/// Serves on this thread until `stop` resolves.
pub(super) fn serve(setup: Setup, stop: impl Future<Output = ()>, ready: impl FnOnce()) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .context(|| "start the node".into())?;
    runtime.block_on(cri::plugin::run(setup, stop, ready)).map_err(|e| Failure::new(e.to_string()))
}

/// The default file need not be there; one that was asked for must.
pub(super) fn read(path: &Path) -> Result<Config> {
    if path == Path::new("/etc/sextant/node.toml") && !path.exists() {
        return Ok(Config::default());
    }
    Config::read(path).map_err(|e| Failure::new(e.to_string()))
}
