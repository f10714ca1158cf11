//! `sextant agent`: a kubelet's work for the pods of this node.

use std::fs::{DirBuilder, File, Permissions};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::agent::{Cloud, Setup};
use client::kubeconfig;
use grpc::process;
use kube::{Client, Config};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::cli::AgentArgs;
use crate::failure::{Context, Failure, Result};
use crate::instance;

/// How often the node's lease is renewed: as a kubelet has it.
const RENEW: Duration = Duration::from_secs(10);

/// Works until it is told to end. Pods run on.
pub(crate) fn run(data_dir: &Path, run_dir: &Path, args: &AgentArgs) -> Result<()> {
    kernel::memory::share_one_arena();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_secs(2))
        .build()
        .context(|| "start the agent".into())?;
    runtime.block_on(serve(data_dir, run_dir, args))
}

async fn serve(data_dir: &Path, run_dir: &Path, args: &AgentArgs) -> Result<()> {
    let ended = process::told_to_end();
    let own = data_dir.join("api/kubeconfig");
    let config = kubeconfig::find(args.kubeconfig.as_deref(), &own).await.map_err(Failure::new)?;
    let server = config.cluster_url.to_string();
    let setup = setup(data_dir, run_dir, args, &config)?;
    let _held = hold(&setup.folder)?;
    let client = Client::try_from(config).context(|| format!("reach the API server at {server}"))?;
    let node = setup.node.clone();
    let resting = tokio::spawn(process::rest());
    let ready = || {
        eprintln!("sextant agent: node {node} of {server} is ready for pods");
        process::tell_ready("agent");
    };
    let done = ::agent::run(client, setup, ended, ready).await;
    resting.abort();
    done.map_err(Failure::new)
}

fn setup(data_dir: &Path, run_dir: &Path, args: &AgentArgs, config: &Config) -> Result<Setup> {
    let folder = directory(&data_dir.join("agent"), 0o700)?;
    // Pods' secrets and tokens are below it, with modes that are meant for the pods.
    std::fs::set_permissions(&folder, Permissions::from_mode(0o700))
        .context(|| format!("close {} to others", folder.display()))?;
    let logs = directory(&args.logs, 0o755)?;
    let run = directory(run_dir, 0o700)?;
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    Ok(Setup {
        node: args.node.clone().unwrap_or(host),
        socket: args.socket.clone().unwrap_or_else(|| run.join("cri.sock")),
        folder,
        // Collectors look beside the folder as it is called, wherever it leads.
        log_links: args.log_links.clone().unwrap_or_else(|| args.logs.with_file_name("containers")),
        logs,
        cgroup_root: cgroup_root(&run),
        address: args.node_ip.map_or_else(|| address(args.listen), Ok)?,
        listen: args.listen,
        client_authorities: authorities(args.client_ca.as_deref(), config)?,
        cluster_dns: args.cluster_dns.clone(),
        cluster_domain: args.cluster_domain.clone(),
        cloud: Cloud {
            is_external: args.cloud_provider.is_some(),
            provider_id: args.provider_id.clone(),
            address: args.node_ip,
        },
        labels: args.label.clone(),
        pods: args.max_pods,
        pod_pids: args.pod_pids_limit,
        manifests: args.pod_manifest_path.clone(),
        offers_metrics: args.offer_metrics,
        limits: args.limits.limits(),
        renew: RENEW,
    })
}

/// The cgroup above those of pods: never a kubelet's, as what is found there of nobody is ended.
pub(super) fn cgroup_root(run: &Path) -> String {
    format!("{}-agent", instance::name(run))
}

/// Keeps other agents away from the folder while it lives: each would end what it does not know of the other's pods.
fn hold(folder: &Path) -> Result<File> {
    let held = File::open(folder).context(|| format!("open {}", folder.display()))?;
    match flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(Failure::new(format!(
            "cannot look after pods in {}: another `sextant agent` does already; give this one directories of its own (--data-dir, --run-dir)",
            folder.display()
        ))),
        locked => locked.map(|()| held).context(|| format!("lock {}", folder.display())),
    }
}

/// A directory, made, by the path that the kernel knows it by.
fn directory(path: &Path, mode: u32) -> Result<PathBuf> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.and_then(|()| std::fs::canonicalize(path))
        .context(|| format!("create the directory {}", path.display()))
}

/// The node's address, where nobody says it.
fn address(listen: SocketAddr) -> Result<IpAddr> {
    if !listen.ip().is_unspecified() {
        return Ok(listen.ip());
    }
    address_of_route().context(|| "find the node's address: give --node-ip".into())
}

/// The address that the machine's default route begins at.
pub(super) fn address_of_route() -> std::io::Result<IpAddr> {
    // Nothing is sent: the kernel says from where it would be.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("192.0.2.1:9")?;
    Ok(socket.local_addr()?.ip())
}

/// Who signs certificates of the clients of the agent's server.
fn authorities(said: Option<&Path>, config: &Config) -> Result<Vec<Vec<u8>>> {
    let Some(path) = said else {
        return config.root_cert.clone().filter(|all| !all.is_empty()).ok_or_else(|| {
            Failure::new("cannot tell whom the agent's server may let in: the kubeconfig names no authority; give --client-ca")
        });
    };
    let failed = |why: &dyn std::fmt::Display| Failure::new(format!("cannot read {}: {why}", path.display()));
    let read = CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))?;
    let all: std::result::Result<Vec<_>, _> = read.map(|one| one.map(|one| one.to_vec())).collect();
    all.map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn cgroups_of_pods_are_never_a_kubelets() {
        let roots = ["/run/sextant", "/run/other"].map(|run| cgroup_root(Path::new(run)));
        assert_eq!(roots[0], "sextant-agent");
        assert!(roots[1].starts_with("sextant-") && roots[1].ends_with("-agent"), "{}", roots[1]);
        assert_ne!(roots[0], roots[1]);
    }

    #[test]
    fn links_are_beside_the_logs_as_they_are_called() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("disk/pods")).unwrap();
        std::fs::create_dir(at("log")).unwrap();
        std::os::unix::fs::symlink(at("disk/pods"), at("log/pods")).unwrap();
        let told = |more: &[&str]| {
            let logs = at("log/pods").display().to_string();
            let words = ["sextant", "agent", "--node-ip", "127.0.0.1", "--logs", &logs];
            let cli = Cli::try_parse_from(words.iter().chain(more)).unwrap();
            let Command::Agent(args) = cli.command else { panic!("another command") };
            let mut config = Config::new("https://127.0.0.1:1".parse().unwrap());
            config.root_cert = Some(vec![vec![1]]);
            let setup = setup(&at("data"), &at("run"), &args, &config).unwrap();
            (setup.logs, setup.log_links)
        };
        let logs = std::fs::canonicalize(at("disk/pods")).unwrap();
        assert_eq!(told(&[]), (logs.clone(), at("log/containers")));
        assert_eq!(told(&["--log-links", "/links"]), (logs, "/links".into()));
    }

    #[test]
    fn only_a_provider_of_another_program_can_be_named() {
        let parse = |more: &[&str]| {
            let cli = Cli::try_parse_from(["sextant", "agent"].iter().chain(more)).ok()?;
            let Command::Agent(args) = cli.command else { panic!("another command") };
            Some((args.cloud_provider, args.provider_id))
        };
        assert_eq!(parse(&[]), Some((None, None)));
        let both = parse(&["--cloud-provider", "external", "--provider-id", "aws:///a/i-1"]);
        assert_eq!(both, Some((Some("external".into()), Some("aws:///a/i-1".into()))));
        assert_eq!(parse(&["--cloud-provider", "aws"]), None);
        assert_eq!(parse(&["--provider-id", ""]), None);
    }

    #[test]
    fn a_folder_is_one_agents() {
        let dir = tempfile::tempdir().unwrap();
        let _held = hold(dir.path()).unwrap();
        let refused = hold(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("another `sextant agent`"), "{refused}");
    }
}
