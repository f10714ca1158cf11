//! Which programs make up a machine with a Kubernetes API, and how each is started.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ::agent::Threshold;

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

    /// The programs that were left out, one a line.
    pub(super) fn without(&self) -> PathBuf {
        self.run.join("up").join("without")
    }

    /// There if the machine has a mesh.
    pub(super) fn meshed(&self) -> PathBuf {
        self.run.join("up").join("mesh.wanted")
    }

    /// What storage claims get.
    pub(super) fn storage(&self) -> PathBuf {
        self.run.join("up").join("storage")
    }

    /// The administrator's.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }
}

/// What the programs are called, in the order in which they are started.
pub(super) const NAMES: &[&str] = &["node", "api", "services", "control", MESH, "agent"];

/// The one that is there only where it is asked for.
pub(super) const MESH: &str = "mesh";

/// How long a program has to end when it is told to: that of the mesh waits up to 20 s for connections that are open.
pub(super) fn patience(name: &str) -> Duration {
    Duration::from_secs(if name == MESH { 30 } else { 15 })
}

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

/// All that are not left out, in the order in which they are started; they are ended in the other one.
pub(super) fn all(places: &Places, args: &UpArgs, gateway: IpAddr) -> Vec<Program> {
    let all = [
        node(places, args),
        api(places, args, gateway),
        services(args, gateway),
        control(places, args),
        mesh(places, args),
        agent(places, args, gateway),
    ];
    let is_wanted = |name: &str| match name {
        MESH => args.mesh,
        name => args.without.iter().all(|left_out| left_out != name),
    };
    all.into_iter().filter(|program| is_wanted(program.name)).collect()
}

fn node(places: &Places, args: &UpArgs) -> Program {
    // The API and names are reached by this node's own bridge; somebody else's networks (podman's are there, too) are for who asks.
    let network = if args.cni { "--builtin-network" } else { "--builtin-network=always" };
    let mut words = words(&["node", network, "--csi", "--csi-node-id", &args.node_name()]);
    words.extend(["--config".into(), args.node_config.clone().into()]);
    // Where the agent looks for drivers.
    let registry = places.data.join("agent").join(::agent::REGISTRY);
    words.extend(["--csi-registration-dir".into(), registry.into()]);
    if args.mesh {
        // Members are captured before their first container starts.
        words.push("--mesh-pods".into());
    }
    let sockets = [places.run.join("cri.sock"), places.run.join("csi.sock")];
    Program {
        name: "node",
        what: "pods, images, networks, volumes (CRI, CNI, CSI)",
        needs: &[],
        args: words,
        serves: sockets.map(|socket| format!("unix://{}", socket.display())).join(", "),
    }
}

fn api(places: &Places, args: &UpArgs, gateway: IpAddr) -> Program {
    let mut words = words(&["api", "--kubeconfig"]);
    words.push(places.kubeconfig().into());
    let mut serves = Vec::new();
    for address in &args.listen {
        words.extend(["--listen".into(), address.to_string().into()]);
        serves.push(format!("https://{address}"));
    }
    // Pods reach it at their bridge, which comes with the first of them.
    if !args.listen.iter().any(|listened| listened.ip() == gateway || listened.ip().is_unspecified()) {
        let address = SocketAddr::new(gateway, args.listen.first().map_or(6443, SocketAddr::port));
        words.extend(["--listen-ahead".into(), address.to_string().into()]);
        serves.push(format!("https://{address} for pods"));
    }
    Program { name: "api", what: "the Kubernetes API", needs: &[], args: words, serves: serves.join(", ") }
}

fn services(args: &UpArgs, gateway: IpAddr) -> Program {
    let address = args.dns_address.to_string();
    let mut words = words(&["services", "--node", &args.node_name(), "--dns-address", &address]);
    // The bridge has it once there is a pod.
    if super::node::address(args, gateway) == gateway {
        words.extend(["--own-address".into(), gateway.to_string().into()]);
    }
    if let Some(file) = &args.cloud_config {
        words.extend(["--announce".into(), file.clone().into()]);
    }
    Program {
        name: "services",
        what: "Services and names",
        needs: &["api"],
        args: words,
        serves: format!("dns://{address}"),
    }
}

fn control(places: &Places, args: &UpArgs) -> Program {
    let mut words = words(&["control", "--bind", "--workloads", "--cloud-provider", metal::NAME]);
    if args.mesh {
        words.extend(["--mesh".into(), plane(places), "--mesh-definitions".into()]);
        // The API server asks, which is told the port.
        words.extend(["--mesh-metrics", "127.0.0.1:0"].map(OsString::from));
    }
    if let Some(file) = &args.cloud_config {
        words.extend(["--cloud-config".into(), file.clone().into()]);
    }
    Program {
        name: "control",
        what: "scheduler, workloads, volumes, load balancers",
        needs: &["api"],
        args: words,
        serves: String::new(),
    }
}

fn mesh(places: &Places, args: &UpArgs) -> Program {
    let mut words = words(&["mesh", "--node", &args.node_name(), "--control"]);
    words.extend([plane(places), "--cri".into(), places.run.join("cri.sock").into()]);
    if args.no_source_check {
        words.push("--no-source-check".into());
    }
    Program {
        name: MESH,
        what: "the mesh of those pods that are members",
        needs: &["node", "api", "control"],
        args: words,
        serves: "pods, and those of namespaces, with the label mesh.sextant.dev/member=true".into(),
    }
}

/// Where the mesh's control plane is called.
fn plane(places: &Places) -> OsString {
    let mut at = OsString::from("unix:");
    at.push(places.run.join("mesh.sock"));
    at
}

fn agent(places: &Places, args: &UpArgs, gateway: IpAddr) -> Program {
    let mut words = words(&["agent", "--node", &args.node_name(), "--offer-metrics", "--logs"]);
    words.push(places.data.join("log/pods").into());
    let (its, listen) = super::node::agent_args(args, gateway);
    words.extend(its);
    words.extend(marks(&places.data, args.eviction_hard.as_deref()).map(OsString::from));
    let mut needs: &[&str] = &["node", "api"];
    if !args.without.iter().any(|name| name == "services") {
        words.extend(["--cluster-dns".into(), args.dns_address.to_string().into()]);
        // The first pods ask for names, too.
        needs = &["node", "api", "services"];
    }
    Program {
        name: "agent",
        what: "runs what is bound to the node",
        needs,
        args: words,
        serves: format!("https://{listen}"),
    }
}

/// What the machine has to have left, of its disk what `data` is on. A kubelet's marks are for machines that do nothing else: on others a
/// disk is often fuller than 85 %, and pods are to run there. A part of a large disk is much, too.
fn marks(data: &Path, asked: Option<&[Threshold]>) -> [String; 6] {
    // Where it cannot be asked the part alone counts.
    let size = rustix::fs::statvfs(data).map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize));
    let (left, taken) = of_disk(size);
    let left = match asked {
        Some(asked) => asked.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        None => format!(
            "memory.available<100Mi,nodefs.available<{left},nodefs.inodesFree<5%,imagefs.available<{left},imagefs.inodesFree<5%"
        ),
    };
    let [high, low] = ["--image-gc-high-threshold", "--image-gc-low-threshold"].map(str::to_owned);
    ["--eviction-hard".to_owned(), left, high, taken.to_string(), low, (taken - 5).to_string()]
}

/// What has to be left of a disk of so many bytes, and how many percent of it may be taken before images that nobody uses go.
fn of_disk(size: u64) -> (&'static str, u64) {
    const LEAST: u64 = 2 << 30;
    if size / 20 <= LEAST {
        return ("5%", 95);
    }
    ("2Gi", 100 - (LEAST * 100).div_ceil(size))
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// `sextant up -d` of other directories, and what came of it.
pub(crate) fn beside(data: &Path, run: &Path, words: &[OsString]) -> std::io::Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--data-dir").arg(data).arg("--run-dir").arg(run).args(["up", "-d"]).args(words);
    command.stdin(Stdio::null()).output()
}

/// This command once more, as what `--detach` leaves running.
pub(super) fn detached(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(std::env::args_os().skip(1).map(|word| match word.to_str() {
        Some("-d" | "--detach") => "--detached".into(),
        _ => word,
    }));
    command
}

/// How a program is called, with what every command of the instance takes.
pub(super) fn command(program: &Program, places: &Places, binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("--data-dir").arg(&places.data).arg("--run-dir").arg(&places.run);
    command.arg("--member").arg(places.member(program.name));
    command.args(&program.args);
    // Its server is that of this instance, whatever the shell has.
    command.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    command
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command as Asked};

    #[test]
    fn a_part_of_a_large_disk_is_much() {
        for (gigabytes, left, taken) in
            [(0, "5%", 95), (8, "5%", 95), (40, "5%", 95), (41, "2Gi", 95), (252, "2Gi", 99)]
        {
            assert_eq!(of_disk(gigabytes << 30), (left, taken), "{gigabytes}");
        }
        assert_eq!(of_disk(u64::MAX).1, 99);
    }

    #[test]
    fn marks_are_those_that_were_asked_for() {
        let asked = ["memory.available<1Mi", "pid.available<5%"].map(|text| text.parse().unwrap());
        let marks = marks(Path::new("/"), Some(&asked));
        assert_eq!(marks[..2], ["--eviction-hard", "memory.available<1Mi,pid.available<5%"]);
    }

    fn programs(more: &[&str]) -> Vec<Program> {
        let cli =
            Cli::try_parse_from([&["sextant", "up", "--node-name", "here"][..], more].concat()).unwrap();
        let Asked::Up(args) = cli.command else { panic!("{more:?} is no `sextant up`") };
        let places = Places { data: "/data".into(), run: "/run/a".into() };
        all(&places, &args, "10.64.0.1".parse().unwrap())
    }

    #[test]
    fn a_mesh_is_there_only_where_it_is_asked_for() {
        let (without, with) = (programs(&[]), programs(&["--mesh"]));
        let names = |all: &[Program]| all.iter().map(|one| one.name).collect::<Vec<_>>();
        assert_eq!(names(&without), ["node", "api", "services", "control", "agent"]);
        assert_eq!(names(&with), NAMES);
        for one in &without {
            let same = with.iter().find(|other| other.name == one.name).unwrap();
            assert_eq!(same.args == one.args, !["node", "control"].contains(&one.name), "{one:?} {same:?}");
        }
        let args = |name: &str| with.iter().find(|one| one.name == name).unwrap().args.clone();
        assert_eq!(args("node").last().unwrap(), "--mesh-pods");
        let plane = "unix:/run/a/mesh.sock";
        let all = ["--mesh", plane, "--mesh-definitions", "--mesh-metrics", "127.0.0.1:0"];
        assert!(args("control").ends_with(&words(&all)));
        let own = ["mesh", "--node", "here", "--control", plane, "--cri", "/run/a/cri.sock"];
        assert_eq!(args(MESH), words(&own));
        // What it is told to be it can read.
        let read = Cli::try_parse_from([OsString::from("sextant")].into_iter().chain(args("control")));
        assert!(read.is_ok(), "{read:?}");
        let read = Cli::try_parse_from([OsString::from("sextant")].into_iter().chain(args(MESH)));
        assert!(read.is_ok(), "{read:?}");
        assert_eq!(names(&programs(&["--without", "agent"])), ["node", "api", "services", "control"]);
    }

    #[test]
    fn what_members_send_from_is_not_looked_at_where_that_is_asked_for() {
        let all = programs(&["--mesh", "--no-source-check"]);
        let own = all.into_iter().find(|one| one.name == MESH).unwrap().args;
        assert_eq!(own.last().unwrap(), "--no-source-check");
        let read = Cli::try_parse_from([OsString::from("sextant")].into_iter().chain(own));
        let Asked::Mesh(args) = read.unwrap().command else { panic!("it is no `sextant mesh`") };
        assert!(args.no_source_check);
        // There is nobody whom it could be said to.
        assert!(Cli::try_parse_from(["sextant", "up", "--no-source-check"]).is_err());
    }
}
