//! `sextant services`: Services and names on this node, beside any API server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use client::kubeconfig;
use grpc::process;
use kernel::netlink::IpNet;
use kube::Client;
use ledger::Owner;
use services::dns::{Listeners, Resolver, Source, Upstream};
use services::effects;
use services::plane::Networks;
use services::run::{self, Setup};
use services::world::World;

use super::announce::{self, Announcing, ConfigFile};
use crate::cli::ServicesArgs;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// Keeps Services until it is told to end.
pub(crate) fn run(instance: &Instance, args: &ServicesArgs) -> Result<()> {
    kernel::memory::share_one_arena();
    let owner = instance.ledger.try_owner(&effects::owner())?;
    let Some(mut owner) = owner else {
        return Err(Failure::new(format!(
            "cannot look after Services: another `sextant services` of {} does already",
            instance.run.display()
        )));
    };
    if args.remove {
        return remove(owner);
    }
    // What is wrong with it is told before anything is made.
    let pools = args.announce.as_deref().map(ConfigFile::open).transpose()?;
    if pools.is_some() {
        announce::check()?;
    }
    let table = format!("{}-services", instance.name);
    effects::claim_table(&mut owner, &table)?;
    // Whether there are to be any the file says, which may change.
    match pools.is_some() {
        true => effects::claim_routes(&mut owner, routes::PROTOCOL)?,
        false => effects::release_routes(&mut owner)
            .context(|| "take away the routes to other nodes' pods of an earlier call".into())?,
    }
    let of_dns = args.dns_address.iter().filter(|_| !args.no_dns);
    let addresses: Vec<IpAddr> = of_dns.chain(&args.own_address).copied().collect();
    effects::release_others(&mut owner, &addresses, &args.service_network)
        .context(|| "take back the addresses and routes of an earlier call, which named others".into())?;
    for address in addresses {
        effects::claim_address(&mut owner, address)
            .map_err(|e| Failure::new(format!("cannot give this machine the address {address}: {e}")))?;
    }
    let services = ways(&mut owner, &args.service_network)?;
    let node = args.node.clone().unwrap_or_else(host);
    let networks = Networks::new(args.pod_network.clone(), args.node_port_addresses.clone(), services);
    let own = match args.no_dns {
        true => Vec::new(),
        false => args.dns_address.iter().map(|at| SocketAddr::new(*at, args.dns_port)).collect(),
    };
    let in_cluster = |at: &&SocketAddr| args.service_network.iter().any(|net| net.contains(at.ip()));
    let announced = own.iter().filter(in_cluster).copied().collect();
    let setup = Setup { table, node, networks, own, announced };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "start to look after Services".into())?;
    // The owner is held for as long, so that no second process does the same.
    runtime.block_on(serve(instance, args, setup, pools))
}

/// The name of a machine as a node, where none is given.
pub(super) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().to_lowercase()
}

/// The networks of Services to which this machine's programs have a way of ours.
fn ways(owner: &mut Owner, networks: &[IpNet]) -> Result<Vec<IpNet>> {
    let mut ours = Vec::new();
    for net in networks {
        let outcome = effects::claim_route(owner, *net);
        match outcome
            .map_err(|e| Failure::new(format!("cannot make a route to the Services in {net}: {e}")))?
        {
            true => ours.push(*net),
            false => eprintln!(
                "sextant services: warning: this machine has a route to {net} already, which is left as it is; \
                 if that is no network of Services, say by --service-network where they are"
            ),
        }
    }
    Ok(ours)
}

fn remove(owner: Owner) -> Result<()> {
    let errors = owner.undo_all();
    match errors.is_empty() {
        true => Ok(()),
        false => {
            let causes: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(Failure::new(causes.join("; ")))
        }
    }
}

async fn serve(
    instance: &Instance,
    args: &ServicesArgs,
    setup: Setup,
    pools: Option<ConfigFile>,
) -> Result<()> {
    let ended = process::told_to_end();
    let own = instance.data.join("api/kubeconfig");
    let config = kubeconfig::find(args.kubeconfig.as_deref(), &own).await.map_err(Failure::new)?;
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).context(|| format!("reach the API server at {server}"))?;
    let world = Arc::new(World::default());
    let dns = if args.no_dns { None } else { Some(dns(args, &setup.own, &world).await?) };
    eprintln!("sextant services: works for {server}, in nftables table inet {}", setup.table);
    let resting = tokio::spawn(process::rest());
    let announcing = pools.map(|pools| {
        let announcing = Announcing::new("services", setup.node.clone(), pools, &client, &world);
        announcing.refusing(format!("{}-refused", instance.name))
    });
    let (reached, are_reached) = tokio::sync::oneshot::channel();
    let ready = || {
        eprintln!("sextant services: all Services are reached");
        process::tell_ready("services");
        let _ = reached.send(());
    };
    // Nobody is told to come here before he is led on.
    let announcing = async {
        match (announcing, are_reached.await) {
            (Some(announcing), Ok(())) => announcing.run(|| {}).await,
            _ => std::future::pending().await,
        }
    };
    let done = tokio::select! {
        outcome = run::run(client, setup, world, dns, ready) => outcome.map_err(Failure::from),
        outcome = announcing => outcome,
        () = ended => Ok(()),
    };
    resting.abort();
    done
}

async fn dns(
    args: &ServicesArgs,
    own: &[SocketAddr],
    world: &Arc<World>,
) -> Result<(Arc<Resolver>, Vec<Listeners>)> {
    let source = match args.upstream.as_slice() {
        [] => Source::File(args.resolv_conf.clone()),
        servers => Source::Servers(servers.to_vec()),
    };
    let upstream = Upstream::new(source, own.to_vec());
    let resolver = Resolver::new(world.clone(), &args.cluster_domain, upstream).map_err(Failure::new)?;
    let mut listeners = Vec::new();
    for &at in own {
        let one = Listeners::bind(at).await.map_err(|e| {
            Failure::new(format!(
                "cannot answer for names at {at}: {e}; if another program has the port, choose another by --dns-address or --dns-port, \
                 or use --no-dns"
            ))
        })?;
        eprintln!("sextant services: answers for names at {at}");
        listeners.push(one);
    }
    Ok((Arc::new(resolver), listeners))
}
