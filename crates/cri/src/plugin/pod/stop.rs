//! StopPodSandbox: nothing runs any more, nothing is held any more; what the pod was stays on record.

use std::sync::Arc;

use ledger::{Effect, OwnerId, Record as _};
use shim::protocol::{Empty, SHUTDOWN};

use super::{Pod, network};
use crate::contract::Error;
use crate::contract::v1::ContainerState;
use crate::plugin::cgroup::kill_all;
use crate::plugin::node::{Node, blocking};
use crate::plugin::shims::PATIENCE;

impl Node {
    /// Stops a pod: its containers are killed, its network is given back, its shim ends. One that is not there, or is
    /// stopped, is done.
    pub(crate) async fn stop_pod(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        match self.state.pod(id) {
            Ok(pod) => {
                let _turn = pod.turn.lock().await;
                self.clear_pod(&pod).await
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets go of all that a pod holds while it is up. Its turn is the caller's.
    pub(crate) async fn clear_pod(self: &Arc<Self>, pod: &Arc<Pod>) -> Result<(), Error> {
        if pod.is_cleared() {
            return Ok(());
        }
        if let Err(error) = self.kill_containers(pod).await {
            // What a stuck shim does not end is ended with it, below.
            self.log(&format!("pod sandbox {}: {error}", pod.id()));
        }
        {
            let _entered = self.nri.enter().await;
            self.nri.stop_pod(pod).await;
        }
        let shim = pod.shim().ok();
        let was_ready = pod.lose_shim();
        if let Some(shim) = shim {
            // One that does not answer is killed by what the ledger has of it.
            let _ = shim.call_within(PATIENCE, &SHUTDOWN, &Empty {}).await;
            self.reap_soon();
        }
        let (node, stopped) = (Arc::clone(self), Arc::clone(pod));
        let cleared = blocking(move || clear(&node, &stopped)).await;
        self.end_rest(pod).await?;
        if was_ready {
            self.events.pod_stopped(pod);
        }
        cleared?;
        pod.set_cleared();
        Ok(())
    }

    /// Ends what still runs of a pod whose shim is gone.
    async fn end_rest(self: &Arc<Self>, pod: &Pod) -> Result<(), Error> {
        let all = self.state.containers_of(pod.id()).into_iter();
        let running: Vec<_> = all.filter(|c| c.state() == ContainerState::ContainerRunning).collect();
        let cgroups: Vec<_> = running.iter().map(|c| c.cgroup()).collect();
        blocking(move || kill_all(&cgroups)).await?;
        for container in running {
            self.container_lost(&container).await;
        }
        Ok(())
    }
}

fn clear(node: &Node, pod: &Pod) -> Result<(), Error> {
    let mut owner =
        node.place.ledger.owner(&OwnerId::new(pod.id()).map_err(Error::of)?).map_err(Error::of)?;
    let mut errors: Vec<String> = Vec::new();
    errors.extend(network::detach(node, &pod.record, &mut owner).err().map(|e| e.to_string()));
    let mut records = owner.records();
    records.reverse();
    for (id, effect) in records {
        let lasting = match &effect {
            Effect::Tree { path } | Effect::File { path } => path.starts_with(&node.place.data),
            _ => false,
        };
        if !lasting {
            errors.extend(owner.undo(id).err().map(|e| e.to_string()));
        }
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Error::internal(format!("cannot stop pod sandbox {}: {}", pod.id(), errors.join("; ")))),
    }
}
