//! What of pods fills the machine and is not needed: logs that are too large, images that nobody uses.

mod images;
pub(crate) mod links;
mod logs;

use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;

pub(crate) use images::{Images, disk, image_disk};
pub(crate) use logs::remove as remove_log;

/// How often it is looked whether images have to go.
const IMAGES: Duration = Duration::from_secs(300);

/// Collects, for ever.
pub(crate) async fn keep(agent: &Arc<Agent>) -> ! {
    let logs = async {
        loop {
            tokio::time::sleep(agent.setup.limits.look).await;
            logs::rotate(agent).await;
        }
    };
    let images = async {
        loop {
            agent.images.collect(agent).await;
            tokio::time::sleep(IMAGES.min(agent.setup.limits.look * 30)).await;
        }
    };
    tokio::select! {
        never = logs => never,
        never = images => never,
    }
}
