//! A machine in a directory: an API server, a node and an agent, and what is looked at on it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Node, Pod};
use kube::api::{DeleteParams, ListParams, LogParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig};
use oci_image::store::Store;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testkit::instance_name;

/// Longer than anything takes that will happen at all, on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// The agent's node.
pub(crate) const NODE: &str = "node-1";
/// The image of all containers.
pub(crate) const IMAGE: &str = "docker.io/library/t:latest";

/// Another image of the same.
pub(crate) const OTHER: &str = "docker.io/library/other:latest";

/// The machine. All its processes end with it.
pub(crate) struct Rig {
    pub(crate) client: Client,
    /// How the administrator reaches the API server.
    pub(crate) config: Config,
    dir: tempfile::TempDir,
    processes: RefCell<BTreeMap<&'static str, Child>>,
}

impl Rig {
    /// All three, and the node ready.
    pub(crate) async fn start() -> Self {
        // Not in /tmp, which may be in memory: overlay mounts want a real filesystem.
        let dir = tempfile::Builder::new().prefix("sextant-agent-").tempdir_in("/var/tmp").unwrap();
        make_image(&dir.path().join("data/images"), IMAGE, "first");
        make_image(&dir.path().join("data/images"), OTHER, "other");
        let (networks, plugins) = (dir.path().join("networks"), dir.path().join("plugins"));
        [&networks, &plugins].iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let config = format!("[network]\nconf_dir = {networks:?}\nbin_dirs = [{plugins:?}]\n");
        fs::write(dir.path().join("node.toml"), config).unwrap();
        let api = launch(dir.path(), "api", &["--listen", "127.0.0.1:0"]);
        wait_for_words(dir.path(), "api", "serves on ");
        let kubeconfig = Kubeconfig::read_from(dir.path().join("data/api/kubeconfig")).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let rig = Self {
            client: Client::try_from(config.clone()).unwrap(),
            config,
            processes: RefCell::new([("api", api)].into()),
            dir,
        };
        let config = rig.path("node.toml").display().to_string();
        let registry = rig.path("data/agent/plugins_registry");
        fs::create_dir_all(&registry).unwrap();
        let registry = registry.display().to_string();
        let volumes = ["--csi", "--csi-node-id", NODE, "--csi-registration-dir", &registry];
        rig.spawn("node", &[&["--builtin-network", "--config", &config], &volumes[..]].concat());
        rig.agent();
        rig.until("the node is ready", async || {
            let node = Api::<Node>::all(rig.client.clone()).get_opt(NODE).await.unwrap()?;
            let conditions = node.status?.conditions?;
            conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True").then_some(())
        })
        .await;
        rig
    }

    /// Starts the agent, again where it was killed.
    pub(crate) fn agent(&self) {
        self.agent_with(&[]);
    }

    /// The same, told more.
    pub(crate) fn agent_with(&self, more: &[&str]) {
        let logs = self.path("logs").display().to_string();
        let mut args = vec!["--node", NODE, "--listen", "127.0.0.1:0", "--logs", &logs];
        // How full the machine's disk is, is nothing to tests.
        for [name, value] in
            [["--eviction-hard", "memory.available<1Mi"], ["--image-gc-high-threshold", "100"]]
        {
            if !more.contains(&name) {
                args.extend([name, value]);
            }
        }
        self.spawn("agent", &[&args, more].concat());
    }

    /// The way to the agent's own server, as the administrator.
    pub(crate) async fn agents_server(&self) -> Client {
        self.until("the agent's server answers", async || {
            // Each agent has another port.
            let node = Api::<Node>::all(self.client.clone()).get(NODE).await.unwrap();
            let port = &json!(node.status)["daemonEndpoints"]["kubeletEndpoint"]["Port"];
            let mut config = Config::new(format!("https://127.0.0.1:{port}").parse().unwrap());
            config.accept_invalid_certs = true;
            // Any will do, but a machine may have none of its own.
            config.root_cert = self.config.root_cert.clone();
            config.auth_info = self.config.auth_info.clone();
            let client = Client::try_from(config).unwrap();
            let asked = http::Request::get("/healthz").body(Vec::new()).unwrap();
            client.request_text(asked).await.is_ok().then_some(client)
        })
        .await
    }

    /// Has an image of this name on the machine, beside [`IMAGE`].
    pub(crate) fn image(&self, name: &str) {
        make_image(&self.path("data/images"), name, "other");
    }

    /// Starts the controllers of pods and volumes, with these options too.
    pub(crate) fn control(&self, more: &[&str]) {
        // What a test that failed has left.
        if self.processes.borrow().contains_key("control") {
            self.kill("control");
        }
        let socket = self.path("run/csi.sock").display().to_string();
        self.spawn("control", &[&["--bind", "--workloads", "--csi-socket", &socket], more].concat());
    }

    fn spawn(&self, name: &'static str, args: &[&str]) {
        let child = launch(self.dir.path(), name, args);
        self.processes.borrow_mut().insert(name, child);
    }

    /// `kill -9`.
    pub(crate) fn kill(&self, name: &str) {
        let mut child = self.processes.borrow_mut().remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What all programs of this name have said.
    pub(crate) fn words(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.words"))).unwrap_or_default()
    }

    /// The end of what all of them said.
    pub(crate) fn said(&self) -> String {
        let end = |name: &str| {
            let text = self.words(name);
            let lines: Vec<&str> = text.lines().collect();
            format!("{name}: {}", lines[lines.len().saturating_sub(15)..].join("\n"))
        };
        ["api", "node", "control", "agent"].map(end).join("\n")
    }

    /// What `look` finds, once it finds something.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}\n{}", self.all().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// All pods and events, for messages.
    async fn all(&self) -> String {
        let pods = self.pods().list(&ListParams::default()).await.unwrap();
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let told = events.iter().map(|one| {
            let name = one.involved_object.name.clone().unwrap_or_default();
            format!(
                "{name} {} {}",
                one.reason.clone().unwrap_or_default(),
                one.message.clone().unwrap_or_default()
            )
        });
        let pods = pods
            .items
            .iter()
            .map(|pod| format!("{} {}", pod.metadata.name.clone().unwrap_or_default(), json!(pod.status)));
        pods.chain(told).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Makes an object of namespace `default`.
    pub(crate) async fn make<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        Api::namespaced(self.client.clone(), "default").create(&PostParams::default(), &object).await.unwrap()
    }

    /// Makes a pod on the agent's node.
    pub(crate) async fn pod(&self, name: &str, mut spec: Value) -> Pod {
        spec["nodeName"] = json!(NODE);
        self.make(json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// The pod's status as JSON, once this holds of it.
    pub(crate) async fn status(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("{name}: {what}"), async || {
            let status = json!(self.pods().get(name).await.unwrap().status);
            holds(&status).then_some(status)
        })
        .await
    }

    pub(crate) async fn ready(&self, name: &str) -> Value {
        self.status(name, "is ready", |status| condition(status, "Ready") == "True").await
    }

    /// What a container has written, as the API server tells it.
    pub(crate) async fn log(&self, pod: &str, container: &str) -> String {
        self.try_log(pod, container).await.unwrap()
    }

    async fn try_log(&self, pod: &str, container: &str) -> kube::Result<String> {
        let asked = LogParams { container: Some(container.into()), ..LogParams::default() };
        self.pods().logs(pod, &asked).await
    }

    pub(crate) async fn log_has(&self, pod: &str, container: &str, what: &str) {
        // Before it runs there is none.
        let look =
            async || self.try_log(pod, container).await.is_ok_and(|log| log.contains(what)).then_some(());
        self.until(&format!("{pod}/{container} says {what:?}"), look).await;
    }

    /// The messages of a pod's events with this reason.
    pub(crate) async fn events(&self, pod: &str, reason: &str) -> Vec<String> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), "default");
        let all = events.list(&ListParams::default()).await.unwrap().items;
        let of = all.into_iter().filter(|one| {
            one.involved_object.name.as_deref() == Some(pod) && one.reason.as_deref() == Some(reason)
        });
        of.filter_map(|one| one.message).collect()
    }

    pub(crate) async fn told(&self, pod: &str, reason: &str, what: &str) {
        let look =
            async || self.events(pod, reason).await.iter().any(|text| text.contains(what)).then_some(());
        self.until(&format!("event {reason} of {pod} with {what:?}"), look).await;
    }

    pub(crate) async fn delete(&self, name: &str, grace: u32) {
        self.pods().delete(name, &DeleteParams::default().grace_period(grace)).await.unwrap();
    }

    pub(crate) async fn gone(&self, name: &str) {
        let look = async || self.pods().get_opt(name).await.unwrap().is_none().then_some(());
        self.until(&format!("{name} is gone"), look).await;
    }

    /// Deletes all pods; what is left on the machine after that.
    pub(crate) async fn left(&self) -> String {
        for pod in self.pods().list(&ListParams::default()).await.unwrap().items {
            let name = pod.metadata.name.unwrap();
            // It may be gone by now.
            let _ = self.pods().delete(&name, &DeleteParams::default().grace_period(1)).await;
        }
        self.until("all pods are gone", async || {
            self.pods().list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
        })
        .await;
        let began = Instant::now();
        while began.elapsed() < PATIENCE && !self.things().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.things().join("\n")
    }

    /// The cgroup of guaranteed pods, and of the other classes.
    pub(crate) fn cgroups(&self) -> PathBuf {
        format!("{}-agent/kubepods", instance_name(&fs::canonicalize(self.path("run")).unwrap())).into()
    }

    /// Whether nothing of a pod is on the machine.
    pub(crate) fn is_clean(&self) -> bool {
        self.things().is_empty()
    }

    /// What pods have on the machine.
    fn things(&self) -> Vec<String> {
        let files = |name: &str| {
            let entries = fs::read_dir(self.path(name)).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
        };
        let folders = ["data/agent/pods", "data/cri/pods", "data/cri/containers", "logs", "containers"];
        let mut all = folders.map(files).concat();
        let drivers =
            fs::read_dir(self.path("data/agent/plugins/kubernetes.io/csi")).into_iter().flatten().flatten();
        let held = drivers.flat_map(|driver| fs::read_dir(driver.path()).into_iter().flatten().flatten());
        all.extend(held.map(|entry| entry.path().display().to_string()));
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let below = self.path("data/agent").display().to_string();
        all.extend(mounts.lines().filter(|line| line.contains(&below)).map(str::to_owned));
        let parent = self.cgroups();
        for root in ["memory", "."] {
            for class in ["", "burstable", "besteffort"] {
                let dir = Path::new("/sys/fs/cgroup").join(root).join(&parent).join(class);
                let entries = fs::read_dir(dir).into_iter().flatten().flatten();
                let pods = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("pod"));
                all.extend(pods.map(|entry| entry.path().display().to_string()));
            }
        }
        all
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in self.processes.borrow_mut().values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let name = instance_name(&fs::canonicalize(self.path("run")).unwrap());
        for group in [name.clone(), format!("{name}-agent")] {
            let _ = kernel::cgroup::destroy(Path::new(&group));
        }
    }
}

/// A condition's status.
pub(crate) fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    let all = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|one| one["type"] == kind).and_then(|one| one["status"].as_str()).unwrap_or("")
}

/// The status of the pod's first container.
pub(crate) fn first(status: &Value) -> ContainerStatus {
    serde_json::from_value(status["containerStatuses"][0].clone()).unwrap()
}

/// A container that runs these words.
pub(crate) fn container(name: &str, words: &[&str]) -> Value {
    let command: Vec<&str> = [&["probe"], words].concat();
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": command})
}

/// The same with these fields, too.
pub(crate) fn with(mut object: Value, fields: Value) -> Value {
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

/// One program, called `probe`, in an environment that tells images apart.
fn make_image(store: &Path, name: &str, kind: &str) {
    let store = Store::open(store).unwrap();
    let program = fs::canonicalize("/proc/self/exe").unwrap();
    let part = |path: &str, content, mode| Part { path: path.to_owned(), content, mode };
    let passwd = Content::Bytes("root:x:0:0:root:/root:/bin/sh\n".into());
    let parts = [
        part("bin/probe", Content::File(program), 0o755),
        part("etc/passwd", passwd, 0o644),
        part("tmp", Content::Directory, 0o1777),
    ];
    let config = ContainerConfig {
        env: vec!["PATH=/bin".into(), format!("KIND={kind}")],
        ..ContainerConfig::default()
    };
    build(&store, name, &parts, config, Compression::None).unwrap();
}

fn launch(dir: &Path, name: &str, args: &[&str]) -> Child {
    let words = File::options().create(true).append(true).open(dir.join(format!("{name}.words"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
    command
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--run-dir")
        .arg(dir.join("run"))
        .arg(name)
        .args(args);
    for variable in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "CONTAINER_RUNTIME_ENDPOINT", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    let out = words.try_clone().unwrap();
    command.stdin(Stdio::null()).stdout(out).stderr(words).spawn().unwrap()
}

fn wait_for_words(dir: &Path, name: &str, what: &str) {
    let began = Instant::now();
    let said = || fs::read_to_string(dir.join(format!("{name}.words"))).unwrap();
    while !said().contains(what) {
        assert!(began.elapsed() < PATIENCE, "{name} does not say {what:?}: {}", said());
        std::thread::sleep(Duration::from_millis(10));
    }
}
