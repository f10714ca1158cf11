//! RemoveContainer: nothing is left of a container.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ledger::OwnerId;
use shim::protocol::{ContainerRequest, DELETE};

use super::{Container, RECORD};
use crate::contract::Error;
use crate::plugin::node::{Node, blocking};
use crate::plugin::pod::Pod;
use crate::plugin::shims;

impl Node {
    /// Removes a container, a running one too. One that is not there is done.
    pub(crate) async fn remove_container(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let container = match self.state.container(id) {
            Ok(container) => container,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let pod = self.state.pod(&container.record.pod)?;
        let node = Arc::clone(self);
        let work = async move { node.remove_container_of(&pod, &container).await };
        tokio::spawn(work).await.map_err(|e| Error::internal(format!("cannot remove container {id}: {e}")))?
    }

    /// The same for one of a pod that is known.
    pub(crate) async fn remove_container_of(
        self: &Arc<Self>,
        pod: &Arc<Pod>,
        container: &Arc<Container>,
    ) -> Result<(), Error> {
        let _turn = container.turn.lock().await;
        let id = container.id().to_owned();
        if self.state.container(&id).is_err() {
            return Ok(());
        }
        self.stop_one(container, Duration::ZERO).await?;
        self.tell_stopped_in_turn(container).await;
        if let Ok(shim) = pod.shim() {
            // A container that was never started is unknown there.
            let which = ContainerRequest { container: id.clone() };
            let _ = shim.call_within(shims::PATIENCE, &DELETE, &which).await;
        }
        let node = Arc::clone(self);
        let left = blocking(move || remove(&node, &id)).await?;
        if !left.is_empty() {
            return Err(Error::internal(format!(
                "cannot remove container {}: {}",
                container.id(),
                left.join("; ")
            )));
        }
        let _entered = self.nri.enter().await;
        self.state.forget_container(container.id());
        self.layers.retain(|id| id != container.id());
        self.rates.forget(&container.record.cgroup);
        self.nri.remove_container(pod, container).await;
        self.events.container_deleted(container, self.state.pod(&container.record.pod).ok());
        Ok(())
    }
}

fn remove(node: &Node, id: &str) -> Result<Vec<String>, Error> {
    let owner = node.place.ledger.owner(&OwnerId::new(id).map_err(Error::of)?).map_err(Error::of)?;
    // Without its record nobody takes what is half removed for a container.
    let record = node.place.container(id).join(RECORD);
    match fs::remove_file(&record) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Ok(vec![format!("cannot remove {}: {e}", record.display())]);
        }
        _ => {}
    }
    Ok(owner.undo_all().iter().map(ToString::to_string).collect())
}
