//! CreateSnapshot and DeleteSnapshot.

use std::collections::BTreeMap;
use std::path::PathBuf;

use grpc::{Code, Failure};

use crate::contract::v1::{
    CreateSnapshotRequest, CreateSnapshotResponse, DeleteSnapshotRequest, DeleteSnapshotResponse,
    Snapshot as Told, Timestamp,
};
use crate::plugin::backend::Cut;
use crate::plugin::driver::Driver;
use crate::plugin::pool::record::{FORMAT, Snapshot};
use crate::plugin::text;

/// A snapshot as the wire tells it.
pub(in crate::plugin) fn told(snapshot: &Snapshot) -> Told {
    Told {
        // Who asks for a copy is held to this (external-provisioner): a claim of what the volume was asked for is to do.
        size_bytes: i64::try_from(snapshot.volume.least_copy()).unwrap_or(i64::MAX),
        snapshot_id: snapshot.id.clone(),
        source_volume_id: snapshot.volume.id.clone(),
        creation_time: Some(time(snapshot.created)),
        ready_to_use: true,
        group_snapshot_id: snapshot.group.clone(),
    }
}

/// Nanoseconds since 1970 as the wire tells them.
pub(in crate::plugin) fn time(nanoseconds: i64) -> Timestamp {
    const SECOND: i64 = 1_000_000_000;
    let nanos = i32::try_from(nanoseconds.rem_euclid(SECOND)).unwrap_or(0);
    Timestamp { seconds: nanoseconds.div_euclid(SECOND), nanos }
}

/// Refuses what no snapshot has.
pub(in crate::plugin) fn no_parameters(parameters: &BTreeMap<String, String>) -> Result<(), Failure> {
    match parameters.keys().find(|key| !key.starts_with("csi.storage.k8s.io/")) {
        Some(key) => {
            let message = "is not known to this driver, whose snapshots have no parameters; leave it out";
            Err(Failure::invalid(format!("parameters[{key}]"), message))
        }
        None => Ok(()),
    }
}

pub(super) fn create(
    driver: &Driver,
    request: &CreateSnapshotRequest,
) -> Result<CreateSnapshotResponse, Failure> {
    let _turn = driver.turns.alone(&format!("snapshot {}", request.name))?;
    no_parameters(&request.parameters)?;
    let source = &request.source_volume_id;
    if let Some((_, kept)) = driver.find(|pool| pool.snapshot_named(&request.name)) {
        if kept.record.volume.id != *source {
            let has = &kept.record.volume.id;
            let message = format!("snapshot {:?} is there, of volume {has}: take another name", request.name);
            return Err(Failure::exists(message));
        }
        return Ok(CreateSnapshotResponse { snapshot: Some(told(&kept.record)) });
    }
    let _stays = driver.turns.together(source)?;
    let (pool, kept) = driver.volume(source)?;
    let backend = pool.backend_of(&kept.record)?;
    let held = backend.held(&kept.place)?;
    let reserved = pool.reserve(held)?;
    let snapshot = Snapshot {
        format: FORMAT,
        id: format!("{}-snapshot-{}", pool.name, text::random()?),
        name: request.name.clone(),
        volume: kept.record.clone(),
        created: text::now(),
        group: String::new(),
        held,
    };
    let used = driver.uses.of(source);
    let root = used.as_ref().and_then(|used| used.root());
    let made = pool.add_snapshots(reserved, vec![snapshot], None, |backend, places: &[PathBuf]| {
        let cuts: Vec<Cut<'_>> =
            places.iter().map(|to| Cut { volume: &kept.record, from: &kept.place, root, to }).collect();
        backend.snapshot(&cuts)
    })?;
    let made = made.first().ok_or_else(|| Failure::internal("no snapshot came to be"))?;
    Ok(CreateSnapshotResponse { snapshot: Some(told(&made.record)) })
}

pub(super) fn delete(
    driver: &Driver,
    request: &DeleteSnapshotRequest,
) -> Result<DeleteSnapshotResponse, Failure> {
    let id = &request.snapshot_id;
    let _turn = driver.turns.alone(id)?;
    let (pool, kept) = match driver.snapshot(id) {
        Err(error) if error.is_not_found() => {
            driver.sweep();
            return Ok(DeleteSnapshotResponse {});
        }
        found => found?,
    };
    if !kept.record.group.is_empty() {
        let message = format!("snapshot {id} goes with its group {}: delete that", kept.record.group);
        return Err(Failure { code: Code::InvalidArgument, field: Some("snapshot_id".into()), message });
    }
    pool.remove_snapshot(id)?;
    Ok(DeleteSnapshotResponse {})
}
