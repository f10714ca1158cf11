//! `sextant node`: the runtime that a kubelet lives on.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::plugin::{Config, Place, Setup};

use crate::cli::NodeArgs;
use crate::container;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// Prints the configuration with its defaults.
pub(crate) fn print_config() -> Result<()> {
    io::stdout().write_all(Config::EXAMPLE.as_bytes()).context(|| "print the configuration".into())
}

/// Serves until it is told to end. Pods run on.
pub(crate) fn run(instance: Instance, args: &NodeArgs) -> Result<()> {
    kernel::memory::share_one_arena();
    let mut config = read(&args.config)?;
    config.network.builtin |= args.builtin_network;
    let socket = args.socket.clone().unwrap_or_else(|| instance.run.join("cri.sock"));
    let shown = socket.clone();
    let setup = setup(instance, config, socket)?;
    let ready = move || {
        eprintln!("sextant node: serves CRI on {}", shown.display());
        if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
            && let Err(error) = tell_ready(&socket)
        {
            eprintln!("sextant node: warning: cannot tell systemd on {}: {error}", socket.display());
        }
    };
    serve(setup, told_to_end()?, ready)
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
fn read(path: &Path) -> Result<Config> {
    if path == Path::new("/etc/sextant/node.toml") && !path.exists() {
        return Ok(Config::default());
    }
    Config::read(path).map_err(|e| Failure::new(e.to_string()))
}

/// Tells systemd that a unit of `Type=notify` is up (sd_notify(3)).
pub(super) fn tell_ready(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

/// Resolves at SIGTERM or SIGINT.
pub(super) fn told_to_end() -> Result<impl Future<Output = ()>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_hears_of_it_on_either_kind_of_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("@sextant-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name[1..]).unwrap();
        for (listener, socket) in [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str()),
            (UnixDatagram::bind_addr(&address).unwrap(), OsStr::new(&abstract_name)),
        ] {
            tell_ready(socket).unwrap();
            let mut heard = [0; 64];
            let length = listener.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
        assert!(tell_ready(OsStr::new("/nowhere/notify")).is_err());
    }
}
