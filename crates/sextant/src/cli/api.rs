use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// `sextant api`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sextant api --kubeconfig ~/.kube/config         # then: kubectl get namespaces
  sextant api --listen 127.0.0.1:6443 --listen 10.88.0.1:6443 --name api.example
  sextant api --audit-log /var/log/sextant-audit.log

It keeps everything in the folder `api` of the data directory.")]
pub(crate) struct ApiArgs {
    /// Where it listens; give it more than once for more addresses
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6443")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Where it listens, too, once the machine has the address: one that a bridge gets with its first pod, say
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen_ahead: Vec<SocketAddr>,
    /// Another name under which clients reach it, for its certificate
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Vec<String>,
    /// Write the administrator's kubeconfig here [it is in the folder anyway]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Write down who did what: lines of JSON (audit.k8s.io/v1, level Metadata)
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<PathBuf>,
    /// MiB of the audit log after which a new file is begun
    #[arg(long, value_name = "MIB", default_value_t = 100, requires = "audit_log")]
    pub(crate) audit_log_size: u64,
    /// How many full files of the audit log stay
    #[arg(long, value_name = "NUMBER", default_value_t = 10, requires = "audit_log")]
    pub(crate) audit_log_files: u32,
}
