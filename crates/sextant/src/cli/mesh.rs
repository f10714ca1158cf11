use std::path::PathBuf;

use clap::Args;

use super::CriArgs;

/// `sextant mesh`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant mesh                                     # beside `sextant api` and `sextant node`
  sextant mesh --kubeconfig /etc/kubernetes/kubelet.conf --node node-1
  sextant mesh --cri /run/containerd/containerd.sock
  kubectl label namespace shop mesh.sextant.dev/member=true

TCP connections of pods that are members go by the TrafficSplits and routes of the Services that they are for. Who is no member is never
touched, and nor is what comes to a pod. It may end at any moment: pods reach Services directly then, without splits and routes, and nothing
is left behind in them.")]
pub(crate) struct MeshArgs {
    /// How to reach the API server [default: KUBECONFIG; in a pod, the pod's service account; else what `sextant api` has written
    /// into the data directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The name of this node, whose pods are looked after [default: the machine's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) cri: CriArgs,
}
