//! A machine in a directory: an API server, a driver and the controllers, each a process that can be killed and started again.
//!
//! The calling thread gets a network and mounts of its own, which the processes share, so that nothing of a test is left on the
//! machine. So a test has to run on one thread: `#[tokio::test]` as it is.
#![allow(dead_code, reason = "tools of all tests here")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, StorageClass};
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Longer than anything takes that will happen at all, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// The node that the driver is on.
pub(crate) const NODE: &str = "node-1";
/// The driver's name.
pub(crate) const DRIVER: &str = "csi.sextant.dev";

/// The machine. All its processes end with it.
pub(crate) struct Rig {
    /// The administrator's client of the API server.
    pub(crate) client: Client,
    dir: tempfile::TempDir,
    processes: BTreeMap<String, Process>,
    /// Where the API server listens; the same after each of its starts.
    address: String,
    /// What processes have in their environment beside the test's.
    env: BTreeMap<String, String>,
}

struct Process {
    args: Vec<String>,
    child: Child,
    /// Its directory of what does not outlive a boot.
    run: &'static str,
}

impl Rig {
    /// An API server, the driver and the controllers, and what an administrator makes: the node, with the driver on it; storage
    /// classes `dir` (plain directories: fast) and `image` (file systems in images), which bind at once.
    pub(crate) async fn start() -> Rig {
        let mut rig = Rig::bare().await;
        rig.objects().await;
        rig.driver();
        rig.control(&[]);
        rig.words_have("control", &format!("driver {DRIVER} is at")).await;
        rig
    }

    /// An API server alone.
    pub(crate) async fn bare() -> Rig {
        testkit::own_namespaces();
        let dir = tempfile::Builder::new().prefix("sextant-control-").tempdir_in("/tmp").unwrap();
        std::fs::create_dir(dir.path().join("plugins")).unwrap();
        let mut processes = BTreeMap::new();
        let args = ["api", "--listen", "127.0.0.1:0"].map(String::from).to_vec();
        let env = BTreeMap::new();
        let child = launch(dir.path(), "run", "api", &args, &env);
        processes.insert("api".into(), Process { child, args, run: "run" });
        let words = dir.path().join("api.words");
        let began = Instant::now();
        let address = loop {
            let said = std::fs::read_to_string(&words).unwrap();
            if let Some((_, rest)) = said.split_once("serves on ")
                && let Some((address, _)) = rest.split_once(';')
            {
                break String::from(address);
            }
            assert!(began.elapsed() < PATIENCE, "the API server does not serve: {said}");
            std::thread::sleep(Duration::from_millis(10));
        };
        let kubeconfig = Kubeconfig::read_from(dir.path().join("data/api/kubeconfig")).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let mut rig = Rig { client, dir, processes, address, env };
        let listen = rig.address.clone();
        if let Some(api) = rig.processes.get_mut("api") {
            api.args = vec!["api".into(), "--listen".into(), listen];
        }
        rig
    }

    /// Processes that are started from now on have this in their environment.
    pub(crate) fn env(&mut self, name: &str, value: &str) {
        self.env.insert(name.into(), value.into());
    }

    /// Where the API server listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A path in the machine's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where a driver of the test listens so that the controllers find it: `plugins/NAME/csi.sock`.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        let folder = self.path("plugins").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("csi.sock")
    }

    /// Where the driver listens.
    pub(crate) fn driver_socket(&self) -> PathBuf {
        self.path("run/csi.sock")
    }

    /// Starts the driver, as process `driver`, with one pool, `default`.
    pub(crate) fn driver(&mut self) {
        let pool = format!("default={}", self.path("pool").display());
        self.spawn("driver", &["csi-driver", "--pool", &pool, "--node-id", NODE]);
    }

    /// Starts the controllers, as process `control`; they know the driver's socket and `plugins`.
    pub(crate) fn control(&mut self, args: &[&str]) {
        self.spawn_control("control", args);
    }

    /// Starts controllers, as a process of this name.
    pub(crate) fn spawn_control(&mut self, name: &str, args: &[&str]) {
        let (socket, plugins) = (self.driver_socket(), self.path("plugins"));
        let places = ["control", "--csi-socket", text(&socket), "--csi-dir", text(&plugins)];
        self.spawn(name, &[&places, args].concat());
    }

    /// Starts `sextant` with these arguments, as a process of this name; what it says is kept under the name, too.
    pub(crate) fn spawn(&mut self, name: &str, args: &[&str]) -> String {
        self.spawn_in("run", name, args)
    }

    /// The same, as of another instance: `run` is the directory that only its processes have.
    pub(crate) fn spawn_in(&mut self, run: &'static str, name: &str, args: &[&str]) -> String {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let child = launch(self.dir.path(), run, name, &args, &self.env);
        if let Some(mut old) = self.processes.insert(name.into(), Process { args, child, run }) {
            let _ = old.child.kill();
            let _ = old.child.wait();
        }
        name.into()
    }

    /// Kills a process; it has no time to say good-bye.
    pub(crate) fn kill(&mut self, name: &str) {
        let child = &mut self.process(name).child;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts a process again that was killed or has ended, with the arguments that it had.
    pub(crate) fn again(&mut self, name: &str) {
        let (args, run) = (self.process(name).args.clone(), self.process(name).run);
        self.process(name).child = launch(self.dir.path(), run, name, &args, &self.env);
    }

    /// Tells a process to end, and waits until it has; its exit code.
    pub(crate) fn end(&mut self, name: &str) -> Option<i32> {
        let child = &mut self.process(name).child;
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{name} does not end: {}", self.words(name));
    }

    /// Waits until a process has ended by itself; its exit code.
    pub(crate) async fn wait(&mut self, name: &str) -> Option<i32> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.process(name).child.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} does not end: {}", self.words(name));
    }

    /// The process's id.
    pub(crate) fn pid(&mut self, name: &str) -> u32 {
        self.process(name).child.id()
    }

    fn process(&mut self, name: &str) -> &mut Process {
        self.processes.get_mut(name).unwrap_or_else(|| panic!("no process {name}"))
    }

    /// All that a process has said, in all its lives.
    pub(crate) fn words(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(&format!("{name}.words"))).unwrap_or_default()
    }

    /// Waits until a process has said something.
    pub(crate) async fn words_have(&self, name: &str, what: &str) {
        let said = async |rig: &Rig| rig.words(name).contains(what).then_some(());
        self.until(&format!("{name} says {what:?}"), said).await;
    }

    /// What `look` finds, once it finds something.
    ///
    /// # Panics
    /// Nothing was found in time: with what is waited for, and all that was said.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFn(&Rig) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look(self).await {
                return found;
            }
            if began.elapsed() > PATIENCE {
                let said: Vec<String> =
                    self.processes.keys().map(|name| format!("{name}:\n{}", self.words(name))).collect();
                panic!("not in {PATIENCE:?}: {what}\n{}", said.join("\n"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for an event of this reason about an object of namespace `default`, with these words in it.
    pub(crate) async fn event(&self, about: &str, reason: &str, words: &str) {
        self.until(&format!("an event {reason} of {about} with {words:?}"), async |rig| {
            let events = rig.objects_of::<Event>("").list(&ListParams::default()).await.ok()?;
            let is = |event: &&Event| {
                event.regarding.as_ref().and_then(|of| of.name.as_deref()) == Some(about)
                    && event.reason.as_deref() == Some(reason)
                    && event.note.as_deref().unwrap_or_default().contains(words)
            };
            events.iter().find(is).map(drop)
        })
        .await;
    }

    /// Takes away how the API server is reached.
    pub(crate) fn forget_kubeconfig(&self) {
        std::fs::remove_file(self.path("data/api/kubeconfig")).unwrap();
    }

    /// Objects of a namespace, `default` if none is named.
    pub(crate) fn objects_of<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), if namespace.is_empty() { "default" } else { namespace })
    }

    /// Makes an object of the cluster.
    pub(crate) async fn make<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        Api::all(self.client.clone()).create(&PostParams::default(), &object).await.unwrap()
    }

    /// Makes an object of namespace `default`.
    pub(crate) async fn make_here<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.objects_of("").create(&PostParams::default(), &object).await.unwrap()
    }

    /// What an administrator makes for the driver.
    pub(crate) async fn objects(&self) {
        self.node(NODE, DRIVER, NODE, &["topology.csi.sextant.dev/node"]).await;
        self.make::<CSIDriver>(json!({"metadata": {"name": DRIVER}, "spec": {
            "attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File", "storageCapacity": true,
            "volumeLifecycleModes": ["Persistent", "Ephemeral"]}}))
            .await;
        for backend in ["dir", "image"] {
            self.class(backend, DRIVER, json!({"parameters": {"backend": backend}})).await;
        }
    }

    /// Makes a storage class, expandable and bound at once, with more or other fields.
    pub(crate) async fn class(&self, name: &str, provisioner: &str, fields: Value) -> StorageClass {
        let mut class = json!({"metadata": {"name": name}, "provisioner": provisioner,
            "allowVolumeExpansion": true, "volumeBindingMode": "Immediate", "reclaimPolicy": "Delete"});
        class.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.make(class).await
    }

    /// Makes a node, with a driver on it that calls it `id`, and has these keys of topology with the id as their value.
    pub(crate) async fn node(&self, name: &str, driver: &str, id: &str, keys: &[&str]) {
        let mut labels: BTreeMap<&str, &str> = keys.iter().map(|key| (*key, id)).collect();
        labels.insert("kubernetes.io/hostname", name);
        self.make::<Node>(json!({"metadata": {"name": name, "labels": labels}})).await;
        self.make::<CSINode>(json!({"metadata": {"name": name}, "spec": {"drivers": [
            {"name": driver, "nodeID": id, "topologyKeys": keys}]}}))
            .await;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
        // The mounts go with the thread, and their loop devices with them; a device without a mount would stay.
        // Drivers of other tests, and a killed driver's programs, may have one open for a moment yet.
        let mut left = devices(self.dir.path());
        let began = Instant::now();
        while !left.is_empty() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
            left = devices(self.dir.path());
        }
        if !std::thread::panicking() {
            assert_eq!(left, Vec::<String>::new(), "loop devices are left");
        }
    }
}

/// Loop devices on files below a directory that are mounted nowhere.
fn devices(dir: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap_or_default();
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| {
            let file = std::fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
            file.is_ok_and(|file| file.starts_with(text(dir))) && !mounts.contains(&format!("/dev/{name} "))
        })
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn launch(dir: &Path, run: &str, name: &str, args: &[String], env: &BTreeMap<String, String>) -> Child {
    let words = File::options().create(true).append(true).open(dir.join(format!("{name}.words"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sextant"));
    command.arg("--data-dir").arg(dir.join("data")).arg("--run-dir").arg(dir.join(run)).args(args);
    for variable in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "CSI_ENDPOINT", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    command.envs(env);
    let out = words.try_clone().unwrap();
    command.stdin(Stdio::null()).stdout(out).stderr(words).spawn().unwrap()
}
