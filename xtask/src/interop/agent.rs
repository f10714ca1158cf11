//! `sextant agent` on the socket of Debian's containerd, beside the rest of `sextant up`: the shop of `examples/` as on our own runtime.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::Site;
use super::host::Host;
use super::kubectl::{Folder, Step, debian, ok, take};
use super::networks::{self, Daemon};
use crate::Result;
use crate::program::{quiet, root};

/// Where the agent is told to write what it has to say.
const WORDS: &str = "agent.words";
/// The shop's image.
const IMAGE: &str = "registry.sextant.example/shop:1";

/// Asks until it is so, and once more.
macro_rules! until {
    ($command:literal, $says:literal) => {
        concat!(
            "for i in $(seq 1000); do ",
            $command,
            " 2>/dev/null | grep -q '",
            $says,
            "' && break; sleep 0.2; done; ",
            $command
        )
    };
}

/// Once all of the shop is ready.
const OPEN: &[Step] = &[
    ok(
        "kubectl get nodes -o jsonpath={.items[0].status.nodeInfo.containerRuntimeVersion}",
        &["containerd://1.*"],
    ),
    ok("kubectl -n shop get job orders -o jsonpath={.status.succeeded}", &["3"]),
    ok("kubectl -n shop logs job/orders", &["ordered apple 2", "2 of * orders are of orders-*"]),
    ok("kubectl -n shop exec deploy/web -- /bin/sextant-demo-app get web", &["*: 6 orders so far"]),
    ok(
        "kubectl -n shop get pvc data-database-0 -o jsonpath={.status.phase},{.spec.storageClassName}",
        &["Bound,sextant"],
    ),
    ok(until!("kubectl top pods -n shop", "database-0"), &["database-0 * *Mi"]),
    ok(
        "kubectl -n shop port-forward deploy/web 18081:8080 > forwarded & for i in $(seq 100); do \
         busybox wget -q -O - http://127.0.0.1:18081/healthz && break; sleep 0.1; done; kill $!",
        &["open"],
    ),
    // One whose probe fails is started again, and told of.
    ok(
        "kubectl create -f - <<'END'\n\
         {\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"ill\", \"namespace\": \"shop\"}, \"spec\": {\n\
         \"terminationGracePeriodSeconds\": 1, \"containers\": [{\"name\": \"ill\", \"image\": \"registry.sextant.example/shop:1\",\n\
         \"args\": [\"serve\"], \"livenessProbe\": {\"periodSeconds\": 1, \"failureThreshold\": 1, \"exec\": {\"command\":\n\
         [\"/bin/sextant-demo-app\", \"get\", \"127.0.0.1:1\"]}}}]}}\nEND",
        &["pod/ill created"],
    ),
    ok(
        until!(
            "kubectl -n shop get pod ill -o jsonpath={.status.containerStatuses[0].restartCount}",
            "[1-9]"
        ),
        &["- 0", "*"],
    ),
    ok("kubectl -n shop get events", &["*Unhealthy*Liveness probe failed*"]),
    ok("kubectl -n shop delete pod ill", &["pod \"ill\" deleted"]),
];

/// After the agent was killed: what runs goes on, and what ends is seen.
const AGAIN: &[Step] = &[
    ok(
        "kubectl -n shop get pods -l app=web -o jsonpath={.items[*].status.containerStatuses[0].restartCount}",
        &["0 0"],
    ),
    // The volume goes to the next pod, with what is in it.
    ok("kubectl -n shop delete pod database-0", &["pod \"database-0\" deleted"]),
    ok(
        until!("kubectl -n shop exec deploy/web -- /bin/sextant-demo-app get web", "6 orders"),
        &["*: 6 orders so far"],
    ),
    ok("kubectl -n shop scale deployment api --replicas 1", &["deployment.apps/api scaled"]),
    ok(until!("kubectl -n shop get pods -l app=api --no-headers | wc -l", "^1$"), &["1"]),
];

/// Closed.
const CLOSED: &[Step] = &[
    ok("kubectl delete namespace shop --timeout=240s", &["namespace \"shop\" deleted"]),
    ok(until!("kubectl get pv 2>&1", "No resources"), &["No resources found"]),
];

pub(super) fn shop(site: &Site) -> Result<()> {
    let mut machine = Machine::start(site)?;
    let done = machine.runs();
    let left = machine.end();
    match (done, left) {
        (Err(wrong), _) => Err(format!("{wrong}\n{}", machine.words()).into()),
        (Ok(()), left) => left,
    }
}

/// containerd, and `sextant up` without its agent; the agent is started beside them.
struct Machine {
    // In this order they end.
    agent: Option<Child>,
    daemon: Daemon,
    host: Host,
    program: PathBuf,
    /// Not in /tmp, which may be in memory: overlay mounts want a real file system.
    dir: tempfile::TempDir,
}

impl Machine {
    fn start(site: &Site) -> Result<Self> {
        // Pods begin with a process of the pod's own user.
        site.busybox()?;
        let pause = site.build(&site.path("busybox-root"), &["sleep", "1000000"], "pause")? + ":latest";
        let dir = tempfile::Builder::new().prefix("sextant-cri-").tempdir_in("/var/tmp")?;
        let host = Host::start(site)?;
        // Programs of a machine reach Services only where there is a way to everywhere.
        quiet(host.command("ip").args(["route", "add", "default", "dev", "lo"]))?;
        let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.77.0.0/24" }]] });
        let bridge = json!({ "type": "bridge", "bridge": "pods0", "isDefaultGateway": true, "ipMasq": true,
            "hairpinMode": true, "ipam": ipam });
        let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        let list = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, ports] });
        host.configure("10-pods.conflist", &list)?;
        let daemon = Daemon::start(&dir.path().join("cri"), &host, &pause)?;
        let machine = Self { agent: None, daemon, host, program: site.program().to_owned(), dir };
        let archive = machine.dir.path().join("shop.tar");
        quiet(&mut machine.sextant(&["demo", "--image"]))?;
        quiet(machine.sextant(&["save", "-o"]).arg(&archive).arg(IMAGE))?;
        for archive in [networks::archive(site, &pause)?, archive] {
            quiet(machine.daemon.ctr(&machine.host).args(["images", "import"]).arg(archive))?;
        }
        quiet(&mut machine.sextant(&["up", "-d", "--without", "agent", "--node-name", "here"]))?;
        Ok(machine)
    }

    /// Our program on this machine.
    fn sextant(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(&self.program);
        command.arg("--data-dir").arg(self.dir.path().join("data"));
        command.arg("--run-dir").arg(self.dir.path().join("run")).args(words);
        command
    }

    fn start_agent(&mut self) -> Result<()> {
        let words = File::options().create(true).append(true).open(self.dir.path().join(WORDS))?;
        let socket = self.daemon.socket();
        let mut agent = self.sextant(&["agent", "--node", "here", "--socket", &socket, "--offer-metrics"]);
        agent.args(["--cluster-dns", "10.96.0.10", "--kubeconfig"]).arg(self.kubeconfig());
        agent.arg("--logs").arg(self.dir.path().join("logs"));
        // How full the machine's disk is, is nothing to this.
        agent.args(["--eviction-hard", "memory.available<1Mi", "--image-gc-high-threshold", "100"]);
        agent.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words);
        self.agent = Some(agent.spawn().map_err(|e| format!("cannot run the agent: {e}"))?);
        Ok(())
    }

    /// Ends the agent by a signal: nsenter waits for it, and is not it.
    fn end_agent(&mut self, signal: Signal) -> Result<()> {
        let Some(mut child) = self.agent.take() else { return Ok(()) };
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw) {
            kill_process(pid, signal)?;
        }
        child.wait()?;
        Ok(())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("data/kubeconfig")
    }

    fn runs(&mut self) -> Result<()> {
        self.start_agent()?;
        let shop = root().join("examples/shop");
        quiet(self.sextant(&["apply", "--wait", "--timeout", "240s", "-f"]).arg(shop))?;
        let kubectl = debian()?;
        let folder = Folder::new(self.dir.path(), &self.kubeconfig(), &kubectl, Some(self.host.network()))?;
        take(&folder, &kubectl, OPEN)?;
        self.end_agent(Signal::KILL)?;
        self.start_agent()?;
        take(&folder, &kubectl, AGAIN)?;
        take(&folder, &kubectl, CLOSED)?;
        self.is_clean()
    }

    /// Nothing of any pod is there.
    fn is_clean(&self) -> Result<()> {
        self.host.networks()?.nobody("pods0")?;
        let list = |words: &[&str]| quiet(self.daemon.ctr(&self.host).args(words));
        let mut left = [list(&["containers", "ls", "-q"])?, list(&["tasks", "ls", "-q"])?].concat();
        let dir = self.dir.path().join("data").display().to_string();
        let mounts = quiet(self.host.command("cat").arg("/proc/self/mounts"))?;
        left.extend(mounts.lines().filter(|line| line.contains(&dir)).map(|line| format!("{line}\n")));
        let devices = quiet(Command::new("losetup").arg("-a"))?;
        left.extend(devices.lines().filter(|line| line.contains(&dir)).map(|line| format!("{line}\n")));
        for folder in ["data/agent/pods", "data/csi/volumes", "logs"] {
            let entries = std::fs::read_dir(self.dir.path().join(folder)).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| format!("{}\n", entry.path().display())));
        }
        if left.is_empty() { Ok(()) } else { Err(format!("left behind: {left}").into()) }
    }

    /// Takes everything away but what goes with the host's namespaces.
    fn end(&mut self) -> Result<()> {
        let ended = self.end_agent(Signal::TERM);
        // Of a shop that was not closed.
        let tasks = quiet(self.daemon.ctr(&self.host).args(["tasks", "ls", "-q"])).unwrap_or_default();
        for task in tasks.split_whitespace() {
            let _ = quiet(self.daemon.ctr(&self.host).args(["tasks", "rm", "--force", task]));
        }
        quiet(&mut self.sextant(&["reset", "--yes", "--images"]))?;
        ended
    }

    /// The end of what agent and containerd have said.
    fn words(&self) -> String {
        let agent = std::fs::read_to_string(self.dir.path().join(WORDS)).unwrap_or_default();
        let end = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(12)..].join("\n")
        };
        format!("agent: {}\ncontainerd: {}", end(&agent), end(&self.daemon.words()))
    }
}
