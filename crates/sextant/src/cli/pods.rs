use std::path::PathBuf;

use clap::Args;

use super::OutputArgs;

/// Which runtime is asked.
#[derive(Debug, Args)]
pub(crate) struct CriArgs {
    /// The runtime's CRI socket: any runtime's [default: cri.sock in the run directory]
    #[arg(long, value_name = "PATH", env = "CONTAINER_RUNTIME_ENDPOINT")]
    pub(crate) cri: Option<PathBuf>,
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
