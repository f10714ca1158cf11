//! StopContainer: the program has ended when this returns.

use std::sync::Arc;
use std::time::Duration;

use shim::protocol::{Code, STOP, StopRequest};

use super::Container;
use crate::contract::Error;
use crate::contract::v1::ContainerState;
use crate::plugin::node::Node;
use crate::plugin::pod::Pod;

/// How long after a container's last moment its shim may take to tell of its end.
const STUCK: Duration = Duration::from_secs(60);

impl Node {
    /// Ends a container: its stop signal, and SIGKILL after `timeout`. One that is not there, or has ended, is done.
    pub(crate) async fn stop_container(self: &Arc<Self>, id: &str, timeout: Duration) -> Result<(), Error> {
        match self.state.container(id) {
            Ok(container) => {
                self.stop_one(&container, timeout).await?;
                self.tell_stopped(&container).await;
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Kills all that runs in a pod.
    pub(crate) async fn kill_containers(self: &Arc<Self>, pod: &Pod) -> Result<(), Error> {
        let stops: Vec<_> = self
            .state
            .containers_of(pod.id())
            .into_iter()
            .filter(|c| c.state() == ContainerState::ContainerRunning)
            .map(|container| {
                let node = Arc::clone(self);
                tokio::spawn(async move {
                    node.stop_one(&container, Duration::ZERO).await?;
                    node.tell_stopped(&container).await;
                    Ok(())
                })
            })
            .collect();
        let mut first = Ok(());
        for stop in stops {
            let stopped = stop.await.map_err(|e| Error::internal(format!("cannot stop a container: {e}")));
            first = first.and(stopped.and_then(|result| result));
        }
        first
    }

    /// Tells plugins that a container has ended, if it has and they have not heard of it.
    async fn tell_stopped(self: &Arc<Self>, container: &Arc<Container>) {
        if container.state() == ContainerState::ContainerExited {
            let _turn = container.turn.lock().await;
            self.tell_stopped_in_turn(container).await;
        }
    }

    /// The same for whoever has the container's turn.
    pub(super) async fn tell_stopped_in_turn(self: &Arc<Self>, container: &Arc<Container>) {
        let Ok(pod) = self.state.pod(&container.record.pod) else { return };
        let others = {
            let _entered = self.nri.enter().await;
            self.nri.stop_container(&pod.record, container).await
        };
        if let Err(error) = self.change_others(others).await {
            self.log(&format!("container {}: {error}", container.id()));
        }
    }

    /// The same, without waiting for it.
    pub(crate) fn tell_stopped_soon(self: &Arc<Self>, container: &Arc<Container>) {
        if self.nri.hears_stops() {
            let (node, container) = (Arc::clone(self), Arc::clone(container));
            tokio::spawn(async move { node.tell_stopped(&container).await });
        }
    }

    pub(super) async fn stop_one(
        self: &Arc<Self>,
        container: &Arc<Container>,
        timeout: Duration,
    ) -> Result<(), Error> {
        if container.state() != ContainerState::ContainerRunning {
            return Ok(());
        }
        let Ok(shim) = self.state.pod(&container.record.pod).and_then(|pod| pod.shim()) else {
            self.container_lost(container).await;
            return Ok(());
        };
        const SIGKILL: i32 = 9;
        let request = StopRequest {
            container: container.id().to_owned(),
            signal: if timeout.is_zero() { SIGKILL } else { container.record.stop_signal },
            timeout: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        };
        // The kernel may take its time with a process that is killed; a shim that says nothing at all is stuck.
        match shim.call_within(timeout.saturating_add(STUCK), &STOP, &request).await {
            Ok(exited) => self.container_exited(container, &exited),
            // It ended, and was forgotten, meanwhile.
            Err(error) if error.code() == Some(Code::NotFound as i32) => self.container_lost(container).await,
            // Whoever watches the shim settles what ran in it.
            Err(error) if error.is_gone() && container.state() != ContainerState::ContainerRunning => {}
            Err(error) => {
                return Err(Error::internal(format!("cannot stop container {}: {error}", container.id())));
            }
        }
        Ok(())
    }
}
