use std::path::PathBuf;

use clap::Args;

use super::csi::CsiInNodeArgs;

/// `sextant node`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant node --print-config > /etc/sextant/node.toml
  sextant node                                    # then: kubelet --container-runtime-endpoint=unix:///run/sextant/cri.sock
  sextant node --builtin-network                  # pods get a bridge although no network add-on is there
  sextant node --csi --csi-registration-dir /var/lib/kubelet/plugins_registry    # and CSI, for the same kubelet
  crictl -r unix:///run/sextant/cri.sock pods")]
pub(crate) struct NodeArgs {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/sextant/node.toml")]
    pub(crate) config: PathBuf,
    /// Where it serves CRI [default: cri.sock in the run directory]
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print a configuration with every key, its default and what it means, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Attach pods to a bridge of this node's own: where /etc/cni/net.d has no network, or whatever it has
    #[arg(long, value_enum, value_name = "WHEN", num_args = 0..=1, require_equals = true, default_missing_value = "missing")]
    pub(crate) builtin_network: Option<BuiltinNetwork>,
    /// Tell `sextant mesh` of each pod's network before the pod's first container starts, where that listens [default: mesh-pods.sock
    /// in the run directory]
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true)]
    pub(crate) mesh_pods: Option<Option<PathBuf>>,
    #[command(flatten, next_help_heading = "Volumes")]
    pub(crate) csi: CsiInNodeArgs,
}

/// When pods are attached to the node's own bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BuiltinNetwork {
    /// Where no other network is configured
    Missing,
    /// Always
    Always,
}
