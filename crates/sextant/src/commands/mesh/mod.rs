//! `sextant mesh`: the mesh's proxy for the pods of this node, beside any API server and any CRI runtime; and what is asked of one that runs.

mod accept;
mod admin;
mod ask;
mod counters;
mod identities;
mod known;
mod left;
mod lines;
mod members;
mod plane;
mod proofs;
mod reports;
mod routes;
mod sandboxes;
mod told;
mod why;
mod wire;

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use client::kubeconfig;
use grpc::page::Page;
use grpc::{Bound, listen, process};
use kube::Client;
use ledger::{Owner, OwnerId, Record as _};
use mesh::capture::Names;
use mesh::node::Node;
use mesh::proxy::{Builder, Network, Settings};
use rustix::process::{Resource, getrlimit, setrlimit};
use smi::compile;
use smi::model::Delta;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::cli::{ControlPlane, MeshArgs};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::pods;
pub(super) use ask::run as ask;
use counters::Counters;
use identities::{Identities, Wanted};
use known::Known;
pub(crate) use left::take_away;
use lines::{Lines, Log};
use members::{Answer, Asking, Members};
use plane::{Outlets, Trust, Way};
use proofs::Proofs;
use reports::Reports;
use sandboxes::Sandboxes;
use told::{Early, Listening, Told};

/// How often it is looked whether pods have other sandboxes than before, though nobody has told of a change, and what has failed is tried again.
const LOOK: Duration = Duration::from_secs(5);
/// How often, while a member's sandbox is not there yet.
const SOON: Duration = Duration::from_millis(200);
/// How long connections that are open may last at the end.
const DRAIN: Duration = Duration::from_secs(20);

/// Whose what is that goes with the process, or with the next command.
const PLAIN: &str = "mesh";

/// Whose what is that stays in pods which not everybody may come to, though nobody serves them: it is alive until another `sextant mesh` knows better.
pub(crate) fn guarding() -> OwnerId {
    OwnerId::new("mesh-guard").unwrap_or_else(|_| OwnerId::node())
}

/// Takes back all that an owner has.
fn take_back(owner: &mut Owner) {
    // What was recorded last goes first.
    for (id, _) in owner.records().into_iter().rev() {
        if let Err(error) = owner.undo(id) {
            eprintln!("sextant mesh: warning: {error}");
        }
    }
}

/// Serves the members among this node's pods until it is told to end.
pub(crate) fn run(instance: &Instance, args: &MeshArgs) -> Result<()> {
    kernel::memory::share_one_arena();
    // There are few pages that it works with, and each for as long as it lives; the kernel would map those around, too. Where it fails more is held.
    let _ = kernel::memory::map_single_pages();
    let hold = |id: &OwnerId| -> Result<Owner> {
        instance.ledger.try_owner(id)?.ok_or_else(|| {
            Failure::new(format!(
                "cannot look after the mesh's pods: another `sextant mesh` of {} does already",
                instance.run.display()
            ))
        })
    };
    let (mut plain, mut guard) = (hold(&OwnerId::new(PLAIN)?)?, hold(&guarding())?);
    // What one before it has left: all connections of that have ended with it. Pods that it has closed stay so until it is known who they are, if
    // anybody says that.
    take_back(&mut plain);
    if args.control.is_none() {
        take_back(&mut guard);
    }
    let (owner, _held) = if args.control.is_some() { (guard, plain) } else { (plain, guard) };
    // Each connection is two, and more than the usual 1,024 are nothing unusual.
    let limit = getrlimit(Resource::Nofile);
    let most = rustix::process::Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, most).context(|| "have as many descriptors as may be".into())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "start to look after the mesh's pods".into())?;
    runtime.block_on(serve(instance, args, owner))
}

async fn serve(instance: &Instance, args: &MeshArgs, owner: Owner) -> Result<()> {
    let ended = process::told_to_end();
    let node = args.node.clone().unwrap_or_else(super::services::host);
    let socket = pods::socket(&instance.run, &args.cri);
    let (source, whose) = Source::of(instance, args, &node).await?;
    eprintln!(
        "sextant mesh: works for {whose}, for pods of node {node} of the runtime at {}",
        socket.display()
    );
    let (tell_over, mut overs) = unbounded_channel();
    let serving = Node::start(Settings::default(), move |network| {
        // At the end nobody asks any more.
        let _gone = tell_over.send(network);
    })
    .context(|| "start a thread that serves pods".into())?;
    let looker = serving.looker().context(|| "look at what is served".into())?;
    let proofs = source.proofs();
    let certificates = proofs.as_ref().map(Proofs::certificates);
    let counters = Counters::new(Names::of(&instance.name));
    let known = Known::new(looker, &node, &whose, certificates.clone(), counters);
    let telling = Telling::start(instance, args, &known).await?;
    let (listening, mut pods) = Listening::start(&instance.run).await?;
    let whom = (Names::of(&instance.name), Sandboxes::new(socket), node.clone());
    let proving = (certificates, !args.no_source_check);
    let mut members = Members::new(serving, owner, whom, proving, known.clone())?;
    let resting = tokio::spawn(process::rest());
    let (tell, deltas) = unbounded_channel();
    let mut wanted = Wanted::of(&node);
    let following = source.follow(tell, &node, wanted.all(), known.clone());
    let told = (deltas, &mut overs, proofs.as_ref());
    let done = tokio::select! {
        outcome = look_after(&mut members, &known, &mut wanted, told, &mut pods) => outcome,
        () = following => Ok(()),
        () = ended => Ok(()),
    };
    resting.abort();
    // Who tells of a pod now is told that nobody is there.
    drop((listening, pods));
    leave(members, &mut overs).await;
    telling.end();
    done
}

/// What tells people and programs of what is done.
struct Telling {
    answering: JoinHandle<()>,
    page: JoinHandle<()>,
    lines: Arc<Lines>,
    /// The socket's path, which goes with it.
    _bound: Bound,
}

impl Telling {
    async fn start(instance: &Instance, args: &MeshArgs, known: &Known) -> Result<Self> {
        let path = instance.run.join(wire::SOCKET);
        let taken = format!("cannot listen on {}: somebody else answers there already", path.display());
        let (listener, bound) = listen(&path, &taken).await?;
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        let page = Page::listen(args.metrics, ("mesh", "--metrics"), "/metrics", kind).await?;
        let log =
            args.access_log.as_deref().map(|path| Log::open(path, args.access_log_format)).transpose()?;
        let lines = Lines::start(known.clone(), log).context(|| "start to write lines".into())?;
        let lines = Arc::new(lines);
        let answering = tokio::spawn(admin::serve(listener, known.clone(), lines.clone()));
        let paged = known.clone();
        let page: JoinHandle<()> = tokio::spawn(async move {
            page.serve(|| {
                let known = paged.clone();
                async move { known.page().map_err(|error| format!("cannot read what was counted: {error}\n")) }
            })
            .await;
        });
        Ok(Self { answering, page, lines, _bound: bound })
    }

    /// Nothing more is served: what is left to be written is.
    fn end(self) {
        self.answering.abort();
        self.page.abort();
        self.lines.end();
    }
}

/// Whoever tells where connections go.
enum Source {
    /// The API server: this node compiles for itself.
    Cluster(Client),
    /// A control plane, which has certificates, too, and where they go.
    Plane(Way, Proofs),
}

impl Source {
    /// What was named, and what it is called.
    async fn of(instance: &Instance, args: &MeshArgs, node: &str) -> Result<(Self, String)> {
        let cluster = async || {
            let own = instance.data.join("api/kubeconfig");
            let config = kubeconfig::find(args.kubeconfig.as_deref(), &own).await.map_err(Failure::new)?;
            let server = config.cluster_url.to_string();
            let client = Client::try_from(config).context(|| format!("reach the API server at {server}"))?;
            Ok::<_, Failure>((client, server))
        };
        let Some(at) = args.control.clone() else {
            let (client, server) = cluster().await?;
            return Ok((Self::Cluster(client), server));
        };
        let (trust, whose) = match (&at, &args.control_ca) {
            // Who may make a socket there is root, and so is this.
            (ControlPlane::Unix(path), _) => (None, format!("the control plane at {}", path.display())),
            (ControlPlane::Https(address), Some(file)) => {
                (Some(Trust::File(file.clone())), format!("the control plane at {address}"))
            }
            (ControlPlane::Https(address), None) => {
                let trust = Trust::Cluster(Box::new(cluster().await?.0));
                (Some(trust), format!("the control plane at {address}"))
            }
        };
        let way = Way { at, trust, token: args.control_token.clone(), node: node.to_owned() };
        Ok((Self::Plane(way, Proofs::new(&args.trust_domain)), whose))
    }

    /// What proves who members are, if there is something.
    fn proofs(&self) -> Option<Proofs> {
        match self {
            Self::Cluster(_) => None,
            Self::Plane(_, proofs) => Some(proofs.clone()),
        }
    }

    /// Tells of everything, once it is known, and then of what changes, for as long as it is polled.
    async fn follow(
        self,
        tell: UnboundedSender<Delta>,
        node: &str,
        wanted: watch::Receiver<BTreeSet<String>>,
        known: Known,
    ) {
        match self {
            Self::Cluster(client) => {
                let told = move |outcome: compile::Outcome| {
                    let _gone = tell.send(outcome.delta);
                };
                control::mesh::follow(&client, compile::Settings::default(), Some(node), told).await;
            }
            Self::Plane(way, keep) => {
                let way = Arc::new(way);
                let outlets =
                    Outlets { client: watch::Sender::new(None), roots: watch::Sender::new(Vec::new()) };
                let identities = Identities {
                    way: way.clone(),
                    keep,
                    wanted,
                    roots: outlets.roots.subscribe(),
                    client: outlets.client.subscribe(),
                };
                let reports = Reports { way: way.clone(), known, client: outlets.client.subscribe() };
                tokio::join!(plane::follow(&way, &tell, &outlets), identities.run(), reports.run());
            }
        }
    }
}

/// Waits for the runtime, if it is being asked.
async fn answered(asking: &mut Option<Asking>) -> Answer {
    match asking {
        Some(asking) => asking.await,
        None => pending().await,
    }
}

/// Goes by what the API server, or the control plane, and the runtime tell. Nothing waits for the runtime but what only it can tell.
async fn look_after(
    members: &mut Members,
    known: &Known,
    wanted: &mut Wanted,
    (mut deltas, overs, proofs): (UnboundedReceiver<Delta>, &mut UnboundedReceiver<Network>, Option<&Proofs>),
    pods: &mut Receiver<Told>,
) -> Result<()> {
    let proved = async || match proofs {
        Some(proofs) => proofs.changed().await,
        None => pending().await,
    };
    let mut builder = Builder::default();
    let mut is_known = false;
    let mut next = Instant::now();
    let mut asking: Option<Asking> = None;
    // Whether something has changed since the runtime was asked.
    let mut is_stale = false;
    let mut early = Early::default();
    loop {
        tokio::select! {
            delta = deltas.recv() => {
                let Some(delta) = delta else { return Ok(()) };
                wanted.take(&delta);
                let is_of_pods = members.take(&delta);
                let tables = builder.apply(delta.clone());
                known.take(delta, &tables);
                members.swap(tables)?;
                // Others than the node's own pods may send to these.
                members.admit();
                if !std::mem::replace(&mut is_known, true) {
                    eprintln!("sextant mesh: Services and routes are known");
                    process::tell_ready("mesh");
                }
                early.serve(members)?;
                if !is_of_pods {
                    continue;
                }
                is_stale = true;
            }
            Some(network) = overs.recv() => {
                members.over(network);
                continue;
            }
            // Whoever tells of a pod waits, and so does the pod.
            Some(told) = pods.recv() => {
                early.enter(told);
                early.serve(members)?;
                continue;
            }
            () = early.due() => {
                early.serve(members)?;
                continue;
            }
            () = proved(), if is_known => {
                early.serve(members)?;
                is_stale = true;
            }
            answer = answered(&mut asking) => {
                asking = None;
                let have_sandboxes = members.found(answer)?;
                next = Instant::now() + if have_sandboxes { LOOK } else { SOON };
            }
            () = sleep_until(next), if is_known && asking.is_none() => is_stale = true,
        }
        members.settle()?;
        // Nobody is captured before it is known where connections go: that is where the first change comes from.
        if is_stale && asking.is_none() {
            is_stale = false;
            next = Instant::now() + LOOK;
            asking = members.ask();
        }
    }
}

/// Lets pods go their own way, and waits a while for the connections that are open.
async fn leave(mut members: Members, overs: &mut UnboundedReceiver<Network>) {
    members.leave_all();
    let ending = async {
        while members.is_leaving()
            && let Some(network) = overs.recv().await
        {
            members.over(network);
        }
    };
    if timeout(DRAIN, ending).await.is_err() {
        eprintln!("sextant mesh: some connections last longer than {} s, and end now", DRAIN.as_secs());
    }
    members.end();
}
