//! CreateContainer: a root, a configuration and a record. Nothing runs yet.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::{Effect, Owner, OwnerId, Record as _};
use oci_runtime::contract::Spec;
use tokio::runtime::Handle;

use super::{Container, Record, spec};
use crate::contract::Error;
use crate::contract::v1::{ContainerConfig, CreateContainerRequest};
use crate::plugin::cgroup::{self, Parent};
use crate::plugin::history::Who;
use crate::plugin::node::{Node, blocking};
use crate::plugin::nri::{self, Others};
use crate::plugin::pod::Pod;
use crate::plugin::{cdi, clock, files, ids};

/// What only one container of a pod may have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pod: String,
    name: String,
    attempt: u32,
}

impl Key {
    pub(super) fn of(pod: &str, config: &ContainerConfig) -> Self {
        let metadata = config.metadata.clone().unwrap_or_default();
        Self { pod: pod.to_owned(), name: metadata.name, attempt: metadata.attempt }
    }
}

impl Node {
    /// Makes a container in a pod, and returns its id.
    ///
    /// A caller that leaves does not end it; one that comes again with the same name and attempt joins it.
    pub(crate) async fn create_container(
        self: &Arc<Self>,
        request: CreateContainerRequest,
    ) -> Result<String, Error> {
        let pod = self.state.pod(&request.pod_sandbox_id)?;
        pod.shim()?;
        self.pods_in_making.taken(&pod.key());
        let config = request.config.unwrap_or_default();
        let key = Key::of(pod.id(), &config);
        let same = |c: &Arc<Container>| Key::of(pod.id(), &c.record.config) == key;
        if let Some(container) = self.state.containers_of(pod.id()).into_iter().find(same) {
            if container.record.config == config {
                self.containers_in_making.taken(&key);
                return Ok(container.id().to_owned());
            }
            return Err(Error::exists(format!(
                "a container with this name and attempt is in pod sandbox {} already: {} (remove it first, or raise \
                 config.metadata.attempt)",
                pod.id(),
                container.id()
            )));
        }
        let (maker, undoer) = (Arc::clone(self), Arc::clone(self));
        let name = config.metadata.as_ref().map_or("", |m| m.name.as_str());
        let doing = self.history.begin(Who::of(&pod.record.config), "CreateContainer", name);
        let create = async move {
            let _turn = pod.turn.lock().await;
            pod.shim()?;
            let (node, pod) = (Arc::clone(&maker), Arc::clone(&pod));
            let in_pod = Arc::clone(&pod);
            let (made, others) = {
                let _entered = maker.nri.enter().await;
                let (made, others) = blocking(move || make(&node, &pod, config)).await?;
                let made = Arc::new(made);
                maker.state.add_container(Arc::clone(&made));
                maker.events.container_created(&made);
                maker.nri.created_container(&in_pod, &made).await;
                (made, others)
            };
            if let Err(error) = maker.change_others(others).await {
                maker.remove_container_of(&in_pod, &made).await?;
                return Err(error);
            }
            Ok(made.id().to_owned())
        };
        let work = async move {
            let made = create.await;
            doing.end(&made, Clone::clone);
            made
        };
        let abandon = |made: Result<String, Error>| async move {
            if let Ok(id) = made {
                undoer.log(&format!("container {id}: nobody came for it: removed"));
                if let Err(error) = undoer.remove_container(&id).await {
                    undoer.log(&format!("container {id}: {error}"));
                }
            }
        };
        let made = self.containers_in_making.run(key, work, abandon).await;
        made.unwrap_or_else(|| Err(Error::internal("cannot create the container: a bug ended it")))
    }
}

fn make(node: &Node, pod: &Pod, config: ContainerConfig) -> Result<(Container, Others), Error> {
    let id = ids::new_id()?;
    let mut owner =
        node.place.ledger.owner(&OwnerId::new(id.as_str()).map_err(Error::of)?).map_err(Error::of)?;
    match make_with(node, pod, config.clone(), &id, &mut owner) {
        Ok(made) => Ok(made),
        Err(error) => {
            if node.nri.hears_stops() {
                Handle::current().block_on(node.nri.undo_container(&pod.record, &id, &config));
            }
            Err(owner.undo_all().into_iter().fold(error, |error, left| error.and(&left)))
        }
    }
}

fn make_with(
    node: &Node,
    pod: &Pod,
    config: ContainerConfig,
    id: &str,
    owner: &mut Owner,
) -> Result<(Container, Others), Error> {
    // Whoever collects unused layers waits for this.
    let _hold = node.store.hold().map_err(|e| Error::internal(e.to_string()))?;
    node.handlers.check_container(&pod.record.handler, &config)?;
    let image = node.images.for_container(config.image.as_ref())?;
    let (state, bundle) = (node.place.container(id), node.place.bundle(id));
    let wishes =
        spec::Wishes { node, pod, id, config: &config, image: &image, state: &state, bundle: &bundle };
    let mut built = spec::build(&wishes)?;
    node.handlers.suit(&pod.record, &mut built.spec);
    // This thread may wait for plugins.
    let asked = node.nri.create_container(&pod.record, id, &config, &mut built.spec);
    let beside = Handle::current().block_on(asked)?;
    add_devices(&beside.devices, &mut built.spec, !pod.id_mappings().0.is_empty())?;
    oci_runtime::contract::validate(&built.spec)
        .map_err(|e| Error::invalid("config", format!("asks for what the runtime cannot do: {e}")))?;
    for dir in [state.clone(), bundle.clone()] {
        owner.record(Effect::Tree { path: dir.clone() }).map_err(Error::of)?;
        files::make_dir(&dir)?;
    }
    for (dir, mode) in [("upper", 0o755), ("work", 0o700)] {
        let dir = state.join(dir);
        let made = fs::DirBuilder::new().mode(mode).create(&dir);
        made.map_err(|e| Error::internal(format!("cannot create {}: {e}", dir.display())))?;
    }
    if node.handlers.is_shim(&pod.record.handler) {
        owner.record(Effect::Mount { path: bundle.join("rootfs") }).map_err(Error::of)?;
    }
    built.furnish(owner)?;
    files::write_json(&bundle.join("config.json"), &built.spec)?;
    let path = built.spec.linux.as_ref().map_or("", |linux| &linux.cgroups_path);
    let cgroup = match path == pod.record.cgroup.child(&node.place.name, id) {
        true => pod.record.cgroup.child_dir(&node.place.name, id),
        false => cgroup::dir_of(path)?,
    };
    if let Parent::Cgroupfs { path } = &pod.record.cgroup
        && path == Path::new(&node.place.name)
    {
        node.share_cgroup(owner)?;
    }
    owner.record(Effect::Cgroup { path: cgroup.clone() }).map_err(Error::of)?;
    let record = Record {
        id: id.to_owned(),
        pod: pod.id().to_owned(),
        created: clock::now(),
        image_id: image.id.clone(),
        image_ref: image.reference.clone(),
        layers: image.layers.clone(),
        log: log_path(pod, &config),
        image_name: image.name.clone(),
        mounted_images: built.mounted_images(),
        mounted_layers: built.mounted_layers(),
        user: built.user(),
        stop_signal: built.stop_signal.0,
        signal: built.stop_signal.1.into(),
        cgroup,
        boot: node.boot.clone(),
        config,
    };
    if let Some(dir) = record.log.as_deref().and_then(Path::parent) {
        fs::create_dir_all(dir).map_err(|e| {
            Error::internal(format!("cannot create the log's directory {}: {e}", dir.display()))
        })?;
    }
    let container = Container::new(record);
    if let Some(limits) = beside.limits {
        let limits =
            super::update::merge(container.resources().unwrap_or_default(), &nri::known_to_cri(&limits));
        files::write_json(&state.join("resources.json"), &limits)?;
        container.set_resources(limits);
    }
    files::write_json(&state.join(super::RECORD), &container.record)?;
    Ok((container, beside.others))
}

/// CDI devices that plugins want.
fn add_devices(names: &[String], spec: &mut Spec, user_namespace: bool) -> Result<(), Error> {
    if names.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = names.iter().map(|name| (name.clone(), "CDI_devices".to_owned())).collect();
    let rules = &mut spec.linux.get_or_insert_default().resources.get_or_insert_default().devices;
    let mut devices = spec::Devices { nodes: Vec::new(), rules: std::mem::take(rules) };
    cdi::apply(&cdi::resolve(&names, &cdi::dirs())?, spec, &mut devices)?;
    let there = |path: &str| devices.nodes.iter().any(|node| node.device.path == path);
    spec.linux.get_or_insert_default().devices.retain(|old| !there(&old.path));
    devices.put(spec, user_namespace);
    Ok(())
}

fn log_path(pod: &Pod, config: &ContainerConfig) -> Option<PathBuf> {
    let directory = &pod.record.config.log_directory;
    (!directory.is_empty() && !config.log_path.is_empty())
        .then(|| PathBuf::from(directory).join(&config.log_path))
}
