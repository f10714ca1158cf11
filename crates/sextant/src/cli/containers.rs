use clap::Args;

use super::{CriArgs, OfPod, OutputArgs, POD, ServerArgs, WHICH, Within};

#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Containers of pods are listed behind those of `sextant run`, if a node serves CRI in the run directory or \
--cri names a runtime. Commands that change containers (start, stop, kill, rm, pause) know those of `sextant run` alone: a pod's \
are its kubelet's. So -q lists no others, unless a pod is named."
)]
pub(crate) struct PsArgs {
    /// Ended ones too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only ids
    #[arg(short, long, conflicts_with = "output")]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Only this pod's: NAMESPACE/NAME, NAME if only one pod is called so, or the beginning of its id
    #[arg(short, long, value_name = "POD")]
    pub(crate) pod: Option<String>,
    #[command(flatten)]
    pub(crate) cri: CriArgs,
}

/// How many of the last lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    All,
    Last(usize),
}

fn lines(text: &str) -> Result<Lines, &'static str> {
    match text.parse() {
        Ok(count) => Ok(Lines::Last(count)),
        Err(_) if text == "all" => Ok(Lines::All),
        Err(_) => Err("give a number, or all (a namespace is --namespace)"),
    }
}

#[derive(Debug, Args)]
#[command(
    override_usage = "sextant logs [OPTIONS] <CONTAINER|POD>
       sextant logs [OPTIONS] --pod <POD> [-c <NAME>]",
    after_help = format!("Examples:
  sextant logs --tail 20 web
  sextant logs -f deploy/web -c app --namespace shop
  sextant logs -f --since 10m --pod default/web -c app

With --pod files that a kubelet rotated away are read too, unless they are compressed.

{WHICH}

{POD}")
)]
pub(crate) struct LogsArgs {
    /// Go on as more is written
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last lines (a number, or all)
    #[arg(short = 'n', long, default_value = "all", hide_default_value = true, value_name = "LINES", value_parser = lines)]
    pub(crate) tail: Lines,
    /// Begin each line with its time
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Only what is younger: a time (RFC 3339) or an age (90s, 10m, 2h)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Of a pod's container: the one that ran before it in its place
    #[arg(long)]
    pub(crate) previous: bool,
    /// A container (name, id, or the beginning of an id), or a pod of the API
    #[arg(value_name = "CONTAINER|POD", required_unless_present = "pod", conflicts_with = "pod")]
    pub(crate) container: Option<String>,
    /// The namespace of the pod
    #[arg(long, value_name = "NAMESPACE", conflicts_with = "pod")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) of: OfPod,
}

#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "sextant exec [OPTIONS] <CONTAINER|POD> [--] <COMMAND>...
       sextant exec [OPTIONS] --pod <POD> [-c <NAME>] <COMMAND>...",
    after_help = format!("Examples:
  sextant exec -it web sh
  sextant exec -e LEVEL=debug -w /srv web ./check
  sextant exec -it deploy/web -c app -n shop -- sh
  sextant exec -it --pod default/web -c app sh

{WHICH}

{POD}")
)]
pub(crate) struct ExecArgs {
    /// Connect standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Set a variable (NAME=VALUE, or NAME to pass on this shell's)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Run as this user (name or id, and :group)
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// The container or pod (not with --pod), the program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) within: Within,
    #[command(flatten)]
    pub(crate) of: OfPod,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "sextant attach [OPTIONS] <CONTAINER|POD>
       sextant attach [OPTIONS] --pod <POD> [-c <NAME>]",
    after_help = format!("Leave a container with a terminal by Ctrl-P Ctrl-Q; it goes on.\n\n{WHICH}\n\n{POD}")
)]
pub(crate) struct AttachArgs {
    /// Only watch: send no input
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// A container (name, id, or the beginning of an id), or a pod of the API
    #[arg(value_name = "CONTAINER|POD", required_unless_present = "pod", conflicts_with = "pod")]
    pub(crate) container: Option<String>,
    #[command(flatten)]
    pub(crate) within: Within,
    #[command(flatten)]
    pub(crate) of: OfPod,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sextant cp web:/etc/nginx/nginx.conf .\n  sextant cp ./site web:/srv\n  sextant cp web:/var/log - | tar t"
)]
pub(crate) struct CpArgs {
    /// A path here, CONTAINER:PATH, or - for a tar archive on standard input
    #[arg(value_name = "FROM")]
    pub(crate) from: String,
    /// A path here, CONTAINER:PATH, or - for a tar archive on standard output
    #[arg(value_name = "TO")]
    pub(crate) to: String,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Seconds until SIGKILL (default: the container's own, or 10)
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) time: Option<u64>,
    /// The first signal (default: the image's, or TERM)
    #[arg(short, long, value_name = "SIGNAL")]
    pub(crate) signal: Option<String>,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL", value_name = "SIGNAL")]
    pub(crate) signal: String,
    /// To every process, not only the first
    #[arg(long)]
    pub(crate) all: bool,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Kill those that run
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}
