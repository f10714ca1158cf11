//! `sextant control`: controllers of Kubernetes objects, beside any API server.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ::csi::caller::health::{Asked, Health};
use client::kubeconfig;
use client::leader::{Election, Terms};
use control::cloud::Metrics;
use control::csi::{self, Place, Setup};
use control::mesh::Plane;
use control::workloads;
use grpc::process;
use kube::Client;

use super::cloud;
use crate::cli::{ControlArgs, MeshPlaneArgs};
use crate::failure::{Context, Failure, Result};

/// The lease of the one process that works.
const LEASE: &str = "sextant-control";
/// The kernel makes another one for each who reads it.
const RANDOM: &str = "/proc/sys/kernel/random/uuid";
/// Where a kubelet has the sockets of its drivers.
const PLUGINS: &str = "/var/lib/kubelet/plugins";

/// Runs controllers until it is told to end.
pub(crate) fn run(data_dir: &Path, run_dir: &Path, args: &ControlArgs) -> Result<()> {
    kernel::memory::share_one_arena();
    let setup = Setup {
        places: places(run_dir, args),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        node: args.node.clone(),
        deadline: Duration::from_secs(args.timeout),
        bind: args.bind,
        // Once for the cluster.
        snapshot_controller: !args.no_snapshot_controller && args.node.is_none(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .context(|| "start the controllers".into())?;
    runtime.block_on(serve(data_dir, args, setup))
}

async fn serve(data_dir: &Path, args: &ControlArgs, setup: Setup) -> Result<()> {
    let mut ended = std::pin::pin!(process::told_to_end());
    let health = Health::listen(args.health.listen, "control").await?;
    let page = cloud::page(args.cloud.metrics_listen).await?;
    let metrics = Arc::new(Metrics::default());
    let found = cloud::provider(&args.cloud);
    let places = setup.places.clone();
    let own = data_dir.join("api/kubeconfig");
    let config = kubeconfig::find(args.kubeconfig.as_deref(), &own).await;
    let found = match found {
        Ok(found) => found,
        // Who looks into the cluster, and not into this process' words, is to know it, too. What is wrong is the provider, also where
        // there is no cluster to be told.
        Err(why) => {
            if let Some(client) = config.ok().and_then(|config| Client::try_from(config).ok()) {
                control::cloud::tell_unusable(&client, &setup.host, &why.to_string()).await;
            }
            return Err(why);
        }
    };
    let config = config.map_err(Failure::new)?;
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).context(|| format!("reach the API server at {server}"))?;
    eprintln!("sextant control: works for {server}");
    let resting = tokio::spawn(process::rest());
    let election = args.leader_elect.then(|| election(&client, args, &setup.host)).transpose()?;
    let addresses = &args.mesh.addresses;
    let plane = (!addresses.is_empty()).then(|| {
        let settings = smi::compile::Settings { trust_domain: args.mesh.trust_domain.clone() };
        Plane::start(&client, settings, args.mesh.accounts.clone(), args.mesh.metrics)
    });
    process::tell_ready("control");
    let works = work(client, setup, args, found, metrics.clone(), plane.as_deref());
    let worked = async {
        match election {
            Some(election) => lead(&election, ended.as_mut(), works).await,
            None => {
                tokio::select! {
                    done = works => done,
                    () = &mut ended => Ok(()),
                }
            }
        }
    };
    let done = tokio::select! {
        done = worked => done,
        // Nodes are answered by all, and not by the one alone that works.
        failed = answer(plane.as_deref(), &args.mesh) => failed,
        never = health.serve(|| asked(&places, &args.csi_socket)) => never,
        never = page.serve(|| std::future::ready(Ok(metrics.render()))) => never,
    };
    resting.abort();
    done
}

/// Answers nodes of a mesh, where that is asked for, until it is dropped.
async fn answer(plane: Option<&Plane>, args: &MeshPlaneArgs) -> Result<()> {
    match plane {
        Some(plane) => plane.serve(&args.addresses, args.definitions).await.map_err(Failure::new),
        None => std::future::pending().await,
    }
}

/// The sockets that health is asked of: at one that was named there must be a driver, elsewhere may be what others have left.
fn asked(places: &[Place], named: &[PathBuf]) -> Asked {
    let mut sockets = BTreeSet::new();
    places.iter().for_each(|place| place.sockets(&mut sockets));
    sockets.into_iter().map(|socket| (socket.clone(), named.contains(&socket))).collect()
}

/// The controllers, until it is dropped; those of workloads, clouds and meshes where they are asked for.
async fn work(
    client: Client,
    setup: Setup,
    args: &ControlArgs,
    found: cloud::Found,
    metrics: Arc<Metrics>,
    plane: Option<&Plane>,
) -> Result<()> {
    let host = setup.host.clone();
    let (clouds, deadline) = (cloud::setup(&args.cloud, &setup.host), setup.deadline);
    let volumes = csi::Context::start(client, setup);
    let pods = async {
        if args.workloads {
            workloads::run(workloads::Context::start(&volumes)).await;
        }
    };
    let clouds = async {
        match clouds {
            Some(setup) => cloud::run(&volumes, setup, found, deadline, metrics).await,
            None => Ok(()),
        }
    };
    let mesh = async {
        if let Some(plane) = plane {
            plane.lead(&host).await;
        }
    };
    let others = async {
        tokio::join!(csi::run(volumes.clone()), pods, mesh);
        Ok(())
    };
    tokio::try_join!(others, clouds).map(drop)
}

/// Works once the lease is held, and for as long.
async fn lead(
    election: &Election,
    mut ended: Pin<&mut impl Future<Output = ()>>,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let mut held = tokio::select! {
        held = election.acquire() => held,
        () = &mut ended => return Ok(()),
    };
    eprintln!("sextant control: has lease {election}, and works");
    let lost = tokio::select! {
        done = work => Ok(done),
        () = &mut ended => Ok(Ok(())),
        why = election.keep(&mut held) => Err(why),
    };
    match lost {
        Err(why) => Err(Failure::new(format!(
            "cannot hold lease {election}: {why}; this process ends, so that one alone works, and is to be started again"
        ))),
        Ok(done) => {
            election.release(held).await;
            done
        }
    }
}

/// How one of several processes comes to work. The name of the host alone would be that of the process before this one, too.
fn election(client: &Client, args: &ControlArgs, host: &str) -> Result<Election> {
    let namespace = args.leader_elect_namespace.as_deref().unwrap_or(client.default_namespace());
    let random = std::fs::read_to_string(RANDOM).context(|| format!("read {RANDOM}"))?;
    let identity = format!("{host}_{}", random.trim());
    let terms = Terms::of(Duration::from_secs(args.leader_elect_lease));
    Ok(Election::new(client, namespace, LEASE, identity, terms))
}

/// Where drivers are looked for.
fn places(run_dir: &Path, args: &ControlArgs) -> Vec<Place> {
    if args.csi_socket.is_empty() && args.csi_dir.is_empty() {
        return vec![Place::Socket(run_dir.join("csi.sock")), Place::Folder(PLUGINS.into())];
    }
    let sockets = args.csi_socket.iter().cloned().map(Place::Socket);
    sockets.chain(args.csi_dir.iter().cloned().map(Place::Folder)).collect()
}
