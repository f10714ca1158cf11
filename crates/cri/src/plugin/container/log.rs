//! ReopenContainerLog: from here on into a new file, after the old one was moved away.

use std::sync::Arc;

use shim::protocol::{ContainerRequest, REOPEN_LOG};

use crate::contract::Error;
use crate::plugin::node::Node;

impl Node {
    /// Opens a running container's log anew.
    pub(crate) async fn reopen_log(self: &Arc<Self>, id: &str) -> Result<(), Error> {
        let container = self.state.container(id)?;
        container.must_run()?;
        let shim = self.state.pod(&container.record.pod)?.shim()?;
        shim.call(&REOPEN_LOG, &ContainerRequest { container: container.id().to_owned() }).await?;
        Ok(())
    }
}
