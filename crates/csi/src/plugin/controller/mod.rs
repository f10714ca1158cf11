//! The controller service: volumes and snapshots.

mod create;
mod list;
mod snapshot;
mod tell;

use std::sync::Arc;

use grpc::{Code, Failure, Status};

pub(super) use snapshot::{no_parameters, time, told};

use super::backend::Wish;
use super::driver::Driver;
use super::parameters;
use super::pool::Kept;
use super::pool::record::Volume as Record;
use super::{Service, answer};
use crate::contract::v1::controller_service_capability::rpc;
use crate::contract::v1::*;

impl Controller for Service {
    async fn create_volume(&self, request: CreateVolumeRequest) -> Result<CreateVolumeResponse, Status> {
        answer(self, move |driver| create::create(driver, &request)).await
    }

    async fn delete_volume(&self, request: DeleteVolumeRequest) -> Result<DeleteVolumeResponse, Status> {
        answer(self, move |driver| {
            delete(driver, &request.volume_id)?;
            Ok(DeleteVolumeResponse {})
        })
        .await
    }

    async fn validate_volume_capabilities(
        &self,
        request: ValidateVolumeCapabilitiesRequest,
    ) -> Result<ValidateVolumeCapabilitiesResponse, Status> {
        answer(self, move |driver| validate(driver, request)).await
    }

    async fn list_volumes(&self, request: ListVolumesRequest) -> Result<ListVolumesResponse, Status> {
        answer(self, move |driver| list::volumes(driver, &request)).await
    }

    async fn get_capacity(&self, request: GetCapacityRequest) -> Result<GetCapacityResponse, Status> {
        answer(self, move |driver| capacity(driver, &request)).await
    }

    async fn controller_get_capabilities(
        &self,
        _: ControllerGetCapabilitiesRequest,
    ) -> Result<ControllerGetCapabilitiesResponse, Status> {
        use rpc::Type::{
            CloneVolume, CreateDeleteSnapshot, CreateDeleteVolume, ExpandVolume, GetCapacity, GetSnapshot,
            GetVolume, ListSnapshots, ListVolumes, ModifyVolume, SingleNodeMultiWriter, VolumeCondition,
        };
        let all = [
            CreateDeleteVolume,
            ListVolumes,
            GetCapacity,
            CreateDeleteSnapshot,
            ListSnapshots,
            GetSnapshot,
            CloneVolume,
            ExpandVolume,
            VolumeCondition,
            GetVolume,
            SingleNodeMultiWriter,
            ModifyVolume,
        ];
        let capabilities = all.map(ControllerServiceCapability::of).to_vec();
        Ok(ControllerGetCapabilitiesResponse { capabilities })
    }

    async fn create_snapshot(
        &self,
        request: CreateSnapshotRequest,
    ) -> Result<CreateSnapshotResponse, Status> {
        answer(self, move |driver| snapshot::create(driver, &request)).await
    }

    async fn delete_snapshot(
        &self,
        request: DeleteSnapshotRequest,
    ) -> Result<DeleteSnapshotResponse, Status> {
        answer(self, move |driver| snapshot::delete(driver, &request)).await
    }

    async fn list_snapshots(&self, request: ListSnapshotsRequest) -> Result<ListSnapshotsResponse, Status> {
        answer(self, move |driver| list::snapshots(driver, &request)).await
    }

    async fn get_snapshot(&self, request: GetSnapshotRequest) -> Result<GetSnapshotResponse, Status> {
        answer(self, move |driver| {
            let (_, kept) = driver.snapshot(&request.snapshot_id)?;
            Ok(GetSnapshotResponse { snapshot: Some(told(&kept.record)) })
        })
        .await
    }

    async fn controller_expand_volume(
        &self,
        request: ControllerExpandVolumeRequest,
    ) -> Result<ControllerExpandVolumeResponse, Status> {
        answer(self, move |driver| expand(driver, &request)).await
    }

    async fn controller_get_volume(
        &self,
        request: ControllerGetVolumeRequest,
    ) -> Result<ControllerGetVolumeResponse, Status> {
        answer(self, move |driver| {
            let (pool, kept) = driver.volume(&request.volume_id)?;
            let condition = condition(driver, pool, &kept);
            let status = controller_get_volume_response::VolumeStatus {
                volume_condition: Some(condition),
                ..Default::default()
            };
            Ok(ControllerGetVolumeResponse {
                volume: Some(tell::volume(driver, pool, &kept.record)),
                status: Some(status),
            })
        })
        .await
    }

    async fn controller_modify_volume(
        &self,
        request: ControllerModifyVolumeRequest,
    ) -> Result<ControllerModifyVolumeResponse, Status> {
        answer(self, move |driver| {
            modify(driver, &request)?;
            Ok(ControllerModifyVolumeResponse {})
        })
        .await
    }
}

pub(super) use create::ephemeral;
pub(super) use tell::{condition, here};

/// Deletes a volume that nobody uses. Snapshots of it stay.
fn delete(driver: &Driver, id: &str) -> Result<(), Failure> {
    let _turn = driver.turn(id)?;
    let (pool, kept) = match driver.volume(id) {
        Err(error) if error.is_not_found() => {
            driver.sweep();
            return Ok(());
        }
        found => found?,
    };
    if parameters::is_protected(&kept.record) {
        let hint = "modify it with protected=\"false\" first";
        return Err(Failure::precondition(format!("volume {id} is protected: {hint}")));
    }
    if let Some(used) = driver.uses.of(id) {
        let message =
            format!("volume {id} is in use at {}: unpublish and unstage it first", used.places().join(", "));
        return Err(Failure::precondition(message));
    }
    pool.remove_volume(id)
}

fn validate(
    driver: &Driver,
    request: ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse, Failure> {
    let (pool, kept) = driver.volume(&request.volume_id)?;
    let refused = |message: String| ValidateVolumeCapabilitiesResponse { confirmed: None, message };
    if let Err(error) = is_usable(&kept.record, &request.volume_capabilities) {
        return Ok(refused(error.to_string()));
    }
    let volume = &kept.record;
    let context = tell::context(pool, volume);
    if !request.volume_context.is_empty() && request.volume_context != context {
        return Ok(refused("volume_context: is not this volume's".into()));
    }
    let is = |key: &String, value: &String| {
        let said = [&volume.mutable, &volume.parameters, &context].into_iter().find_map(|all| all.get(key));
        said == Some(value) || parameters::is_of_others(key)
    };
    let asked = request.parameters.iter().chain(&request.mutable_parameters);
    if let Some((key, _)) = asked.clone().find(|(key, value)| !is(key, value)) {
        return Ok(refused(format!("parameters[{key}]: is not as this volume has it")));
    }
    Ok(ValidateVolumeCapabilitiesResponse {
        confirmed: Some(validate_volume_capabilities_response::Confirmed {
            volume_context: request.volume_context,
            volume_capabilities: request.volume_capabilities,
            parameters: request.parameters,
            mutable_parameters: request.mutable_parameters,
        }),
        message: String::new(),
    })
}

/// Refuses ways of using a volume that it does not have.
pub(super) fn is_usable(volume: &Record, capabilities: &[VolumeCapability]) -> Result<(), Failure> {
    let (block, fs_type) = parameters::shape(capabilities)?;
    let is = |what: &str| format!("volume {} is {what}", volume.id);
    let refused = |message: String| Failure {
        field: Some("volume_capability".into()),
        ..Failure::precondition(message)
    };
    if block != volume.block {
        return Err(refused(is(if volume.block {
            "a block device and no file system"
        } else {
            "a file system and no block device"
        })));
    }
    // A backend without file systems of its own has that of its pool.
    if !fs_type.is_empty() && !volume.fs_type.is_empty() && fs_type != volume.fs_type {
        return Err(refused(is(&format!("a file system of type {}, not {fs_type}", volume.fs_type))));
    }
    Ok(())
}

/// How much can be made of new volumes of a class.
fn capacity(driver: &Driver, request: &GetCapacityRequest) -> Result<GetCapacityResponse, Failure> {
    let nothing = GetCapacityResponse::default();
    if request.accessible_topology.as_ref().is_some_and(|topology| !parameters::is_here(driver, topology)) {
        return Ok(nothing);
    }
    let place =
        parameters::place(driver, &request.parameters, &Default::default(), &request.volume_capabilities)?;
    let most = place.backend.fits(&place.wish, place.pool.available()?);
    let most = i64::try_from(most - most % 4096).unwrap_or(i64::MAX);
    Ok(GetCapacityResponse {
        available_capacity: most,
        maximum_volume_size: Some(Int64Value { value: most }),
        minimum_volume_size: i64::try_from(place.backend.least(&place.wish))
            .ok()
            .map(|value| Int64Value { value }),
    })
}

/// Makes a volume larger, with its file system where that is in use.
fn expand(
    driver: &Driver,
    request: &ControllerExpandVolumeRequest,
) -> Result<ControllerExpandVolumeResponse, Failure> {
    let id = &request.volume_id;
    let _turn = driver.turn(id)?;
    let (pool, kept) = driver.volume(id)?;
    let volume = &kept.record;
    if let Some(capability) = &request.volume_capability {
        is_usable(volume, std::slice::from_ref(capability))
            .map_err(|error| Failure { code: Code::InvalidArgument, ..error })?;
    }
    let done = |capacity: u64| ControllerExpandVolumeResponse {
        capacity_bytes: i64::try_from(capacity).unwrap_or(i64::MAX),
        node_expansion_required: false,
    };
    let range = request.capacity_range.unwrap_or_default();
    let backend = pool.backend_of(volume)?;
    let wish = Wish::of(volume);
    // Without a size it is as large as it is.
    let capacity = match range.required_bytes {
        0 => volume.capacity,
        _ => parameters::capacity(Some(&range), backend.least(&wish), None)?,
    };
    if capacity <= volume.capacity {
        if range.limit_bytes > 0 && volume.capacity > u64::try_from(range.limit_bytes).unwrap_or(0) {
            let message =
                format!("volume {id} has {} bytes already, and cannot become smaller", volume.capacity);
            return Err(Failure {
                field: Some("capacity_range.limit_bytes".into()),
                ..Failure::new(Code::OutOfRange, message)
            });
        }
        return Ok(done(volume.capacity));
    }
    let taken = backend.taken(&wish, capacity);
    let reserved = pool.reserve(taken.saturating_sub(volume.taken)).map_err(|error| match error.code {
        // No other node has this volume: it is not to be tried elsewhere.
        Code::ResourceExhausted => Failure { code: Code::OutOfRange, ..error },
        _ => error,
    })?;
    let used = driver.uses.of(id);
    backend.expand(&kept.place, volume, capacity, used.as_ref().and_then(|used| used.root()))?;
    let asked = parameters::asked(Some(&range), capacity);
    pool.change_volume(Some(reserved), &kept, Record { capacity, asked, taken, ..volume.clone() })?;
    Ok(done(capacity))
}

/// Changes what may change of a volume: all of it, or nothing.
fn modify(driver: &Driver, request: &ControllerModifyVolumeRequest) -> Result<(), Failure> {
    let id = &request.volume_id;
    let _turn = driver.turn(id)?;
    let (pool, kept) = driver.volume(id)?;
    let backend = pool.backend_of(&kept.record)?;
    let mut volume = kept.record.clone();
    volume.mutable.extend(request.mutable_parameters.clone());
    volume.parameters.retain(|key, _| !request.mutable_parameters.contains_key(key));
    parameters::accepted(backend, &Wish::of(&volume))?;
    if volume == kept.record {
        return Ok(());
    }
    let used = driver.uses.of(id);
    backend.modify(&kept.place, &volume, used.as_ref().and_then(|used| used.root()))?;
    pool.change_volume(None, &kept, volume).map(drop)
}

/// A record that is shared.
type Shared = Arc<Kept<Record>>;
