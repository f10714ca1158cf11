use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::OutputArgs;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant pull docker.io/library/alpine:3.20
  sextant pull --plain-http registry.lan:5000/tool
  sextant pull --platform linux/arm64 alpine")]
pub(crate) struct PullArgs {
    /// Which platform's image: os/architecture[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,
    /// Speak http, not https, to the registry
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// User and password, instead of stored credentials
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) creds: Option<String>,
    /// Give up when nothing has come for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(2..))]
    pub(crate) progress_timeout: u64,
    /// No progress, only the image's id
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// The image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sextant tag tool 127.0.0.1:5000/tool:v2\n  sextant push 127.0.0.1:5000/tool:v2"
)]
pub(crate) struct PushArgs {
    /// Speak http, not https, to the registry
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// User and password, instead of stored credentials
    #[arg(long, value_name = "USER:PASSWORD")]
    pub(crate) creds: Option<String>,
    /// No progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// The image, under the name it has in the registry
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Only ids
    #[arg(short, long, conflicts_with = "output")]
    pub(crate) quiet: bool,
    /// Whole ids, and digests
    #[arg(long)]
    pub(crate) digests: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Only images whose name contains this
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant verify
  sextant verify --discard tool || sextant pull tool

It reads every byte: blobs are compared with their digests, unpacked layers with what their blobs unpack to. It ends
with 1 if anything is damaged. An image that lost something to --discard is whole again after the next pull.")]
pub(crate) struct VerifyArgs {
    /// Take what is damaged out of the store, except layers of containers
    #[arg(long)]
    pub(crate) discard: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    /// Only these images (default: all)
    #[arg(value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Images that containers use too
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// The image
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    /// Its further name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// What an archive looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// As `docker save` writes it
    Docker,
    /// An OCI layout
    Oci,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sextant save -o tool.tar tool:v1 tool:v2\n  sextant save --format oci tool | ssh node sextant load"
)]
pub(crate) struct SaveArgs {
    /// The file, or a directory for `--format oci` (default: standard output)
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The archive's form
    #[arg(long, value_enum, default_value = "docker", value_name = "FORM")]
    pub(crate) format: ArchiveFormat,
    /// The images
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The archive or OCI layout directory (default: standard input)
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Only the ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo $TOKEN | sextant login -u me --password-stdin registry.example")]
pub(crate) struct LoginArgs {
    /// The user (default: asked for)
    #[arg(short, long, value_name = "USER")]
    pub(crate) username: Option<String>,
    /// The password; it can be seen by others here, prefer --password-stdin
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Speak http, not https, to the registry
    #[arg(long)]
    pub(crate) plain_http: bool,
    /// The registry
    #[arg(default_value = "docker.io", value_name = "REGISTRY")]
    pub(crate) registry: String,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The registry
    #[arg(default_value = "docker.io", value_name = "REGISTRY")]
    pub(crate) registry: String,
}

#[derive(Debug, Args)]
pub(crate) struct Registry {
    #[command(subcommand)]
    pub(crate) command: RegistryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Show which hosts would be asked for an image, in which order and how
    Explain {
        #[command(flatten)]
        output: OutputArgs,
        /// Speak http, not https, to the registry
        #[arg(long)]
        plain_http: bool,
        /// The image
        #[arg(value_name = "IMAGE")]
        image: String,
    },
}
