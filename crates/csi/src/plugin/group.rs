//! The group controller: snapshots of several volumes as of one moment.

use std::collections::BTreeSet;
use std::path::PathBuf;

use grpc::{Failure, Status};

use super::backend::Cut;
use super::controller::{no_parameters, time, told};
use super::driver::Driver;
use super::pool::Pool;
use super::pool::record::{FORMAT, Group, Snapshot};
use super::{Service, answer, text};
use crate::contract::v1::group_controller_service_capability::rpc;
use crate::contract::v1::*;

impl GroupController for Service {
    async fn group_controller_get_capabilities(
        &self,
        _: GroupControllerGetCapabilitiesRequest,
    ) -> Result<GroupControllerGetCapabilitiesResponse, Status> {
        let capability = GroupControllerServiceCapability::of(rpc::Type::CreateDeleteGetVolumeGroupSnapshot);
        Ok(GroupControllerGetCapabilitiesResponse { capabilities: vec![capability] })
    }

    async fn create_volume_group_snapshot(
        &self,
        request: CreateVolumeGroupSnapshotRequest,
    ) -> Result<CreateVolumeGroupSnapshotResponse, Status> {
        answer(self, move |driver| {
            Ok(CreateVolumeGroupSnapshotResponse { group_snapshot: Some(create(driver, &request)?) })
        })
        .await
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: DeleteVolumeGroupSnapshotRequest,
    ) -> Result<DeleteVolumeGroupSnapshotResponse, Status> {
        answer(self, move |driver| {
            let id = &request.group_snapshot_id;
            let _turn = driver.turns.alone(id)?;
            let (pool, kept) = match driver.group(id) {
                Err(error) if error.is_not_found() => {
                    driver.sweep();
                    return Ok(DeleteVolumeGroupSnapshotResponse {});
                }
                found => found?,
            };
            matches(&kept.record, &request.snapshot_ids)?;
            let members = kept.record.snapshots.iter().map(|member| driver.turns.alone(member));
            let _turns = members.collect::<Result<Vec<_>, _>>()?;
            pool.remove_group(id)?;
            Ok(DeleteVolumeGroupSnapshotResponse {})
        })
        .await
    }

    async fn get_volume_group_snapshot(
        &self,
        request: GetVolumeGroupSnapshotRequest,
    ) -> Result<GetVolumeGroupSnapshotResponse, Status> {
        answer(self, move |driver| {
            let (pool, kept) = driver.group(&request.group_snapshot_id)?;
            matches(&kept.record, &request.snapshot_ids)?;
            Ok(GetVolumeGroupSnapshotResponse { group_snapshot: Some(group(pool, &kept.record)) })
        })
        .await
    }
}

/// Whether the ids that a caller has are those of the group; a caller may not know them.
fn matches(group: &Group, asked: &[String]) -> Result<(), Failure> {
    let (has, asked): (BTreeSet<_>, BTreeSet<_>) = (group.snapshots.iter().collect(), asked.iter().collect());
    if !asked.is_empty() && has != asked {
        let members = group.snapshots.join(", ");
        return Err(Failure::invalid(
            "snapshot_ids",
            format!("are not those of {}: it has {members}", group.id),
        ));
    }
    Ok(())
}

fn group(pool: &Pool, group: &Group) -> VolumeGroupSnapshot {
    let members = group.snapshots.iter().filter_map(|id| pool.snapshot(id));
    VolumeGroupSnapshot {
        group_snapshot_id: group.id.clone(),
        snapshots: members.map(|kept| told(&kept.record)).collect(),
        creation_time: Some(time(group.created)),
        ready_to_use: true,
    }
}

fn create(
    driver: &Driver,
    request: &CreateVolumeGroupSnapshotRequest,
) -> Result<VolumeGroupSnapshot, Failure> {
    let _turn = driver.turns.alone(&format!("group {}", request.name))?;
    no_parameters(&request.parameters)?;
    let sources: BTreeSet<&String> = request.source_volume_ids.iter().collect();
    if let Some((pool, kept)) = driver.find(|pool| pool.group_named(&request.name)) {
        let told = group(pool, &kept.record);
        let has: BTreeSet<&String> =
            told.snapshots.iter().map(|snapshot| &snapshot.source_volume_id).collect();
        if has != sources || kept.record.parameters != request.parameters {
            let message =
                format!("group snapshot {:?} is there, of other volumes: take another name", request.name);
            return Err(Failure::exists(message));
        }
        return Ok(told);
    }
    let _stay = sources.iter().map(|id| driver.turns.together(id)).collect::<Result<Vec<_>, _>>()?;
    let volumes = sources.iter().map(|id| driver.volume(id)).collect::<Result<Vec<_>, _>>()?;
    let Some((pool, first)) = volumes.first() else {
        return Err(Failure::invalid("source_volume_ids", "is empty; it must be set"));
    };
    let backend = pool.backend_of(&first.record)?;
    let fits = |(other, kept): &&(&Pool, std::sync::Arc<super::pool::Kept<super::pool::record::Volume>>)| {
        other.name == pool.name && kept.record.backend == first.record.backend
    };
    if !volumes.iter().all(|volume| fits(&volume)) {
        let message = "are of several pools or backends, and nothing can be cut in those at one moment";
        return Err(Failure { field: Some("source_volume_ids".into()), ..Failure::precondition(message) });
    }
    let record = Group {
        format: FORMAT,
        id: format!("{}-group-{}", pool.name, text::random()?),
        name: request.name.clone(),
        snapshots: Vec::new(),
        parameters: request.parameters.clone(),
        created: text::now(),
    };
    let mut members = Vec::new();
    let mut sum = 0;
    for (number, (_, kept)) in volumes.iter().enumerate() {
        let held = backend.held(&kept.place)?;
        sum += held;
        members.push(Snapshot {
            format: FORMAT,
            id: format!("{}-snapshot-{}", pool.name, text::random()?),
            name: format!("{}/{number}", request.name),
            volume: kept.record.clone(),
            created: record.created,
            group: record.id.clone(),
            held,
        });
    }
    let record = Group { snapshots: members.iter().map(|member| member.id.clone()).collect(), ..record };
    let reserved = pool.reserve(sum)?;
    let used: Vec<_> = volumes.iter().map(|(_, kept)| driver.uses.of(&kept.record.id)).collect();
    pool.add_snapshots(reserved, members, Some(record.clone()), |backend, places: &[PathBuf]| {
        let cuts = volumes.iter().zip(&used).zip(places);
        let cuts: Vec<Cut<'_>> = cuts
            .map(|(((_, kept), used), to)| Cut {
                volume: &kept.record,
                from: &kept.place,
                root: used.as_ref().and_then(|used| used.root()),
                to,
            })
            .collect();
        backend.snapshot(&cuts)
    })?;
    Ok(group(pool, &record))
}
