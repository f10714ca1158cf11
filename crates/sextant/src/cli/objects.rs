use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// How commands find a pod of the API: told in the help of each.
pub(crate) const POD: &str = "POD is NAME, pod/NAME, or TYPE/NAME of what has pods (deploy/web, job/backup): the first of them that runs.";

/// Which API server is asked.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServerArgs {
    /// How to reach the API server [default: KUBECONFIG, or that of this instance's `sextant up`]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Where objects are looked for.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Within {
    /// The namespace [default: the kubeconfig's, or default]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Which objects are meant where several are.
#[derive(Debug, Args)]
pub(crate) struct Selected {
    #[command(flatten)]
    pub(crate) within: Within,
    /// In all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Only those with these labels (app=web,tier!=cache)
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "", hide_default_value = true)]
    pub(crate) selector: String,
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Shown {
    /// For people
    #[default]
    Table,
    /// The same with more columns
    Wide,
    /// Whole objects
    Json,
    /// Whole objects
    Yaml,
    /// TYPE/NAME alone
    Name,
}

/// `sextant get`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant get pods -A
  sextant get deploy,svc -l app=web -o wide
  sextant get pod/web -o yaml
  sextant get pods -w -n shop

TYPE is what the server calls it: plural, singular, short name, plural.group, or a category such as `all`.")]
pub(crate) struct GetArgs {
    /// TYPE, TYPE NAME..., or TYPE/NAME...
    #[arg(required = true, value_name = "TYPE")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) of: Selected,
    /// Only those with these fields (status.phase=Running)
    #[arg(long, value_name = "FIELDS", default_value = "", hide_default_value = true)]
    pub(crate) field_selector: String,
    /// Go on as they change
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Leave the line of headings out
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Shown,
}

/// Files with objects.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// A file, a folder (its .yaml, .yml and .json), or - for standard input; give it more than once for more
    #[arg(short, long = "filename", value_name = "FILE|DIR|-")]
    pub(crate) files: Vec<PathBuf>,
    /// Folders in folders too
    #[arg(short = 'R', long, requires = "files")]
    pub(crate) recursive: bool,
}

/// How patient a command is that waits for what it has asked for.
#[derive(Debug, Args)]
pub(crate) struct Patience {
    /// How long to wait for that
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = time)]
    pub(crate) timeout: Duration,
}

/// `sextant apply`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant apply -f shop/
  helm template shop | sextant apply -f -

Objects are applied by the server (the field manager is `sextant`). Namespaces, definitions and what pods need to be admitted come
first, whatever the order in the files.")]
#[command(mut_arg("files", |files| files.required(true)))]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) within: Within,
    /// Take fields that somebody else has set
    #[arg(long)]
    pub(crate) force_conflicts: bool,
    /// Only ask the server whether it would
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Return once all of it is ready
    #[arg(long)]
    pub(crate) wait: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// `sextant delete`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant delete -f shop/
  sextant delete pod web
  sextant delete deploy,svc -l app=web")]
pub(crate) struct DeleteArgs {
    /// TYPE NAME..., or TYPE/NAME...
    #[arg(required_unless_present = "files", conflicts_with = "files", value_name = "TYPE")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) within: Within,
    /// Those with these labels
    #[arg(
        short = 'l',
        long,
        value_name = "LABELS",
        default_value = "",
        hide_default_value = true,
        conflicts_with = "files"
    )]
    pub(crate) selector: String,
    /// All of that type in the namespace
    #[arg(long, conflicts_with = "files")]
    pub(crate) all: bool,
    /// Seconds that pods have to end [default: their own]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) grace_period: Option<u32>,
    /// Of pods: do not wait until they have ended on their node
    #[arg(long)]
    pub(crate) force: bool,
    /// What is not there is no error
    #[arg(long)]
    pub(crate) ignore_not_found: bool,
    /// Do not wait until they are gone
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// `sextant describe`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sextant describe pod web\n  sextant describe node\n  sextant describe svc/web -n shop"
)]
pub(crate) struct DescribeArgs {
    /// TYPE, TYPE NAME..., or TYPE/NAME...
    #[arg(required = true, value_name = "TYPE")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) of: Selected,
}

/// `sextant rollout`
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    pub(crate) command: RolloutCommand,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum RolloutCommand {
    /// Wait until what was changed runs everywhere
    Status(RolloutStatusArgs),
    /// Have all pods made again
    Restart(RolloutNamesArgs),
    /// Show what was rolled out before
    History(RolloutHistoryArgs),
    /// Go back to what was rolled out before
    Undo(RolloutUndoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RolloutHistoryArgs {
    #[command(flatten)]
    pub(crate) names: RolloutNamesArgs,
    /// Show what the pods of this revision were made from
    #[arg(long, value_name = "NUMBER")]
    pub(crate) revision: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutUndoArgs {
    #[command(flatten)]
    pub(crate) names: RolloutNamesArgs,
    /// To which revision [default: the last one but one]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) to_revision: Option<i64>,
}

/// `sextant scale`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant scale deploy/web --replicas 3
  sextant scale sts db --replicas 0 -n shop")]
pub(crate) struct ScaleArgs {
    /// TYPE NAME..., or TYPE/NAME...: of what has a number of replicas, custom resources too
    #[arg(required = true, value_name = "TYPE/NAME")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) within: Within,
    /// How many there are to be
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) replicas: i32,
    /// Only where there are to be so many now
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) current_replicas: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutNamesArgs {
    /// TYPE NAME, or TYPE/NAME: of a Deployment, StatefulSet or DaemonSet
    #[arg(required = true, value_name = "TYPE/NAME")]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) within: Within,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutStatusArgs {
    #[command(flatten)]
    pub(crate) names: RolloutNamesArgs,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub(crate) timeout: Duration,
}

/// `sextant wait`
#[derive(Debug, Args)]
#[command(
    override_usage = "sextant wait <CONTAINER>...
       sextant wait --for <WHAT> [OPTIONS] <TYPE/NAME>...",
    after_help = "Examples:
  sextant wait web                                    # a container of `sextant run`; its exit code is printed
  sextant wait --for condition=Ready pod/web
  sextant wait --for delete pod/web --timeout 1m"
)]
pub(crate) struct WaitArgs {
    /// Containers (names, ids, or the beginnings of ids); with --for objects of the API: TYPE NAME..., or TYPE/NAME...
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Of objects: condition=TYPE, condition=TYPE=STATUS, create, delete, or ready
    #[arg(long = "for", value_name = "WHAT", value_parser = event)]
    pub(crate) event: Option<Event>,
    /// How long to wait for objects
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) within: Within,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Condition { kind: String, status: String },
    Created,
    Deleted,
    Ready,
}

fn event(text: &str) -> Result<Event, &'static str> {
    let (what, rest) = text.split_once('=').unwrap_or((text, ""));
    match (what, rest) {
        ("delete", "") => Ok(Event::Deleted),
        ("create", "") => Ok(Event::Created),
        ("ready", "") => Ok(Event::Ready),
        ("condition", rest) if !rest.is_empty() => {
            let (kind, status) = rest.split_once('=').unwrap_or((rest, "True"));
            Ok(Event::Condition { kind: kind.to_owned(), status: status.to_owned() })
        }
        _ => Err("give condition=TYPE, condition=TYPE=STATUS, create, delete, or ready"),
    }
}

/// A time as people type it: 90s, 5m, 1h; a number alone is of seconds.
pub(crate) fn time(text: &str) -> Result<Duration, &'static str> {
    let wrong = "give a time such as 90s, 5m or 1h";
    let unit = text.chars().last().ok_or(wrong)?;
    let (number, seconds) = match unit {
        's' => (&text[..text.len() - 1], 1),
        'm' => (&text[..text.len() - 1], 60),
        'h' => (&text[..text.len() - 1], 3600),
        _ => (text, 1),
    };
    let number: u64 = number.parse().map_err(|_| wrong)?;
    // What no clock reaches cannot be waited for.
    let seconds = number.checked_mul(seconds).and_then(|seconds| u32::try_from(seconds).ok());
    seconds.map(|seconds| Duration::from_secs(seconds.into())).ok_or(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_that_can_be_waited_for() {
        assert_eq!([time("90s"), time("5m"), time("7")], [90, 300, 7].map(|s| Ok(Duration::from_secs(s))));
        for wrong in ["", "s", "1d", "5\u{b5}", "-1s", "18446744073709551615", "9999999999h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
