//! RemovePodSandbox: nothing is left of a pod.

use std::sync::Arc;

use ledger::OwnerId;

use crate::contract::Error;
use crate::plugin::history::Who;
use crate::plugin::node::{Node, blocking};

impl Node {
    /// Removes a pod with all its containers, running ones too. One that is not there is done.
    pub(crate) async fn remove_pod(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let pod = match self.state.pod(id) {
            Ok(pod) => pod,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        let _turn = pod.turn.lock().await;
        self.clear_pod(&pod).await?;
        for container in self.state.containers_of(pod.id()) {
            self.remove_container_of(&pod, &container).await?;
        }
        let (ledger, owner) = (self.place.ledger.clone(), OwnerId::new(pod.id()).map_err(Error::of)?);
        let left = blocking(move || Ok(ledger.owner(&owner).map_err(Error::of)?.undo_all())).await?;
        if !left.is_empty() {
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            return Err(Error::internal(format!(
                "cannot remove pod sandbox {}: {}",
                pod.id(),
                left.join("; ")
            )));
        }
        let _entered = self.nri.enter().await;
        self.state.forget_pod(pod.id());
        self.nri.remove_pod(&pod).await;
        self.events.pod_deleted(&pod);
        let who = Who::of(&pod.record.config);
        if !self.state.pods().iter().any(|other| Who::of(&other.record.config) == who) {
            self.history.forget(&who);
        }
        Ok(())
    }
}
