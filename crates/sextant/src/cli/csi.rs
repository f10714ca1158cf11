use std::path::PathBuf;

use clap::Args;

/// `sextant csi-driver`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant csi-driver                              # one pool, `default`, in the data directory
  sextant csi-driver --pool fast=/mnt/nvme --pool large=/mnt/disks
  sextant csi-driver --config /etc/sextant/csi.toml --node-id node-1

A pool is a directory. On btrfs a volume is a subvolume with a quota; elsewhere an image with a file system in it, or, where a
class says `backend: dir`, a plain directory.")]
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
}

/// A path, also written as a URL: `unix:///run/csi.sock`.
fn socket(text: &str) -> Result<PathBuf, String> {
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
