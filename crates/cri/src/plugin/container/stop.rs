//! StopContainer: the program has ended when this returns.

use std::sync::Arc;
use std::time::Duration;

use shim::protocol::{Code, STOP, StopRequest};

use super::Container;
use crate::contract::Error;
use crate::contract::v1::ContainerState;
use crate::plugin::node::Node;
use crate::plugin::pod::Pod;

impl Node {
    /// Ends a container: its stop signal, and SIGKILL after `timeout`. One that is not there, or has ended, is done.
    pub(crate) async fn stop_container(self: &Arc<Self>, id: &str, timeout: Duration) -> Result<(), Error> {
        match self.state.container(id) {
            Ok(container) => self.stop_one(&container, timeout).await,
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
                tokio::spawn(async move { node.stop_one(&container, Duration::ZERO).await })
            })
            .collect();
        let mut first = Ok(());
        for stop in stops {
            let stopped = stop.await.map_err(|e| Error::internal(format!("cannot stop a container: {e}")));
            first = first.and(stopped.and_then(|result| result));
        }
        first
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
            self.container_lost(container);
            return Ok(());
        };
        const SIGKILL: i32 = 9;
        let request = StopRequest {
            container: container.id().to_owned(),
            signal: if timeout.is_zero() { SIGKILL } else { container.record.stop_signal },
            timeout: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        };
        match shim.call(&STOP, &request).await {
            Ok(exited) => self.container_exited(container, &exited),
            // It ended, and was forgotten, meanwhile.
            Err(error) if error.code() == Some(Code::NotFound as i32) => self.container_lost(container),
            // Whoever watches the shim settles what ran in it.
            Err(error) if error.is_gone() && container.state() != ContainerState::ContainerRunning => {}
            Err(error) => {
                return Err(Error::internal(format!("cannot stop container {}: {error}", container.id())));
            }
        }
        Ok(())
    }
}
