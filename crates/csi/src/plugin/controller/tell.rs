//! Records as the wire tells them.

use std::collections::BTreeMap;

use crate::contract::v1::volume_content_source::{SnapshotSource, Type as Content, VolumeSource};
use crate::contract::v1::{Topology, Volume, VolumeCondition, VolumeContentSource};
use crate::plugin::driver::{Driver, TOPOLOGY};
use crate::plugin::pool::record::{From, Volume as Record};
use crate::plugin::pool::{Kept, Pool};

/// What the driver says of a volume to whoever uses it. The same for as long as the volume is there.
pub(super) fn context(pool: &Pool, volume: &Record) -> BTreeMap<String, String> {
    BTreeMap::from([("backend".to_owned(), volume.backend.clone()), ("pool".to_owned(), pool.name.clone())])
}

pub(super) fn volume(driver: &Driver, pool: &Pool, volume: &Record) -> Volume {
    let source = volume.source.as_ref().map(|source| match source {
        From::Snapshot(id) => Content::Snapshot(SnapshotSource { snapshot_id: id.clone() }),
        From::Volume(id) => Content::Volume(VolumeSource { volume_id: id.clone() }),
    });
    Volume {
        capacity_bytes: i64::try_from(volume.capacity).unwrap_or(i64::MAX),
        volume_id: volume.id.clone(),
        volume_context: context(pool, volume),
        content_source: source.map(|source| VolumeContentSource { r#type: Some(source) }),
        accessible_topology: vec![here(driver)],
    }
}

/// This node.
pub(in crate::plugin) fn here(driver: &Driver) -> Topology {
    Topology { segments: BTreeMap::from([(TOPOLOGY.to_owned(), driver.node.clone())]) }
}

/// How a volume is.
pub(in crate::plugin) fn condition(driver: &Driver, pool: &Pool, kept: &Kept<Record>) -> VolumeCondition {
    let volume = &kept.record;
    let used = driver.uses.of(&volume.id);
    let root = used.as_ref().and_then(|used| used.root());
    let ailment = pool.backend_of(volume).and_then(|backend| backend.ailment(&kept.place, volume, root));
    match ailment {
        Ok(None) => VolumeCondition { abnormal: false, message: "nothing is wrong with it".into() },
        Ok(Some(message)) => VolumeCondition { abnormal: true, message },
        Err(error) => VolumeCondition { abnormal: true, message: error.to_string() },
    }
}
