use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::OutputArgs;

/// `sextant cni`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ip netns add blue
  sextant cni add bridge blue -p 8080:80
  sextant cni ls --attachments
  sextant cni del bridge blue
  sextant cni status pods

NETWORK is `bridge` (the default network of `sextant run`), or the name of a configuration in --conf-dir. NAMESPACE is a
name of `ip netns`, or a path such as /proc/PID/ns/net.")]
pub(crate) struct Cni {
    #[command(subcommand)]
    pub(crate) command: CniCommand,
    /// Where the configurations of networks are
    #[arg(long, global = true, env = "CNI_CONF_DIR", default_value = cni::caller::CONF_DIR, value_name = "DIR")]
    pub(crate) conf_dir: PathBuf,
    /// Where programs of plugins are that are not built in (may be given more than once)
    #[arg(
        long = "plugin-dir",
        global = true,
        env = "CNI_PATH",
        value_delimiter = ':',
        default_value = "/opt/cni/bin",
        value_name = "DIR"
    )]
    pub(crate) plugin_dirs: Vec<PathBuf>,
    /// Where results are kept between ADD and DEL, in libcni's format (default: this instance's; /var/lib/cni is that of
    /// containerd and CRI-O)
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CniCommand {
    /// List networks, or what is attached to them
    Ls(CniLsArgs),
    /// Attach a network namespace to a network
    Add(CniAddArgs),
    /// Detach a network namespace from a network
    Del(CniAttachmentArgs),
    /// Check that an attachment is still as it was made
    Check(CniAttachmentArgs),
    /// Free what attachments hold whose namespace is gone
    Gc(CniGcArgs),
    /// Ask whether networks can take attachments
    Status(CniStatusArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CniLsArgs {
    /// What is attached, not the networks
    #[arg(short, long)]
    pub(crate) attachments: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which interface of which namespace is attached to what.
#[derive(Debug, Args)]
pub(crate) struct CniAttachmentArgs {
    /// The network's name
    #[arg(value_name = "NETWORK")]
    pub(crate) network: String,
    /// The network namespace
    #[arg(value_name = "NAMESPACE")]
    pub(crate) netns: String,
    /// The container's id (default: made from the namespace's path)
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// The interface's name inside
    #[arg(short, long, default_value = "eth0", value_name = "NAME")]
    pub(crate) interface: String,
    /// An argument for the plugins (CNI_ARGS; may be given more than once)
    #[arg(long = "arg", value_name = "KEY=VALUE")]
    pub(crate) args: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CniAddArgs {
    #[command(flatten)]
    pub(crate) attachment: CniAttachmentArgs,
    /// Publish a port: [ADDRESS:]HOST:CONTAINER[/PROTOCOL] (may be given more than once)
    #[arg(short, long, value_name = "PORTS")]
    pub(crate) publish: Vec<String>,
    /// A value for plugins that declare the capability, in JSON: 'ips=["10.0.0.9/24"]' (may be given more than once)
    #[arg(long = "capability", value_name = "NAME=JSON")]
    pub(crate) capabilities: Vec<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CniGcArgs {
    /// The network's name (default: all of them)
    #[arg(value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Also keep this attachment, which no result tells of (may be given more than once)
    #[arg(long, value_name = "ID/INTERFACE")]
    pub(crate) keep: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CniStatusArgs {
    /// The network's name (default: all of them)
    #[arg(value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}
