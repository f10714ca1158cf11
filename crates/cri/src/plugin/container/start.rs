//! StartContainer: the program runs when this returns.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shim::protocol::{CREATE, Code, ContainerRequest, CreateRequest, DELETE, Rootfs, START, Started};

use super::{Container, Key, spec};
use crate::contract::Error;
use crate::contract::v1::ContainerState;
use crate::plugin::cgroup::kill_all;
use crate::plugin::clock;
use crate::plugin::node::{Node, blocking};
use crate::plugin::pod::Pod;
use crate::plugin::shims::{self, Connection};

/// How long a shim may take to make or to start a container: what a kubelet waits for.
const PATIENCE: Duration = Duration::from_secs(120);

impl Node {
    /// Starts a container that was created.
    pub(crate) async fn start_container(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let container = self.state.container(id)?;
        self.containers_in_making.taken(&Key::of(&container.record.pod, &container.record.config));
        let node = Arc::clone(self);
        // A caller that leaves does not end it half-way.
        let work = async move {
            let doing = node.begin_for(&container, "StartContainer");
            let started = start(&node, &container).await;
            if let Some(doing) = doing {
                doing.end(&started, |()| container.id().to_owned());
            }
            started
        };
        tokio::spawn(work).await.map_err(|e| Error::internal(format!("cannot start container {id}: {e}")))?
    }
}

async fn start(node: &Arc<Node>, container: &Arc<Container>) -> Result<(), Error> {
    let _turn = container.turn.lock().await;
    let id = container.id();
    match container.state() {
        ContainerState::ContainerCreated => {}
        // The answer was lost on its way to a caller that asks again.
        ContainerState::ContainerRunning => return Ok(()),
        other => {
            let state = other.as_str_name();
            return Err(Error::precondition(format!(
                "cannot start container {id}: its state is {state} (create another)"
            )));
        }
    }
    let pod = node.state.pod(&container.record.pod)?;
    let shim = pod.shim()?;
    // It may have ended since this container was made.
    spec::target(node, &pod, &container.record.config)?;
    let which = ContainerRequest { container: id.to_owned() };
    let _entered = node.nri.enter().await;
    let created = {
        let mut at_shim = container.limits.lock().await;
        let created = create(&shim, &which, &request(node, &pod, container)?).await;
        *at_shim = created.is_ok();
        created
    };
    if created.is_ok()
        && let Err(error) = node.nri.start_container(&pod, container).await
    {
        forget(&shim, &which, container).await;
        fail(node, container, 128, &error.message).await;
        return Err(error);
    }
    let started = match created {
        Ok(created) => {
            node.warn(id, &created.warnings);
            shim.call_within(PATIENCE, &START, &which).await
        }
        Err(error) => Err(error),
    };
    match started {
        Ok(Started { pid, warnings, .. }) => {
            node.warn(id, &warnings);
            if container.set_running(pid, clock::now()) {
                node.events.container_started(container);
            }
            node.nri.started_container(&pod, container).await;
            Ok(())
        }
        Err(error) => {
            forget(&shim, &which, container).await;
            Err(failed(node, container, &error).await)
        }
    }
}

/// Has the shim forget what there is of it; the cgroup is the ledger's. Where the shim does not (its start may go on beyond our
/// patience) nothing of it is to run: it is told as one that has ended.
async fn forget(shim: &Connection, which: &ContainerRequest, container: &Arc<Container>) {
    let forgotten = shim.call_within(shims::PATIENCE, &DELETE, which).await;
    if forgotten.is_err_and(|error| error.code() != Some(Code::NotFound as i32)) {
        let cgroup = container.cgroup();
        let _ = blocking(move || kill_all(&[cgroup])).await;
    }
}

/// Makes it at the shim, where nothing runs yet.
async fn create(
    shim: &Connection,
    which: &ContainerRequest,
    request: &CreateRequest,
) -> Result<Started, shims::Error> {
    let created = shim.call_within(PATIENCE, &CREATE, request).await;
    match created {
        Err(error) if error.code() == Some(Code::AlreadyExists as i32) => {
            // Another process of this node made it and was killed before it started it. Limits may have changed since.
            let _ = shim.call_within(shims::PATIENCE, &DELETE, which).await;
            shim.call_within(PATIENCE, &CREATE, request).await
        }
        created => created,
    }
}

/// The exit code that the kubelet shows is the one every container tool gives.
async fn failed(node: &Arc<Node>, container: &Arc<Container>, error: &shims::Error) -> Error {
    let code = match error.code() {
        Some(code) if code == Code::NotFound as i32 => 127,
        Some(code) if code == Code::FailedPrecondition as i32 => 126,
        _ => 128,
    };
    let text = format!("cannot start container {}: {error}", container.id());
    fail(node, container, code, &error.to_string()).await;
    match error.is_gone() {
        true => Error::unavailable(text),
        false => Error::internal(text),
    }
}

/// It will never run, and why.
async fn fail(node: &Arc<Node>, container: &Arc<Container>, code: i32, message: &str) {
    // The shim's event of the end may have come first, without the reason.
    let new = container.set_failed(code, message);
    node.remember_failure(container).await;
    if new {
        node.stopped(container);
        node.tell_stopped_soon(container);
    }
}

fn request(node: &Node, pod: &Pod, container: &Container) -> Result<CreateRequest, Error> {
    let record = &container.record;
    let state = node.place.container(&record.id);
    let text = |path: PathBuf| path.display().to_string();
    let lower =
        record.layers.iter().map(|digest| node.images.layer_path(digest)).collect::<Result<_, _>>()?;
    let (uid_mappings, gid_mappings) = pod.id_mappings();
    Ok(CreateRequest {
        id: record.id.clone(),
        bundle: text(node.place.bundle(&record.id)),
        rootfs: Some(Rootfs {
            lower,
            upper: text(state.join("upper")),
            work: text(state.join("work")),
            directory: String::new(),
            uid_mappings,
            gid_mappings,
        }),
        log: record.log.clone().map(text).unwrap_or_default(),
        stdin: record.config.stdin,
        stdin_once: record.config.stdin_once,
        state: text(state),
        ..CreateRequest::default()
    })
}
