use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::{OutputArgs, ServerArgs};
use crate::pods::Ports;

/// How commands find the container that is meant: told in the help of each.
pub(crate) const WHICH: &str = "CONTAINER is a name, an id or the beginning of an id. It is looked for among containers of `sextant run` first, \
then among the pods of this machine's API where it has one, then among containers of the node's pods. A name that containers of several pods \
have is refused with their list; --pod says which.";

/// Which runtime is asked.
#[derive(Debug, Clone, Args)]
pub(crate) struct CriArgs {
    /// The runtime's CRI socket: any runtime's [default: cri.sock in the run directory]
    #[arg(long, visible_alias = "runtime-endpoint", value_name = "PATH", env = "CONTAINER_RUNTIME_ENDPOINT")]
    pub(crate) cri: Option<PathBuf>,
}

/// A container of a pod, instead of one that is looked for everywhere.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Containers of pods")]
pub(crate) struct OfPod {
    /// A container of this pod: NAMESPACE/NAME, NAME if only one pod is called so, or the beginning of its id
    #[arg(short, long, value_name = "POD")]
    pub(crate) pod: Option<String>,
    /// Which of the pod's containers [default: its only one]
    #[arg(short = 'c', long = "container", value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) cri: CriArgs,
}

/// `sextant explain`
#[derive(Debug, Args)]
#[command(after_help = "Example:
  sextant explain web
  sextant explain web-6d4cf-x2x7p -n shop
  sextant explain default/web --cri /run/containerd/containerd.sock

Of a pod of the API it tells first whether it runs, and if not why, and what to do. Then it tells what happened to the pod on the node, oldest
first, what it and its containers do now, and what they wait for. How long things took, and what failed and was taken back, only a node of
Sextant remembers: the last of it, since it was started. With --cri the runtime alone is asked, unless --namespace or --kubeconfig is given, too.")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) cri: CriArgs,
    /// The pod's namespace
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// NAMESPACE/NAME, NAME, or of a runtime's pod the beginning of its id
    #[arg(value_name = "POD")]
    pub(crate) pod: String,
}

/// `sextant top`
#[derive(Debug, Args)]
#[command(
    after_help = "Those that use most of the CPU come first. It goes on until it is ended (Ctrl-C); where standard output \
is no terminal it is shown once."
)]
#[command(mut_arg("name", |name| name.requires("pod")))]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) of: OfPod,
}

fn ports(text: &str) -> Result<Ports, &'static str> {
    text.parse()
}

/// `sextant port-forward`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant port-forward default/web 8080:80
  sextant port-forward web :80 5432 --address 0.0.0.0

It goes on until it is ended (Ctrl-C).")]
pub(crate) struct PortForwardArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) address: IpAddr,
    #[command(flatten)]
    pub(crate) cri: CriArgs,
    /// NAMESPACE/NAME, NAME if only one pod is called so, or the beginning of its id
    #[arg(value_name = "POD")]
    pub(crate) pod: String,
    /// LOCAL:REMOTE, :REMOTE for any free port here, or one port for both
    #[arg(required = true, value_name = "PORTS", value_parser = ports)]
    pub(crate) ports: Vec<Ports>,
}

/// `sextant pods`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant pods
  sextant pods --cri /run/containerd/containerd.sock -o json")]
pub(crate) struct PodsArgs {
    /// Stopped ones too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids
    #[arg(short, long, conflicts_with = "output")]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) cri: CriArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// `sextant events`
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) cri: CriArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
