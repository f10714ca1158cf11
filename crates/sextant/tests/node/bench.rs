//! A node of its own, its caller, and what is compared before and after each test.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cri::caller::{Blocking, Client};
use cri::contract::v1::*;

use crate::{machine, wishes};

/// Longer than anything takes that will happen at all.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Seconds that what its caller left waits for somebody to come.
pub(crate) const GRACE: u64 = 10;

pub(crate) struct Bench {
    dir: tempfile::TempDir,
    daemon: RefCell<Option<Child>>,
    cri: RefCell<Option<Blocking>>,
    before: BTreeSet<String>,
}

impl Bench {
    /// Not in /tmp, which may be in memory: overlay mounts want a real filesystem.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sextant-node-").tempdir_in("/var/tmp").unwrap();
        machine::make_image(&dir.path().join("data/images"));
        // The machine's own networks are not looked at; the grace period is not waited for.
        let (networks, plugins) = (dir.path().join("networks"), dir.path().join("plugins"));
        [&networks, &plugins].iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let config = format!(
            "[runtime]\ngrace = {GRACE}\n[network]\nconf_dir = {networks:?}\nbin_dirs = [{plugins:?}]\n"
        );
        fs::write(dir.path().join("node.toml"), config).unwrap();
        let mut bench =
            Self { dir, daemon: RefCell::default(), cri: RefCell::default(), before: BTreeSet::new() };
        bench.start();
        bench.warm_up();
        bench.before = machine::snapshot(bench.dir.path());
        bench
    }

    /// Brings about what an instance has from its first pod on: directories, the ledger's note about this boot, the time of
    /// the last end; the same of a command's container, and of another daemon.
    pub(crate) fn warm_up(&self) {
        let pod = self.pod("first");
        let first = self.run(&pod, "first", &["probe"]);
        self.until_exited(&first);
        self.remove_pod(&pod);
        let done = self.command(&["run", "--rm", "t", "probe"]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        self.kill();
        self.start();
    }

    /// The instance's directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Below the instance's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program on this instance.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
        command.env_remove("CONTAINER_RUNTIME_ENDPOINT");
        command.arg("--data-dir").arg(self.path("data")).arg("--run-dir").arg(self.path("run")).args(args);
        command.stdin(Stdio::null()).current_dir(self.dir.path());
        command
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn start(&self) {
        self.start_with(|command| command);
    }

    /// The same with a command that is changed before.
    pub(crate) fn start_with(&self, change: impl FnOnce(&mut Command) -> &mut Command) {
        // It outlives a test program that is killed, and must not hold open what others read of that.
        let errors = fs::File::options().append(true).create(true).open(self.path("node.err")).unwrap();
        let config = self.path("node.toml");
        let args = ["node", "--builtin-network", "--config", config.to_str().unwrap()];
        let mut command = self.command(&args);
        command.stdout(Stdio::null());
        *self.daemon.borrow_mut() = Some(change(&mut command).stderr(errors).spawn().unwrap());
        self.until("the node serves", || {
            let ended = self.daemon.borrow_mut().as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the node ended: {}", self.said());
            self.connect().is_some_and(|cri| {
                let request = VersionRequest { version: "v1".into() };
                cri.wait(async |client| client.version(request).await).is_ok()
            })
        });
        *self.cri.borrow_mut() = self.connect();
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> i32 {
        self.daemon.borrow().as_ref().unwrap().id() as i32
    }

    /// Another connection.
    pub(crate) fn connect(&self) -> Option<Blocking> {
        Blocking::connect(&self.path("run/cri.sock")).ok()
    }

    /// Tells the daemon to end, and waits until it has.
    pub(crate) fn terminate(&self) {
        self.cri.borrow_mut().take();
        let mut daemon = self.daemon.borrow_mut().take().unwrap();
        let pid = rustix::process::Pid::from_child(&daemon);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(daemon.wait().unwrap().success(), "{}", self.said());
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        self.cri.borrow_mut().take();
        if let Some(mut daemon) = self.daemon.borrow_mut().take() {
            // It may have ended by itself.
            let _ = daemon.kill();
            daemon.wait().unwrap();
        }
    }

    /// The end of what the daemon has said.
    pub(crate) fn said(&self) -> String {
        let text = fs::read_to_string(self.path("node.err")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits for a call.
    pub(crate) fn wait<T>(&self, call: impl AsyncFnOnce(&Client) -> T) -> T {
        self.cri.borrow().as_ref().unwrap().wait(call)
    }

    /// A call that must succeed.
    #[track_caller]
    pub(crate) fn ok<T, E: std::fmt::Display>(&self, call: impl AsyncFnOnce(&Client) -> Result<T, E>) -> T {
        self.wait(call).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Makes a pod with its own network.
    #[track_caller]
    pub(crate) fn pod(&self, name: &str) -> String {
        self.run_pod(wishes::pod(name))
    }

    /// Makes a pod on the node's network.
    #[track_caller]
    pub(crate) fn host_pod(&self, name: &str) -> String {
        self.run_pod(wishes::host_pod(name))
    }

    /// Makes a pod, whose logs are in `logs/<name>`.
    #[track_caller]
    pub(crate) fn run_pod(&self, config: PodSandboxConfig) -> String {
        let request = self.pod_request(config);
        self.ok(async |c| c.run_pod_sandbox(request).await).pod_sandbox_id
    }

    pub(crate) fn pod_request(&self, mut config: PodSandboxConfig) -> RunPodSandboxRequest {
        let name = config.metadata.clone().unwrap_or_default().name;
        config.log_directory = self.path("logs").join(name).display().to_string();
        RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() }
    }

    #[track_caller]
    pub(crate) fn create(&self, pod: &str, config: ContainerConfig) -> String {
        let request =
            CreateContainerRequest { pod_sandbox_id: pod.into(), config: Some(config), sandbox_config: None };
        self.ok(async |c| c.create_container(request).await).container_id
    }

    #[track_caller]
    pub(crate) fn start_container(&self, id: &str) {
        let request = StartContainerRequest { container_id: id.into() };
        self.ok(async |c| c.start_container(request).await);
    }

    /// A container that runs these words.
    #[track_caller]
    pub(crate) fn run(&self, pod: &str, name: &str, words: &[&str]) -> String {
        self.run_as(pod, wishes::container(name, words))
    }

    /// A container as asked for, running.
    #[track_caller]
    pub(crate) fn run_as(&self, pod: &str, config: ContainerConfig) -> String {
        let id = self.create(pod, config);
        self.start_container(&id);
        id
    }

    #[track_caller]
    pub(crate) fn stop(&self, id: &str, timeout: i64) {
        let request = StopContainerRequest { container_id: id.into(), timeout };
        self.ok(async |c| c.stop_container(request).await);
    }

    #[track_caller]
    pub(crate) fn remove(&self, id: &str) {
        let request = RemoveContainerRequest { container_id: id.into() };
        self.ok(async |c| c.remove_container(request).await);
    }

    #[track_caller]
    pub(crate) fn stop_pod(&self, id: &str) {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.ok(async |c| c.stop_pod_sandbox(request).await);
    }

    /// As a kubelet does it: stops, then removes.
    #[track_caller]
    pub(crate) fn remove_pod(&self, id: &str) {
        self.stop_pod(id);
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.ok(async |c| c.remove_pod_sandbox(request).await);
    }

    #[track_caller]
    pub(crate) fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.ok(async |c| c.container_status(request).await).status.unwrap()
    }

    #[track_caller]
    pub(crate) fn pod_status(&self, id: &str) -> PodSandboxStatus {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        self.ok(async |c| c.pod_sandbox_status(request).await).status.unwrap()
    }

    #[track_caller]
    pub(crate) fn pods(&self) -> Vec<PodSandbox> {
        self.ok(async |c| c.list_pod_sandbox(ListPodSandboxRequest::default()).await).items
    }

    /// The network that a new pod gets, as the node tells of it.
    #[track_caller]
    pub(crate) fn network(&self) -> String {
        let status = self.ok(async |c| c.status(StatusRequest { verbose: true }).await);
        status.info.get("cniconfig").cloned().unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn containers(&self) -> Vec<Container> {
        self.ok(async |c| c.list_containers(ListContainersRequest::default()).await).containers
    }

    /// How many processes a container has.
    pub(crate) fn processes(&self, id: &str) -> usize {
        machine::limit(self.dir(), id, ["pids", "cgroup.procs"], "cgroup.procs").lines().count()
    }

    /// Waits for a container's end.
    #[track_caller]
    pub(crate) fn until_exited(&self, id: &str) -> ContainerStatus {
        self.until(&format!("{id} exits"), || self.status(id).state() == ContainerState::ContainerExited);
        self.status(id)
    }

    /// Waits until a container's end is written down, with a daemon or without.
    #[track_caller]
    pub(crate) fn until_written(&self, id: &str) {
        let file = self.path("data/cri/containers").join(id).join("exit.json");
        self.until(&format!("the end of {id} is written down"), || file.exists());
    }

    #[track_caller]
    pub(crate) fn exec(&self, id: &str, words: &[&str]) -> ExecSyncResponse {
        let cmd = words.iter().map(|&word| word.to_owned()).collect();
        let request = ExecSyncRequest { container_id: id.into(), cmd, timeout: 60 };
        self.ok(async |c| c.exec_sync(request).await)
    }

    /// What `probe look` sees in the container.
    #[track_caller]
    pub(crate) fn look(&self, id: &str, paths: &[&str]) -> serde_json::Value {
        let seen = self.exec(id, &[&["probe", "look"], paths].concat());
        serde_json::from_slice(&seen.stdout).unwrap_or_else(|e| panic!("{e}: {seen:?}"))
    }

    /// Waits until `holds`.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + LIMIT;
        while !holds() {
            assert!(Instant::now() < end, "waited too long until {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the log of a container has `text`.
    #[track_caller]
    pub(crate) fn until_logged(&self, pod: &str, name: &str, text: &str) {
        self.until(&format!("{pod}/{name} says {text:?}"), || self.log(pod, name).contains(text));
    }

    /// The log of a container, called `name`, of the pod of that name.
    pub(crate) fn log(&self, pod: &str, name: &str) -> String {
        fs::read_to_string(self.log_path(pod, name)).unwrap_or_default()
    }

    pub(crate) fn log_path(&self, pod: &str, name: &str) -> PathBuf {
        self.path("logs").join(pod).join(format!("{name}.log"))
    }

    /// What a test left behind, in words; it is removed, for the next one.
    pub(crate) fn left(&self) -> String {
        let ended =
            self.daemon.borrow_mut().as_mut().is_none_or(|daemon| !matches!(daemon.try_wait(), Ok(None)));
        if ended || self.cri.borrow().is_none() {
            self.kill();
            self.start();
        }
        let pods = self.pods();
        let names = pods.iter().map(|pod| format!("left over: pod {:?}\n", pod.metadata));
        let left: String = names.collect();
        pods.iter().for_each(|pod| self.remove_pod(&pod.id));
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let now = machine::snapshot(self.dir.path());
            if now == self.before {
                return left;
            }
            // Some of the kernel's work (a namespace's end, a cgroup's) comes later.
            if Instant::now() > end {
                let new = now.difference(&self.before).map(|item| format!("left over: {item}\n"));
                let gone = self.before.difference(&now).map(|item| format!("missing: {item}\n"));
                return left + &new.chain(gone).collect::<String>();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Bench {
    /// Ends the node, and removes all of the instance. What cannot be removed would be left without a word by a drop.
    pub(crate) fn end(self) -> std::io::Result<()> {
        self.kill();
        fs::remove_dir_all(self.dir.path())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // One of a test's own, which has failed: its pods would stay.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.left()));
        }
        self.kill();
    }
}
