//! A plugin of our own, and pods and containers to tell it of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ledger::Ledger;
use prost::Message;
use shim::protocol::Status;
use tokio::net::UnixStream;

use crate::contract::v1::{ContainerConfig, ContainerMetadata, PodSandboxConfig, PodSandboxMetadata};
use crate::plugin::cgroup::Parent;
use crate::plugin::nri::connection::{Asked, Connection};
use crate::plugin::nri::plugin::Plugin;
use crate::plugin::nri::{Nri, wire};
use crate::plugin::{Place, container, pod};

/// How long a plugin has in these tests.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Methods, with what they were called with.
type Heard = Vec<(String, Vec<u8>)>;

/// What a plugin answers; `None` is nothing, ever.
type Answer = Box<dyn Fn(&Asked) -> Option<Result<Vec<u8>, Status>> + Send>;

/// The plugin's side.
pub(super) struct Fake {
    /// The methods it was called by, and with what.
    pub(super) heard: Arc<Mutex<Heard>>,
    pub(super) connection: Connection,
}

impl Fake {
    pub(super) fn methods(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|(method, _)| method.clone()).collect()
    }

    /// What it was asked by `method` first.
    pub(super) fn request<M: Message + Default>(&self, method: &str) -> M {
        let heard = self.heard.lock().unwrap();
        let (_, payload) = heard.iter().find(|(heard, _)| heard == method).unwrap();
        M::decode(&**payload).unwrap()
    }
}

/// An answer that has nothing to say.
pub(super) fn nothing() -> Option<Result<Vec<u8>, Status>> {
    Some(Ok(Vec::new()))
}

pub(super) fn refusal(code: i32, message: &str) -> Option<Result<Vec<u8>, Status>> {
    Some(Err(Status { code, message: message.into() }))
}

/// Both ends of a connection, the plugin answering by `answer`.
pub(super) fn connect(
    answer: impl Fn(&Asked) -> Option<Result<Vec<u8>, Status>> + Send + 'static,
) -> (Connection, Fake) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (node, _) = Connection::new(ours, wire::PLUGIN, wire::RUNTIME);
    let (connection, mut requests) = Connection::new(theirs, wire::RUNTIME, wire::PLUGIN);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (answering, hearing, answer) = (connection.clone(), Arc::clone(&heard), Box::new(answer) as Answer);
    tokio::spawn(async move {
        while let Some(asked) = requests.recv().await {
            assert_eq!(asked.service, wire::PLUGIN_SERVICE);
            hearing.lock().unwrap().push((asked.method.clone(), asked.payload.clone()));
            if let Some(answer) = answer(&asked) {
                answering.answer(asked.stream, answer, TIMEOUT).await;
            }
        }
    });
    (node, Fake { heard, connection })
}

/// A plugin that is connected to `nri`, wants all events, and answers by `answer`.
pub(super) async fn plugin(
    nri: &Nri,
    name: &str,
    answer: impl Fn(&Asked) -> Option<Result<Vec<u8>, Status>> + Send + 'static,
) -> Fake {
    let (connection, fake) = connect(answer);
    let plugin =
        Plugin::configure(name.into(), connection, "settings".into(), [TIMEOUT, TIMEOUT]).await.unwrap();
    nri.add(Arc::new(plugin));
    fake
}

pub(super) fn nri(dir: &tempfile::TempDir) -> Nri {
    let (data, run) = (dir.path().join("data"), dir.path().join("run"));
    let ledger = Ledger::open(&run, &data).unwrap();
    Nri::new(Place { data, run, name: "test".into(), ledger })
}

pub(super) fn pod() -> pod::Pod {
    let metadata =
        PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "n".into(), attempt: 0 };
    let record = pod::Record {
        id: "pod1".into(),
        created: 1,
        handler: String::new(),
        config: PodSandboxConfig { metadata: Some(metadata), ..Default::default() },
        addresses: vec!["10.0.0.7".parse().unwrap()],
        network: None,
        cgroup: Parent::Cgroupfs { path: "test".into() },
        boot: "b".into(),
        namespaces: vec![("ipc".into(), "/proc/1/ns/ipc".into())],
        shm: false,
    };
    pod::Pod::new(record, None)
}

pub(super) fn config() -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "c".into(), attempt: 0 }),
        annotations: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        ..ContainerConfig::default()
    }
}

pub(super) fn container() -> Arc<container::Container> {
    Arc::new(container::Container::new(container::Record {
        id: "con1".into(),
        pod: "pod1".into(),
        created: 2,
        config: config(),
        image_id: String::new(),
        image_ref: String::new(),
        layers: Vec::new(),
        log: None,
        image_name: String::new(),
        mounted_images: BTreeMap::new(),
        mounted_layers: Vec::new(),
        user: Default::default(),
        stop_signal: 15,
        signal: 0,
        cgroup: PathBuf::from("test/con1"),
        boot: "b".into(),
    }))
}
