//! NodeGetVolumeStats.

use std::os::unix::fs::MetadataExt as _;

use grpc::Failure;

use super::not_at;
use super::uses::Used;
use crate::contract::v1::volume_usage::Unit;
use crate::contract::v1::{NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, VolumeUsage};
use crate::plugin::controller::condition;
use crate::plugin::driver::Driver;

pub(super) fn stats(
    driver: &Driver,
    request: &NodeGetVolumeStatsRequest,
) -> Result<NodeGetVolumeStatsResponse, Failure> {
    let id = &request.volume_id;
    let (pool, kept) = driver.volume(id)?;
    let volume = &kept.record;
    let used = driver.uses.of(id).ok_or_else(|| not_at(id, &request.volume_path))?;
    if !used.is_at(&request.volume_path) && !is_same_device(&used, &request.volume_path) {
        return Err(not_at(id, &request.volume_path));
    }
    let usage = pool.backend_of(volume)?.usage(&kept.place, volume, used.root())?;
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut told = vec![VolumeUsage {
        available: number(usage.available),
        total: number(usage.total),
        used: number(usage.used),
        unit: Unit::Bytes.into(),
    }];
    if usage.inodes > 0 {
        told.push(VolumeUsage {
            available: number(usage.inodes.saturating_sub(usage.inodes_used)),
            total: number(usage.inodes),
            used: number(usage.inodes_used),
            unit: Unit::Inodes.into(),
        });
    }
    Ok(NodeGetVolumeStatsResponse { usage: told, volume_condition: Some(condition(driver, pool, &kept)) })
}

/// A kubelet asks about a block device where it has mounted it a second time.
fn is_same_device(used: &Used, path: &str) -> bool {
    let device = |path: &std::path::Path| {
        std::fs::metadata(path).map(|there| there.rdev()).ok().filter(|&device| device > 0)
    };
    let Some(asked) = device(std::path::Path::new(path)) else { return false };
    used.published.iter().any(|at| at.how.block && device(&at.path) == Some(asked))
}
