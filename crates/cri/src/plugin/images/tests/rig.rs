//! A store, a registry, and something between them that counts, holds and refuses.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Cursor, Write, copy};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use oci_image::archive::{Content, Part, build};
use oci_image::contract::{Compression, ContainerConfig, Descriptor, Digest};
use oci_image::reference::Reference;
use oci_image::registry::client::{Client, Config as ClientConfig};
use oci_image::registry::server::{Config as ServerConfig, Handle, Server};
use oci_image::store::Store;
use tempfile::TempDir;
use testkit::faulty::{Faulty, answer};

use super::super::{Images, InUse};
use crate::contract::v1::{AuthConfig, Image, ImageSpec};
use crate::plugin::config;

/// A registry with a front, and the images of a node.
pub(super) struct Rig {
    pub(super) dir: TempDir,
    registry: Handle,
    pub(super) front: Front,
    pub(super) images: Arc<Images>,
    pub(super) in_use: Arc<Mutex<BTreeSet<String>>>,
}

/// What stands before the registry.
pub(super) struct Front {
    pub(super) server: Faulty,
    pub(super) state: Arc<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// `METHOD /path` of every request, and the header lines that begin as said.
    log: Mutex<Vec<String>>,
    rule: Mutex<Rule>,
    changed: Condvar,
}

/// What happens to requests whose line contains a text.
#[derive(Default, Clone)]
pub(super) enum Rule {
    #[default]
    None,
    /// They wait until there is another rule.
    Hold(String),
    /// They are answered so.
    Status(String, u16),
    /// They end after so many bytes of the answer, and hold there.
    CutAndHold(String, usize),
}

impl State {
    pub(super) fn set(&self, rule: Rule) {
        *self.rule.lock().unwrap() = rule;
        self.changed.notify_all();
    }

    /// How many requests had all of these in their head.
    pub(super) fn count(&self, parts: &[&str]) -> usize {
        let log = self.log.lock().unwrap();
        log.iter().filter(|head| parts.iter().all(|part| head.contains(part))).count()
    }

    pub(super) fn forget(&self) {
        self.log.lock().unwrap().clear();
    }

    pub(super) fn requests(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    fn hold(&self, line: &str) {
        let rule = self.rule.lock().unwrap();
        let held = |rule: &mut Rule| match rule {
            Rule::Hold(text) | Rule::CutAndHold(text, _) => line.contains(text.as_str()),
            _ => false,
        };
        drop(self.changed.wait_while(rule, held).unwrap());
    }

    fn relay(&self, to: std::net::SocketAddr, request: &str, client: &mut TcpStream) {
        self.log.lock().unwrap().push(request.to_owned());
        let line = request.lines().next().unwrap_or_default();
        let rule = self.rule.lock().unwrap().clone();
        let mut most = usize::MAX;
        match rule {
            Rule::Hold(text) if line.contains(&text) => self.hold(line),
            Rule::Status(text, status) if line.contains(&text) => return answer(client, status, "", b""),
            Rule::CutAndHold(text, bytes) if line.contains(&text) => most = bytes,
            _ => {}
        }
        let mut server = TcpStream::connect(to).unwrap();
        let request = request.replacen("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1);
        server.write_all(request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        copy(&mut server, &mut reply).unwrap();
        // Whoever asked may have left.
        let _ = client.write_all(&reply[..reply.len().min(most)]);
        if most != usize::MAX {
            self.hold(line);
        }
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(config::Images::default(), None)
    }

    /// A rig whose registry asks for `user`, if given.
    pub(super) fn with(config: config::Images, user: Option<(&str, &str)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let user = user.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = ServerConfig { dir: dir.path().join("registry"), listen, user };
        let registry = Server::start(server).unwrap();
        let to = registry.addr();
        let state = Arc::new(State::default());
        let relay = Arc::clone(&state);
        let server = Faulty::start(move |_, request, client| relay.relay(to, request, client));
        let mut config = config;
        config.hosts_dirs = vec![dir.path().join("certs.d")];
        let in_use: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let asked = Arc::clone(&in_use);
        let in_use_now: InUse = Arc::new(move || Some(asked.lock().unwrap().clone()));
        let store = Arc::new(Store::open(dir.path().join("store")).unwrap());
        let containers = dir.path().join("containers");
        let images = Arc::new(Images::new(store, &config, in_use_now, &containers));
        Self { dir, registry, front: Front { server, state }, images, in_use }
    }

    pub(super) fn state(&self) -> &State {
        &self.front.state
    }

    /// The name of `path` at the front.
    pub(super) fn name(&self, path: &str) -> String {
        format!("{}/{path}", self.front.server.addr)
    }

    /// Another process's view of the store.
    pub(super) fn store(&self) -> Store {
        Store::open(self.dir.path().join("store")).unwrap()
    }

    /// Pushes an image with one file; its manifest.
    pub(super) fn push(&self, path: &str, content: &[u8]) -> Digest {
        self.push_with(path, content, ContainerConfig::default(), None)
    }

    pub(super) fn push_with(
        &self,
        path: &str,
        content: &[u8],
        config: ContainerConfig,
        who: Option<(&str, &str)>,
    ) -> Digest {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(scratch.path()).unwrap();
        let part = Part { path: "file".into(), content: Content::Bytes(content.to_vec()), mode: 0o644 };
        let built = build(&store, "localhost/made:1", &[part], config, Compression::None).unwrap();
        let to = Reference::parse(&format!("{}/{path}", self.registry.addr())).unwrap();
        let client = Client::new(ClientConfig::default());
        let client = match who {
            Some((username, password)) => {
                client.with_credential(oci_image::registry::credentials::Credential::Basic {
                    username: username.into(),
                    password: password.into(),
                })
            }
            None => client,
        };
        let manifest = store.manifest(&built.manifest).unwrap();
        let blob = |descriptor: &Descriptor| {
            let bytes = fs::read(store.blob_path(&descriptor.digest)).unwrap();
            let open = |at: u64| -> std::io::Result<Box<dyn std::io::Read + Send>> {
                Ok(Box::new(Cursor::new(bytes[usize::try_from(at).unwrap()..].to_vec())))
            };
            client.push_blob(&to, descriptor, None, &open).unwrap();
        };
        manifest.layers.iter().for_each(blob);
        blob(&manifest.config);
        let bytes = fs::read(store.blob_path(&built.manifest)).unwrap();
        let media_type = oci_image::contract::MediaType::OCI_MANIFEST;
        client.push_manifest(&to, &media_type, &bytes).unwrap()
    }

    /// The digest of the first layer of what was pushed.
    pub(super) fn layer(&self, path: &str) -> Digest {
        let at = Reference::parse(&format!("{}/{path}", self.registry.addr())).unwrap();
        let (_, bytes) = Client::new(ClientConfig::default()).manifest(&at).unwrap();
        oci_image::contract::parse_manifest(&bytes).unwrap().layers[0].digest.clone()
    }

    pub(super) async fn pull(&self, path: &str) -> String {
        self.images.pull(&self.name(path), None).await.unwrap()
    }

    pub(super) async fn pull_as(
        &self,
        path: &str,
        auth: AuthConfig,
    ) -> Result<String, crate::contract::Error> {
        self.images.pull(&self.name(path), Some(&auth)).await
    }

    pub(super) async fn list(&self) -> Vec<Image> {
        self.images.list("").await.unwrap()
    }

    pub(super) async fn status(&self, text: &str) -> Option<Image> {
        let spec = ImageSpec { image: text.to_owned(), ..ImageSpec::default() };
        self.images.status(&spec, false).await.unwrap().image
    }

    /// Says in a hosts file that `registry` is to be had at the front.
    pub(super) fn mirror(&self, registry: &str) {
        let folder = self.dir.path().join("certs.d").join(registry);
        fs::create_dir_all(&folder).unwrap();
        let server = self.front.server.addr;
        let text = format!(
            "server = \"http://{server}\"\n[host.\"http://{server}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
        );
        fs::write(folder.join("hosts.toml"), text).unwrap();
    }

    /// The unpacked layers there are.
    pub(super) fn layers(&self) -> Vec<String> {
        let folder = self.dir.path().join("store/layers/sha256");
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(super) fn index(&self) -> PathBuf {
        self.dir.path().join("store/index.json")
    }
}

/// Waits until `holds`, which it must within three minutes: other threads, and other processes, have the processors, too.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..18_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{what}: not within three minutes");
}
