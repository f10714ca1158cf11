use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::OutputArgs;
use crate::output::parse_bytes;

/// `sextant csi-driver`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant csi-driver                              # one pool, `default`, in the data directory
  sextant csi-driver --pool fast=/mnt/nvme --pool large=/mnt/disks
  sextant csi-driver --config /etc/sextant/csi.toml --node-id node-1
  sextant csi-driver --registration-dir /var/lib/kubelet/plugins_registry

A pool is a directory. A volume is an image with a file system in it or a block device, or, where a class says `backend: dir`, a
plain directory.")]
pub(crate) struct CsiDriverArgs {
    /// Where it serves CSI [default: csi.sock in the run directory]
    #[arg(long, value_name = "PATH", env = "CSI_ENDPOINT", value_parser = socket)]
    pub(crate) socket: Option<PathBuf>,
    /// What Kubernetes calls this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_id: Option<String>,
    /// A pool and its directory, the default one first; give it more than once for more pools
    #[arg(long, value_name = "NAME=DIRECTORY", conflicts_with = "config", value_parser = pool)]
    pub(crate) pool: Vec<csi::plugin::PoolConfig>,
    /// Pools, as a file of TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Register with the kubelet that looks here for plugins: /var/lib/kubelet/plugins_registry, as a rule
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) registration_dir: Option<PathBuf>,
    /// The driver's socket as the kubelet sees it, where that is another path [default: --socket]
    #[arg(long, value_name = "PATH", requires = "registration_dir", value_parser = socket)]
    pub(crate) registration_endpoint: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) health: HealthArgs,
}

/// What `sextant node` says of the driver that it serves beside CRI: as `sextant csi-driver` does, under names of its own.
#[derive(Debug, Args)]
pub(crate) struct CsiInNodeArgs {
    /// Serve CSI too, as `sextant csi-driver` does: volumes of this machine
    #[arg(long)]
    csi: bool,
    /// Where it serves CSI [default: csi.sock in the run directory]
    #[arg(long, value_name = "PATH", requires = "csi", value_parser = socket)]
    csi_socket: Option<PathBuf>,
    /// What Kubernetes calls this node, for its volumes [default: the host's name]
    #[arg(long, value_name = "NAME", requires = "csi")]
    csi_node_id: Option<String>,
    /// A pool and its directory, the default one first; give it more than once for more pools
    #[arg(long, value_name = "NAME=DIRECTORY", requires = "csi", conflicts_with = "csi_config", value_parser = pool)]
    csi_pool: Vec<csi::plugin::PoolConfig>,
    /// Pools, as a file of TOML
    #[arg(long, value_name = "FILE", requires = "csi")]
    csi_config: Option<PathBuf>,
    /// Register the driver with the kubelet that looks here for plugins: /var/lib/kubelet/plugins_registry, as a rule
    #[arg(long, value_name = "DIRECTORY", requires = "csi")]
    csi_registration_dir: Option<PathBuf>,
    /// The driver's socket as the kubelet sees it, where that is another path than its own
    #[arg(long, value_name = "PATH", requires = "csi_registration_dir", value_parser = socket)]
    csi_registration_endpoint: Option<PathBuf>,
}

/// A driver that is asked for, by whichever command.
#[derive(Clone, Debug)]
pub(crate) struct CsiDriver {
    pub(crate) socket: Option<PathBuf>,
    pub(crate) node_id: Option<String>,
    pub(crate) pool: Vec<csi::plugin::PoolConfig>,
    pub(crate) config: Option<PathBuf>,
    pub(crate) registration_dir: Option<PathBuf>,
    pub(crate) registration_endpoint: Option<PathBuf>,
}

impl CsiDriverArgs {
    pub(crate) fn driver(&self) -> CsiDriver {
        CsiDriver {
            socket: self.socket.clone(),
            node_id: self.node_id.clone(),
            pool: self.pool.clone(),
            config: self.config.clone(),
            registration_dir: self.registration_dir.clone(),
            registration_endpoint: self.registration_endpoint.clone(),
        }
    }
}

impl CsiInNodeArgs {
    /// The driver; `None` where none is asked for.
    pub(crate) fn driver(&self) -> Option<CsiDriver> {
        self.csi.then(|| CsiDriver {
            socket: self.csi_socket.clone(),
            node_id: self.csi_node_id.clone(),
            pool: self.csi_pool.clone(),
            config: self.csi_config.clone(),
            registration_dir: self.csi_registration_dir.clone(),
            registration_endpoint: self.csi_registration_endpoint.clone(),
        })
    }
}

/// Who may ask how a command that serves is.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Answer GET /healthz here: 200 while the driver answers that it is ready, 500 with the reason otherwise; a port alone is one of
    /// the loopback
    #[arg(long = "health-listen", value_name = "[ADDRESS:]PORT", value_parser = listen)]
    pub(crate) listen: Option<SocketAddr>,
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    port.or_else(|_| text.parse()).map_err(|_| "write a port, or ADDRESS:PORT".into())
}

/// A path, also written as a URL: `unix:///run/csi.sock`.
pub(super) fn socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
    if path.starts_with('/') {
        Ok(path.into())
    } else {
        Err("write an absolute path, or unix:///PATH".into())
    }
}

fn pool(text: &str) -> Result<csi::plugin::PoolConfig, String> {
    let (name, path) = text.split_once('=').ok_or("write NAME=DIRECTORY")?;
    let pool = csi::plugin::PoolConfig::new(name, path);
    csi::plugin::Config { pools: vec![pool.clone()] }.validate().map_err(|e| e.to_string())?;
    Ok(pool)
}

/// `sextant csi`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant csi drivers
  sextant csi create data --size 10Gi
  sextant csi publish default-0123... /mnt/data
  sextant csi snapshot default-0123... before-upgrade
  sextant csi create restored --size 10Gi --from-snapshot default-snapshot-4567...
  sextant csi doctor

It speaks to any CSI driver: --socket names another than that of `sextant csi-driver`.")]
pub(crate) struct Csi {
    #[command(subcommand)]
    pub(crate) command: CsiCommand,
    /// The driver's socket [default: csi.sock in the run directory]
    #[arg(long, global = true, value_name = "PATH", env = "CSI_ENDPOINT", value_parser = socket)]
    pub(crate) socket: Option<PathBuf>,
    /// How long the driver may take for a call; who it is, it must say within 5 seconds
    #[arg(long, global = true, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CsiCommand {
    /// List drivers of this machine, and what they can do
    Drivers(OutputArgs),
    /// List volumes
    Volumes(OutputArgs),
    /// List snapshots
    Snapshots(OutputArgs),
    /// Make a volume
    Create(CsiCreateArgs),
    /// Put a volume at a path of this machine
    Publish(CsiPublishArgs),
    /// Take a volume away from a path
    Unpublish(CsiUnpublishArgs),
    /// Cut a snapshot of a volume
    Snapshot(CsiSnapshotArgs),
    /// Make a volume larger
    Expand(CsiExpandArgs),
    /// Delete volumes and snapshots
    Rm(CsiRmArgs),
    /// Look for what is wrong with a driver and its volumes
    Doctor(OutputArgs),
    /// Ask a driver whether it is ready: 0 if it is, 1 if not (for probes of containers)
    Probe,
    /// Register a driver with the kubelet of this node, and keep it registered
    Register(CsiRegisterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CsiCreateArgs {
    /// What it is called: the same name is the same volume
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// How large, as 10Gi or 500Mi [default: as the driver likes, or as its source]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) size: Option<u64>,
    /// A parameter, as a StorageClass has it; give it more than once for more
    #[arg(short, long = "parameter", value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) parameters: Vec<(String, String)>,
    /// A raw block device
    #[arg(long)]
    pub(crate) block: bool,
    /// The file system [default: as the driver likes]
    #[arg(long, value_name = "TYPE", conflicts_with = "block")]
    pub(crate) fs_type: Option<String>,
    /// Begin with what a snapshot has: its id, or a beginning of it
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "from_volume")]
    pub(crate) from_snapshot: Option<String>,
    /// Begin with what a volume has: its id, or a beginning of it
    #[arg(long, value_name = "VOLUME")]
    pub(crate) from_volume: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CsiPublishArgs {
    /// The volume's id, or a beginning of it
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
    /// Where it is to be; made where it is not there
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Nothing can be written there
    #[arg(long)]
    pub(crate) read_only: bool,
    /// It is a raw block device
    #[arg(long)]
    pub(crate) block: bool,
    /// An option of mount; give it more than once for more
    #[arg(long = "option", value_name = "OPTION", conflicts_with = "block")]
    pub(crate) options: Vec<String>,
    /// The file system [default: as the driver likes]
    #[arg(long, value_name = "TYPE", conflicts_with = "block")]
    pub(crate) fs_type: Option<String>,
    /// What the driver said of the volume when it was made, if it lists no volumes; give it more than once for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) context: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct CsiUnpublishArgs {
    /// The volume's id, or a beginning of it
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
    /// Where it is
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CsiSnapshotArgs {
    /// The volume's id, or a beginning of it
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
    /// What the snapshot is called: the same name is the same snapshot
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CsiExpandArgs {
    /// The volume's id, or a beginning of it
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: String,
    /// How large it is to be, as 20Gi
    #[arg(value_name = "SIZE", value_parser = size)]
    pub(crate) size: u64,
    /// Where it is published, if anybody but `sextant csi` has done that: its file system grows, too
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CsiRmArgs {
    /// Ids of volumes and snapshots, or beginnings of them
    #[arg(required = true, value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// They are snapshots: to be said where the driver does not list both, as ids are taken as they are then
    #[arg(long)]
    pub(crate) snapshot: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant csi register --socket /csi/csi.sock --registration-dir /registration \\
      --registration-endpoint /var/lib/kubelet/plugins/csi.example.com/csi.sock

It stands where a driver's pod has node-driver-registrar. `sextant csi-driver` registers itself.")]
pub(crate) struct CsiRegisterArgs {
    /// Where the kubelet looks for plugins
    #[arg(long, value_name = "DIRECTORY", default_value = csi::caller::registration::REGISTRY)]
    pub(crate) registration_dir: PathBuf,
    /// The driver's socket as the kubelet sees it, where that is another path [default: --socket]
    #[arg(long, value_name = "PATH", value_parser = socket)]
    pub(crate) registration_endpoint: Option<PathBuf>,
}

fn size(text: &str) -> Result<u64, String> {
    parse_bytes(text).filter(|&bytes| bytes > 0).ok_or_else(|| "write a size as 10Gi or 500Mi".into())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.into(), value.into()))
}
