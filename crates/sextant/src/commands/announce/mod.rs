//! `sextant announce`, and the same within `sextant services`: addresses of load balancers are answered for on this node's links, and
//! routes lead from it to the pods of other nodes.
//!
//! What is wanted comes from the caches that Services are known by, and from the nodes; the configuration of the provider `metal` says
//! which addresses are this cluster's own, and on which links, and whether there are routes. `announce::Announcer` and `routes::Keeper` do
//! the rest, and say what came of it.

mod file;
mod nodes;
mod people;
mod routing;
mod wanted;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use announce::{Announcer, Said, Setup, cluster_of};
use client::cache::{Cache, Name};
use client::kubeconfig;
use grpc::process;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use services::refused::{Now, Refuser};
use services::world::World;
use tokio::sync::{Notify, mpsc};

use crate::cli::AnnounceArgs;
use crate::failure::{Context, Failure, Result};
pub(super) use file::ConfigFile;
use nodes::Nodes;
use people::People;
use routing::Routing;
use wanted::Wishes;

/// The namespace that every cluster has, and by whose uid it is known.
const SYSTEM: &str = "kube-system";
/// How often it is looked for, where it is not there yet.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is looked whether the file has changed.
const LOOK: Duration = Duration::from_secs(5);
/// As much waits to be told to people; more is not told.
const WAITING: usize = 4096;

/// Announces until it is told to end, beside whatever proxy makes Services reachable here.
pub(super) fn run(data_dir: &Path, args: &AnnounceArgs) -> Result<()> {
    let Some(file) = &args.file else { return remove() };
    kernel::memory::share_one_arena();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "start to answer for addresses".into())?;
    runtime.block_on(serve(data_dir, file, args))
}

/// Takes away what is left when the process ends: the routes.
fn remove() -> Result<()> {
    let count = routes::remove().map_err(|e| {
        Failure::new(format!(
            "cannot take away the routes to other nodes' pods: {e}; it needs the capability NET_ADMIN"
        ))
    })?;
    eprintln!("sextant announce: {count} routes to other nodes' pods are taken away");
    Ok(())
}

async fn serve(data_dir: &Path, file: &Path, args: &AnnounceArgs) -> Result<()> {
    let ended = process::told_to_end();
    let file = ConfigFile::open(file)?;
    let own = data_dir.join("api/kubeconfig");
    let config = kubeconfig::find(args.kubeconfig.as_deref(), &own).await.map_err(Failure::new)?;
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).context(|| format!("reach the API server at {server}"))?;
    let node = args.node.clone().unwrap_or_else(super::services::host);
    eprintln!("sextant announce: works for {server} as node {node}");
    let world = Arc::new(World::default());
    let announcing = Announcing::new("announce", node, file, &client, &world);
    let (services, slices) = (Cache::start(&client), Cache::start(&client));
    world.follow(&services, &slices);
    let resting = tokio::spawn(process::rest());
    let working = async {
        tokio::join!(services.filled(), slices.filled());
        announcing.run(|| process::tell_ready("announce")).await
    };
    let done = tokio::select! {
        outcome = working => outcome,
        () = ended => Ok(()),
    };
    resting.abort();
    done
}

/// What has changed since it was last looked at.
#[derive(Debug, Default)]
struct Due {
    changed: Mutex<Changed>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Changed {
    services: BTreeSet<Name>,
    nodes: bool,
}

impl Due {
    fn tell(&self, make: impl FnOnce(&mut Changed)) {
        make(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_one();
    }

    fn take(&self) -> Changed {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether this process may answer for addresses, before anything is made that would have to be taken back.
///
/// # Errors
/// It may not.
pub(super) fn check() -> Result<()> {
    Announcer::check().map_err(|e| may_not(&e))
}

fn may_not(error: &kernel::Error) -> Failure {
    Failure::new(format!(
        "cannot answer for addresses of load balancers: {error}; it needs the capability NET_RAW"
    ))
}

/// Answers for addresses of load balancers, as one of the nodes of a cluster.
pub(super) struct Announcing {
    command: &'static str,
    client: Client,
    world: Arc<World>,
    due: Arc<Due>,
    file: ConfigFile,
    node: String,
    /// In which table of nftables ports that no Service has are refused, if they are.
    refused: Option<String>,
}

impl Announcing {
    /// For `command`, on the node of this name, by what `world` is told from now on.
    pub(super) fn new(
        command: &'static str,
        node: String,
        file: ConfigFile,
        client: &Client,
        world: &Arc<World>,
    ) -> Self {
        let due = Arc::new(Due::default());
        let tell = due.clone();
        world.listen(move |name| tell.tell(|changed| changed.services.extend([name.clone()])));
        Self { command, client: client.clone(), world: world.clone(), due, file, node, refused: None }
    }

    /// The same, and ports that no Service has are refused at addresses that are answered for, by this table of nftables.
    pub(super) fn refusing(self, table: String) -> Self {
        Self { refused: Some(table), ..self }
    }

    /// Answers until it is dropped; then nobody of this node does. It is to begin when what is answered for is reached here. `ready` is
    /// called once all that there is to answer for is known.
    ///
    /// # Errors
    /// The kernel gives no sockets.
    pub(super) async fn run(self, ready: impl FnOnce()) -> Result<()> {
        let mut nodes = Nodes::start(&self.client, self.file.config().node_routes.are_wanted(), &self.due);
        let cluster = cluster_of(&uid_of_the_cluster(&self.client).await);
        nodes.filled().await;
        let (tell, mut said) = mpsc::channel::<Said>(WAITING);
        let setup = Setup { node: self.node.clone(), cluster };
        let refuser = self.refused.map(Refuser::start).transpose();
        let refuser = refuser.context(|| "start to refuse ports that no Service has".into())?;
        // It is called by the announcer's thread, which waits for nobody.
        let noting = refuser.clone();
        let told = move |what: Said| {
            if let Some(refuser) = &noting {
                note(refuser, &what);
            }
            drop(tell.try_send(what));
        };
        let announcer = Announcer::start(setup, told).map_err(|e| may_not(&e))?;
        self.file.tell_if_empty(self.command);
        let routing = Routing::new(self.command, &self.client, &self.node);
        let mut people = People::new(self.command, &self.client, &self.world, &self.node);
        let mut wishes = Wishes::new(self.command, self.node, self.file);
        wishes.look(&self.world, &self.due.take(), &nodes);
        // Before it is answered for.
        if let Some(refuser) = &refuser {
            refuser.spare(wishes.of_others());
        }
        announcer.want(wishes.wanted());
        routing.want(wishes.node_routes(), &nodes);
        ready();
        let wishes = RefCell::new(wishes);
        // Beside the rest: the server may be slow to take events.
        let telling = async {
            while let Some(what) = said.recv().await {
                people.tell(&what, &wishes).await;
            }
        };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let wishing = async {
            // Nodes of which more is to be known, or less, until they are listed.
            let mut next: Option<Nodes> = None;
            loop {
                let (is_other, of_routes) = tokio::select! {
                    () = self.due.bell.notified() => {
                        let changed = self.due.take();
                        (wishes.borrow_mut().look(&self.world, &changed, &nodes), changed.nodes)
                    }
                    _ = look.tick() => {
                        let is_other = wishes.borrow_mut().look_at_file();
                        (is_other, is_other)
                    }
                    () = filled(next.as_ref()) => {
                        if let Some(listed) = next.take() {
                            nodes = listed;
                        }
                        let changed = Changed { nodes: true, ..self.due.take() };
                        (wishes.borrow_mut().look(&self.world, &changed, &nodes), true)
                    }
                };
                if is_other {
                    if let Some(refuser) = &refuser {
                        refuser.spare(wishes.borrow().of_others());
                    }
                    announcer.want(wishes.borrow_mut().wanted());
                }
                let wants_routes = wishes.borrow().node_routes().are_wanted();
                if next.as_ref().unwrap_or(&nodes).is_whole() != wants_routes {
                    // There is one watch of them, but for the moment in which the other begins.
                    next = match next {
                        Some(_) => None,
                        None => Some(Nodes::start(&self.client, wants_routes, &self.due)),
                    };
                }
                if of_routes || !routing.is_settled(wants_routes) {
                    routing.want(wishes.borrow().node_routes(), &nodes);
                }
            }
        };
        tokio::select! {
            () = telling => Ok(()),
            never = wishing => never,
            never = routing.follow() => match never {},
        }
    }
}

/// Hands on which addresses this node answers for.
fn note(refuser: &Refuser, what: &Said) {
    match what {
        Said::Announced { address, link } => refuser.note(*address, link, Now::Answered),
        Said::Withdrawn { address, link } => refuser.note(*address, link, Now::Left),
        Said::Contested { address, link, .. } => refuser.note(*address, link, Now::Contested),
        Said::Defended { .. } | Said::Nowhere { .. } | Said::Failed { .. } => {}
    }
}

/// Resolves once these are known, if there are to be others.
async fn filled(nodes: Option<&Nodes>) {
    match nodes {
        Some(nodes) => nodes.filled().await,
        None => std::future::pending().await,
    }
}

/// What distinguishes this cluster from others on the same network.
async fn uid_of_the_cluster(client: &Client) -> String {
    let only = watcher::Config::default().fields(&format!("metadata.name={SYSTEM}"));
    let namespaces = Cache::<PartialObjectMeta<Namespace>>::start_with(client, only);
    namespaces.filled().await;
    loop {
        let system = namespaces.get(&Name::global(SYSTEM));
        if let Some(uid) = system.and_then(|system| system.metadata.uid.clone()) {
            return uid;
        }
        tokio::time::sleep(PAUSE).await;
    }
}
