use clap::{Args, Subcommand};

use super::{OutputArgs, ServerArgs};

/// `sextant cloud`
#[derive(Debug, Args)]
pub(crate) struct Cloud {
    #[command(subcommand)]
    pub(crate) command: CloudCommand,
}

/// What can be asked of clouds.
#[derive(Debug, Subcommand)]
pub(crate) enum CloudCommand {
    /// Show which nodes, load balancers and routes the cluster has of its cloud, and what fails
    Status(CloudStatusArgs),
}

/// `sextant cloud status`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant cloud status
  sextant cloud status --kubeconfig admin.conf -o json

It asks the API server alone: it shows what the controllers of clouds have written there, whichever they are, and the provider is
not asked. What fails is told by the last event of an object, of namespace kube-system where it is the provider itself, as long as
the server keeps that (an hour, mostly).")]
pub(crate) struct CloudStatusArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
