use clap::{Args, ValueEnum};

/// When `run` asks the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// If the image is not here
    Missing,
    /// Each time
    Always,
    /// Never
    Never,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant run --rm -it docker.io/library/alpine sh
  sextant run -d --name web -p 8080:80 -v ./site:/usr/share/nginx/html:ro nginx
  sextant run --rm --memory 256m --cpus 0.5 --network none 127.0.0.1:5000/job
  sextant run --rm --user 1000:1000 --cap-drop ALL --read-only tool

Exit codes: the program's own; 125 if the container could not be made, 126 if the program could not be executed, 127 if \
it is not there.")]
pub(crate) struct RunArgs {
    /// Connect standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Return at once and print the id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Remove the container when it has ended
    #[arg(long)]
    pub(crate) rm: bool,
    /// A name (default: one is made up)
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Set a variable (NAME=VALUE, or NAME to pass on this shell's)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Set the variables of a file: NAME=VALUE lines, # for comments
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<String>,
    /// Mount a directory of this machine, or a volume by its name
    #[arg(short, long, value_name = "FROM:TO[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Mount, in the long form: type=bind|volume|tmpfs,source=FROM,target=TO[,readonly]
    #[arg(long, value_name = "SPEC")]
    pub(crate) mount: Vec<String>,
    /// Mount a filesystem in memory
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// Publish a port of the container on this machine
    #[arg(short, long, value_name = "[[ADDRESS:]PORT:]PORT[/udp]")]
    pub(crate) publish: Vec<String>,
    /// The network: bridge, none, host, or container:NAME
    #[arg(long, alias = "net", default_value = "bridge", value_name = "NETWORK")]
    pub(crate) network: String,
    /// The host name inside (default: the beginning of the id)
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Limit memory, in bytes or with b, k, m, g
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Limit CPUs, as in 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<String>,
    /// Limit processes and threads
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pids_limit: Option<i64>,
    /// Size of /dev/shm
    #[arg(long, default_value = "64m", value_name = "SIZE")]
    pub(crate) shm_size: String,
    /// Set a limit of each process: nofile=1024 or nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Run as this user (name or id, and :group)
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Run in this directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Run this instead of the image's entry point
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// Make the root read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Add a capability (or ALL)
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Take a capability away (or ALL)
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// Give it all capabilities and devices, and no system call filter
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Start it again: no, on-failure[:TIMES], always, unless-stopped
    #[arg(long, default_value = "no", value_name = "POLICY")]
    pub(crate) restart: String,
    /// The signal that `stop` sends
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds that `stop` waits before SIGKILL
    #[arg(long, value_name = "SECONDS")]
    pub(crate) stop_timeout: Option<u64>,
    /// Attach a label (NAME=VALUE)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// When to ask the registry
    #[arg(long, value_enum, default_value = "missing", value_name = "WHEN")]
    pub(crate) pull: PullPolicy,
    /// Which platform's image: os/architecture[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Speak http, not https, to the registry
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// No progress, no warnings
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Arguments of the entry point, or the program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}
