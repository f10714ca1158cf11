//! A node that serves, from its start to its end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cni::caller::Keeper;
use cni::contract::{NetworkList, Registry};
use grpc::process;
use ledger::OwnerId;
use oci_image::store::Store;
use rustix::event::{PollFd, PollFlags, poll};

use super::exec::Streams;
use super::images::Service as Images;
use super::node::Node;
use super::service::Runtime;
use super::{Config, Place, server};
use crate::contract::Error;

/// How long calls that run have to end when the node ends.
const GRACE: Duration = Duration::from_secs(10);

/// What a node is made of.
pub struct Setup {
    /// Its directories and names.
    pub place: Place,
    /// Its configuration.
    pub config: Config,
    /// Its images.
    pub store: Store,
    /// The socket it serves on.
    pub socket: PathBuf,
    /// Network plugins that run in this process.
    pub builtins: Registry,
    /// What pods are attached to where the configuration directory has nothing.
    pub built_in_network: Option<NetworkList>,
    /// Whether somebody else than the node's pods and containers stands for what an owner has.
    pub others: Box<dyn Fn(&OwnerId) -> bool + Send + Sync>,
    /// The layers, by diffID, of containers that are not the node's; `None` if that cannot be told now.
    pub layers_of_others: Box<dyn Fn() -> Option<BTreeSet<String>> + Send + Sync>,
}

/// Serves until `stop` resolves. Pods run on after it.
///
/// `ready` is called once calls are answered.
///
/// # Errors
/// Another node has the socket, or the machine refuses something that no pod can do without.
pub async fn run(setup: Setup, stop: impl Future<Output = ()>, ready: impl FnOnce()) -> Result<(), Error> {
    let socket = setup.socket.clone();
    let taken = format!(
        "another node serves on {}: stop it, or give this one its own --socket and directories",
        socket.display()
    );
    let (listener, _bound) = grpc::listen(&socket, &taken).await?;
    let node = Arc::new(Node::new(setup)?);
    node.recover().await?;
    watch_networks(&node)?;
    keep_tables(&node)?;
    let streams = Arc::new(Streams::start(Arc::clone(&node), streaming::server::Config::default()).await?);
    let runtime = Arc::new(Runtime { node: Arc::clone(&node), streams });
    let images = Arc::new(Images::new(Arc::clone(&node.images), Arc::clone(&node.history)));
    let plugins = super::nri::serve(&node).await;
    ready();
    let resting = tokio::spawn(process::rest());
    let served = server::serve(listener, runtime, images, stop, GRACE).await;
    resting.abort();
    plugins.end().await;
    served.map_err(|e| Error::internal(format!("cannot serve on {}: {e}", socket.display())))
}

/// Notices changes of the network configuration, on a thread that sleeps until there is one.
fn watch_networks(node: &Arc<Node>) -> Result<(), Error> {
    let node = Arc::clone(node);
    let mut watch = node.networks.directory().watch().map_err(|e| Error::internal(e.to_string()))?;
    // What was read before it is watched may have changed meanwhile.
    node.networks.forget();
    thread("networks", move || {
        loop {
            match watch.changed(Duration::from_secs(24 * 3600)) {
                Ok(true) => node.networks.forget(),
                Ok(false) => {}
                Err(error) => {
                    node.log(&format!("changes of the network configuration may not be seen: {error}"));
                    std::thread::sleep(Duration::from_secs(10));
                    node.networks.forget();
                }
            }
        }
    })
}

/// Puts back what another program flushes out of our tables, on a thread that sleeps until one does.
fn keep_tables(node: &Arc<Node>) -> Result<(), Error> {
    let node = Arc::clone(node);
    let mut keeper = Keeper::new(node.cni.clone()).map_err(|e| Error::internal(e.to_string()))?;
    thread("keeper", move || {
        loop {
            let mut fds = [PollFd::new(&keeper, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
            match keeper.keep() {
                Ok(true) => node.log("another program flushed our packet filter tables: they are back"),
                Ok(false) => {}
                Err(errors) => node.log(&format!("cannot put packet filter tables back: {errors}")),
            }
        }
    })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(256 << 10)
        .spawn(work)
        .map(drop)
        .map_err(|e| Error::internal(format!("cannot start a thread: {e}")))
}
