//! Which programs make up a machine with a Kubernetes API, and how each is started.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::cli::UpArgs;

/// Where the files of what `sextant up` started are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The instance's directories.
    pub(super) data: PathBuf,
    pub(super) run: PathBuf,
}

impl Places {
    /// What a program holds while it lives ([`super::member`]).
    pub(super) fn member(&self, name: &str) -> PathBuf {
        self.run.join("up").join(name)
    }

    /// Where a program tells that it is up.
    pub(super) fn notify(&self, name: &str) -> PathBuf {
        self.run.join("up").join(format!("{name}.notify"))
    }

    /// The number of the process that has told so.
    pub(super) fn told(&self, name: &str) -> PathBuf {
        self.run.join("up").join(format!("{name}.ready"))
    }

    /// What a program has to say.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.data.join("log").join(format!("{name}.log"))
    }

    /// The administrator's.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }
}

/// What the programs are called, in the order in which they are started.
pub(super) const NAMES: &[&str] = &["node", "api", "control"];

/// One program.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// What it is there for, in a few words.
    pub(super) what: &'static str,
    /// Those that have to be up before it is started.
    pub(super) needs: &'static [&'static str],
    pub(super) args: Vec<OsString>,
    /// Where it serves, for people.
    pub(super) serves: String,
}

/// All of them, in the order in which they are started; they are ended in the other one.
pub(super) fn all(places: &Places, args: &UpArgs, gateway: IpAddr) -> Vec<Program> {
    let node_name = args.node_name();
    let text = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut api = text(&["api", "--kubeconfig"]);
    api.push(places.kubeconfig().into());
    for address in &args.listen {
        api.extend(text(&["--listen", &address.to_string()]));
    }
    let mut serves: Vec<String> = args.listen.iter().map(|address| format!("https://{address}")).collect();
    let port = args.listen.first().map_or(6443, SocketAddr::port);
    if !args.listen.iter().any(|listened| listened.ip() == gateway || listened.ip().is_unspecified()) {
        let address = SocketAddr::new(gateway, port);
        api.extend(text(&["--listen-ahead", &address.to_string()]));
        serves.push(format!("https://{address} for pods"));
    }
    let mut node = text(&["node", "--builtin-network", "--csi", "--csi-node-id", &node_name]);
    node.extend(["--config".into(), args.node_config.clone().into()]);
    let control = text(&["control", "--bind"]);
    vec![
        Program {
            name: "node",
            what: "pods, images, networks, volumes (CRI, CNI, CSI)",
            needs: &[],
            args: node,
            serves: format!(
                "unix://{}, {}",
                places.run.join("cri.sock").display(),
                places.run.join("csi.sock").display()
            ),
        },
        Program { name: "api", what: "the Kubernetes API", needs: &[], args: api, serves: serves.join(", ") },
        Program {
            name: "control",
            what: "controllers",
            needs: &["api"],
            args: control,
            serves: String::new(),
        },
    ]
}

/// How a program is called, with what every command of the instance takes.
pub(super) fn command(program: &Program, places: &Places, binary: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(binary);
    command.arg("--data-dir").arg(&places.data).arg("--run-dir").arg(&places.run);
    command.arg("--member").arg(places.member(program.name));
    command.args(&program.args);
    command
}
