//! The command line: every option once, with its help.

mod agent;
mod api;
mod cloud;
mod cloud_status;
mod cni;
mod containers;
mod control;
mod csi;
mod images;
mod mesh;
mod node;
mod objects;
mod pods;
mod run;
mod services;
mod up;

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::error::ContextKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub(crate) use agent::AgentArgs;
pub(crate) use api::ApiArgs;
pub(crate) use cloud::{Check, CheckCpiArgs, CheckedNode, CloudArgs, Contract, Provider};
pub(crate) use cloud_status::{Cloud, CloudCommand, CloudStatusArgs};
pub(crate) use cni::{Cni, CniAddArgs, CniAttachmentArgs, CniCommand, CniGcArgs, CniStatusArgs};
pub(crate) use containers::{
    AttachArgs, CpArgs, ExecArgs, KillArgs, Lines, LogsArgs, NamesArgs, PsArgs, RmArgs, StartArgs, StopArgs,
};
pub(crate) use control::{ControlArgs, MeshPlaneArgs};
pub(crate) use csi::{
    Csi, CsiCommand, CsiCreateArgs, CsiDriver, CsiDriverArgs, CsiExpandArgs, CsiPublishArgs, CsiRegisterArgs,
    CsiRmArgs, CsiSnapshotArgs, CsiUnpublishArgs, HealthArgs,
};
pub(crate) use images::{
    ArchiveFormat, ImagesArgs, LoadArgs, LoginArgs, LogoutArgs, PullArgs, PushArgs, Registry,
    RegistryCommand, RmiArgs, SaveArgs, TagArgs, VerifyArgs,
};
pub(crate) use mesh::{
    ControlPlane, Host, LogFormat, MeshArgs, MeshCommand, MeshRoutesArgs, MeshStatusArgs, MeshTapArgs,
    MeshTopArgs, MeshWhyArgs, TopBy,
};
pub(crate) use node::{BuiltinNetwork, NodeArgs};
pub(crate) use objects::{
    ApplyArgs, DeleteArgs, DescribeArgs, Event, GetArgs, POD, RolloutArgs, RolloutCommand, RolloutNamesArgs,
    ScaleArgs, Selected, ServerArgs, Shown, WaitArgs, Within,
};
pub(crate) use pods::{CriArgs, EventsArgs, ExplainArgs, OfPod, PodsArgs, PortForwardArgs, TopArgs, WHICH};
pub(crate) use run::{PullPolicy, RunArgs};
pub(crate) use services::{AnnounceArgs, ServicesArgs};
pub(crate) use up::{DownArgs, ResetArgs, StatusArgs, UpArgs};

/// What every command takes, apart from its own options.
const INSTANCE: &str = "Options of every command";

/// The six Kubernetes interfaces as one program: images, containers and their networks on this machine, without a
/// daemon.
#[derive(Debug, Parser)]
#[command(name = "sextant", version, disable_help_subcommand = true, max_term_width = 110)]
#[command(after_help = "Examples:
  sextant run --rm -it docker.io/library/alpine sh
  sextant run -d --name web -p 8080:80 nginx
  sextant logs -f web
  sextant demo

Every command that lists something takes `-o json`.")]
pub(crate) struct Cli {
    /// Where images, containers and volumes are kept.
    #[arg(
        long,
        global = true,
        env = "SEXTANT_DATA_DIR",
        default_value = "/var/lib/sextant",
        value_name = "DIR",
        help_heading = INSTANCE
    )]
    pub(crate) data_dir: PathBuf,
    /// Where what does not outlive a boot is kept. Another one is another instance: the two never touch.
    #[arg(
        long,
        global = true,
        env = "SEXTANT_RUN_DIR",
        default_value = "/run/sextant",
        value_name = "DIR",
        help_heading = INSTANCE
    )]
    pub(crate) run_dir: PathBuf,
    /// What this process holds locked while it lives (started by `sextant up`)
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub(crate) member: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program in a new container
    Run(Box<RunArgs>),
    /// Start containers that have ended
    Start(StartArgs),
    /// List containers
    Ps(PsArgs),
    /// Show what a container wrote, or one of a pod
    Logs(LogsArgs),
    /// Run a program in a running container, or in one of a pod
    Exec(ExecArgs),
    /// Connect to a running container's program, or to that of a pod
    Attach(AttachArgs),
    /// Copy files between a container and this machine
    Cp(CpArgs),
    /// End containers: a signal first, SIGKILL after a while
    Stop(StopArgs),
    /// Send containers a signal
    Kill(KillArgs),
    /// Remove containers
    Rm(RmArgs),
    /// Wait until containers have ended, and print their exit codes; or until objects of the API have come to something
    Wait(WaitArgs),
    /// Freeze the processes of containers
    Pause(NamesArgs),
    /// Let frozen containers go on
    Unpause(NamesArgs),
    /// Show all there is to know about containers and images
    Inspect(InspectArgs),
    /// Show what containers and pods use
    Stats(StatsArgs),
    /// Show what containers and pods use, again and again, those that use most first
    Top(TopArgs),
    /// Download an image
    Pull(PullArgs),
    /// Upload an image
    Push(PushArgs),
    /// List images
    Images(ImagesArgs),
    /// Check that images are still what was pulled, for example after a power cut
    Verify(VerifyArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Read images from an archive
    Load(LoadArgs),
    /// Store credentials for a registry
    Login(LoginArgs),
    /// Forget credentials for a registry
    Logout(LogoutArgs),
    /// Show how a registry would be reached
    Registry(Registry),
    /// Make this machine one with a Kubernetes API: node, API and controllers
    Up(UpArgs),
    /// End what `sextant up` started, and take its pods down
    Down(DownArgs),
    /// Take `sextant up` down, and remove all that it keeps
    Reset(ResetArgs),
    /// Show what of `sextant up` runs, and which objects nothing acts on
    Status(StatusArgs),
    /// List objects of the Kubernetes API
    Get(GetArgs),
    /// Show an object of the API, and what happened to it
    Describe(DescribeArgs),
    /// Have the API's objects as files say
    Apply(ApplyArgs),
    /// Delete objects of the API
    Delete(DeleteArgs),
    /// Look after what Deployments, StatefulSets and DaemonSets roll out
    Rollout(RolloutArgs),
    /// Have a Deployment, a StatefulSet or another that has replicas have so many
    Scale(ScaleArgs),
    /// Serve CRI: the runtime that a kubelet lives on
    Node(NodeArgs),
    /// Serve a Kubernetes API for this machine
    Api(ApiArgs),
    /// Do a kubelet's work for the pods of this node, over any CRI socket and for any API server
    Agent(AgentArgs),
    /// Run the controllers of volumes, for any CSI driver and any API server; those of workloads and clouds, too, if wanted
    Control(ControlArgs),
    /// See how a cluster and its cloud get on
    Cloud(Cloud),
    /// Put what others have written for one of Kubernetes' interfaces through its paces
    Check(Check),
    /// Make Services reachable on this node, and answer for their names: in place of kube-proxy and CoreDNS
    Services(ServicesArgs),
    /// Answer for addresses of load balancers on this node, beside any proxy of Services
    Announce(AnnounceArgs),
    /// Run the service mesh for the pods of this node: connections go by TrafficSplits and routes, without sidecars; and see
    /// what it does
    Mesh(MeshArgs),
    /// Serve CSI: volumes of this machine
    CsiDriver(CsiDriverArgs),
    /// Make and look after volumes of a CSI driver
    Csi(Csi),
    /// List pods of the node, or of any CRI runtime
    Pods(PodsArgs),
    /// Show what happens to pods and containers, as it happens
    Events(EventsArgs),
    /// Tell why a pod does not run, what happened to it, and what it waits for
    Explain(ExplainArgs),
    /// Make ports of a pod reachable on this machine
    PortForward(PortForwardArgs),
    /// Attach network namespaces to networks, and look after them
    Cni(Cni),
    /// Remove what nobody uses: ended containers, images without a name, unfinished downloads
    Prune(PruneArgs),
    /// Show it at work: a registry, a machine with a Kubernetes API, a small shop on it, and nothing left behind
    Demo(DemoArgs),
    /// Print a script that completes commands in a shell
    Completions(CompletionsArgs),
    /// Show the versions of this program and of the contracts it meets
    Version(OutputArgs),
    /// Write the manual pages into a directory (for packages)
    #[command(hide = true)]
    Man(ManArgs),
    /// Undo what a container that ended holds (run by its shim)
    #[command(hide = true)]
    Reap(ReapArgs),
}

impl Command {
    /// Whether it goes on when nobody reads what it writes. One that shows what a container's program writes does not end
    /// before the program, whose exit code is its own; a server does not end because a client has gone; a reader of logs
    /// because a runtime has, which it asks whether more will come; and what changes several things changes all of them.
    pub(crate) fn outlasts_readers(&self) -> bool {
        matches!(
            self,
            Self::Run(_)
                | Self::Exec(_)
                | Self::Attach(_)
                | Self::Logs(_)
                | Self::Apply(_)
                | Self::Delete(_)
                | Self::Scale(_)
                | Self::Rollout(RolloutArgs {
                    command: RolloutCommand::Restart(_) | RolloutCommand::Undo(_)
                })
                | Self::Node(_)
                | Self::Api(_)
                | Self::Agent(_)
                | Self::Control(_)
                | Self::Services(_)
                | Self::Announce(_)
                | Self::Mesh(MeshArgs { command: None, .. })
                | Self::CsiDriver(_)
                | Self::Demo(_)
                | Self::Up(_)
                | Self::Down(_)
                | Self::Reset(_)
                | Self::PortForward(_)
        )
    }
}

/// Says what is wrong with a command line, and exits. `run` does so with its own code for a container that was not made:
/// a script takes others for its program's.
pub(crate) fn refuse(mut error: clap::Error) -> ! {
    // Clap's other advice is to write `-- --option`, which would make the option an image's name.
    error.remove(ContextKind::Suggested);
    let mut words = std::env::args_os().skip(1);
    let is_run = error.use_stderr() && words.find(|w| is_command(w)).is_some_and(|w| w == "run");
    let _ = error.print();
    std::process::exit(if is_run { 125 } else { error.exit_code() })
}

fn is_command(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| Cli::command().find_subcommand(word).is_some())
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputArgs {
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
}

impl OutputArgs {
    pub(crate) fn json(self) -> bool {
        self.output == Format::Json
    }
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Containers or images
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = format!("DISK and INODES are of the writable layer, LOG is all files of a log. A pod has its containers behind it.\n\n{WHICH}"))]
#[command(mut_arg("name", |name| name.requires("pod")))]
pub(crate) struct StatsArgs {
    /// Once, instead of every second on a terminal
    #[arg(long)]
    pub(crate) no_stream: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Names, ids, or the beginnings of ids (default: all that run)
    #[arg(value_name = "CONTAINER", conflicts_with = "pod")]
    pub(crate) containers: Vec<String>,
    #[command(flatten)]
    pub(crate) of: OfPod,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Images that no container uses too, with or without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Volumes that no container uses too
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave it up, and say how to look at it and how to remove it
    #[arg(long)]
    pub(crate) keep: bool,
    /// Only make the image that the objects in `examples/` name, for `sextant up` of this instance
    #[arg(long, conflicts_with = "keep")]
    pub(crate) image: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sextant completions bash > /etc/bash_completion.d/sextant")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ReapArgs {
    pub(crate) id: String,
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;
    use clap::{CommandFactory, Parser as _};

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        let refused = |words: &str| {
            super::Cli::try_parse_from(["sextant"].into_iter().chain(words.split(' ')))
                .err()
                .map(|e| e.kind())
        };
        for words in ["stats -c app", "top -c app"] {
            assert_eq!(refused(words), Some(ErrorKind::MissingRequiredArgument), "{words}");
        }
        for words in ["delete -f shop -l a=b", "delete -f shop --all", "delete -f shop pod web"] {
            assert_eq!(refused(words), Some(ErrorKind::ArgumentConflict), "{words}");
        }
        let fine = ["stats -p web -c app", "top -p web -c app", "logs web -c app", "delete -f shop"];
        for words in fine.into_iter().chain(["explain web -n shop --cri a.sock"]) {
            assert_eq!(refused(words), None, "{words}");
        }
    }
}
