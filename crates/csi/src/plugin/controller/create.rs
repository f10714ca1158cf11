//! CreateVolume.

use std::collections::BTreeMap;
use std::path::Path;

use grpc::{Code, Failure};

use super::tell;
use crate::contract::v1::volume_content_source::Type as Content;
use crate::contract::v1::{CreateVolumeRequest, CreateVolumeResponse};
use crate::plugin::backend::{Backend, Source, Wish};
use crate::plugin::driver::Driver;
use crate::plugin::parameters::{self, Place};
use crate::plugin::pool::record::{FORMAT, From, Volume};
use crate::plugin::pool::{Kept, Pool};
use crate::plugin::text;

/// Makes a volume, or finds the one of the same name.
pub(super) fn create(
    driver: &Driver,
    request: &CreateVolumeRequest,
) -> Result<CreateVolumeResponse, Failure> {
    let _turn = driver.turn(&format!("volume {}", request.name))?;
    parameters::reachable(driver, request.accessibility_requirements.as_ref())?;
    let place = parameters::place(
        driver,
        &request.parameters,
        &request.mutable_parameters,
        &request.volume_capabilities,
    )?;
    if let Some((pool, kept)) = driver.find(|pool| pool.volume_named(&request.name)) {
        same(&kept.record, pool, &place, request)?;
        return Ok(CreateVolumeResponse { volume: Some(tell::volume(driver, pool, &kept.record)) });
    }
    let source = request.volume_content_source.as_ref().and_then(|source| source.r#type.as_ref());
    let volume = match source {
        None => make(driver, request, place, None)?,
        Some(Content::Snapshot(from)) => {
            let _stays = driver.turns.together(&from.snapshot_id)?;
            let (pool, kept) = driver.snapshot(&from.snapshot_id)?;
            let source = Source::Snapshot(&kept.record, &kept.place);
            let origin = Origin {
                pool,
                volume: &kept.record.volume,
                of: From::Snapshot(from.snapshot_id.clone()),
                source,
            };
            make(driver, request, place, Some(origin))?
        }
        Some(Content::Volume(from)) => {
            let _stays = driver.turns.together(&from.volume_id)?;
            let (pool, kept) = driver.volume(&from.volume_id)?;
            let used = driver.uses.of(&from.volume_id);
            let root = used.as_ref().and_then(|used| used.root()).map(Path::to_owned);
            let source = Source::Volume(&kept.record, &kept.place, root.as_deref());
            let origin =
                Origin { pool, volume: &kept.record, of: From::Volume(from.volume_id.clone()), source };
            make(driver, request, place, Some(origin))?
        }
    };
    Ok(CreateVolumeResponse { volume: Some(volume) })
}

/// What a volume begins with.
struct Origin<'a> {
    pool: &'a Pool,
    volume: &'a Volume,
    of: From,
    source: Source<'a>,
}

fn make(
    driver: &Driver,
    request: &CreateVolumeRequest,
    place: Place<'_>,
    origin: Option<Origin<'_>>,
) -> Result<crate::contract::v1::Volume, Failure> {
    let Place { pool, backend, mut wish } = place;
    if let Some(origin) = &origin {
        let from = origin.volume;
        let refused = |message: String| Err(Failure::invalid("volume_content_source", message));
        if origin.pool.name != pool.name || from.backend != backend.name() {
            let is = format!("the backend {} of the pool {:?}", from.backend, origin.pool.name);
            let wanted = format!("{} of {:?} is asked for", backend.name(), pool.name);
            return refused(format!("is in {is}, and {wanted}: name the same pool and backend in the class"));
        }
        if from.block != wish.block || (!wish.fs_type.is_empty() && wish.fs_type != from.fs_type) {
            let what = if from.block { "a block device" } else { "a file system" };
            return refused(format!("is {what} {}; ask for the same", from.fs_type));
        }
        wish.fs_type.clone_from(&from.fs_type);
        parameters::accepted(backend, &wish)?;
    }
    let least = backend.least(&wish);
    let range = request.capacity_range.as_ref();
    let capacity = parameters::capacity(range, least, origin.as_ref().map(|origin| origin.volume.capacity))?;
    let id = format!("{}-{}", pool.name, text::random()?);
    let source = origin.as_ref().map(|origin| origin.of.clone());
    let asked = parameters::asked(range, capacity);
    let record = Volume { name: request.name.clone(), asked, source, ..empty(id, backend, wish, capacity) };
    let reserved = pool.reserve(record.taken)?;
    let kept: std::sync::Arc<Kept<Volume>> =
        pool.add_volume(reserved, record, |backend, place, volume| {
            backend.create(place, volume, origin.map(|origin| origin.source))
        })?;
    Ok(tell::volume(driver, pool, &kept.record))
}

/// A new volume that has no name and begins with nothing.
fn empty(id: String, backend: &dyn Backend, wish: Wish, capacity: u64) -> Volume {
    Volume {
        format: FORMAT,
        id,
        name: String::new(),
        backend: backend.name().to_owned(),
        capacity,
        asked: capacity,
        taken: backend.taken(&wish, capacity),
        block: wish.block,
        fs_type: backend.file_system(&wish),
        parameters: wish.parameters,
        mutable: wish.mutable,
        source: None,
        created: text::now(),
        ephemeral: false,
    }
}

/// Refuses a request for something else than what has its name.
fn same(
    volume: &Volume,
    pool: &Pool,
    place: &Place<'_>,
    request: &CreateVolumeRequest,
) -> Result<(), Failure> {
    let other = |what: &str| {
        Err(Failure::exists(format!(
            "volume {:?} is there, with another {what}: take another name",
            request.name
        )))
    };
    let range = request.capacity_range.as_ref();
    let has = i64::try_from(volume.capacity).unwrap_or(i64::MAX);
    if range
        .is_some_and(|range| range.required_bytes > has || (range.limit_bytes > 0 && range.limit_bytes < has))
    {
        return other("capacity_range");
    }
    if pool.name != place.pool.name || volume.backend != place.backend.name() {
        return other("pool or backend in its parameters");
    }
    let wish = &place.wish;
    if volume.block != wish.block || (!wish.fs_type.is_empty() && wish.fs_type != volume.fs_type) {
        return other("shape in its volume_capabilities");
    }
    // What may change may have changed since.
    let fixed = |all: &BTreeMap<String, String>| {
        let fixed = all.iter().filter(|(key, _)| !volume.mutable.contains_key(*key));
        fixed.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>()
    };
    if fixed(&volume.parameters) != fixed(&wish.parameters) {
        return other("parameters");
    }
    let source = request.volume_content_source.as_ref().and_then(|source| source.r#type.as_ref());
    let source = source.map(|source| match source {
        Content::Snapshot(from) => From::Snapshot(from.snapshot_id.clone()),
        Content::Volume(from) => From::Volume(from.volume_id.clone()),
    });
    if volume.source != source {
        // Something that is not there is no other source.
        return other("volume_content_source");
    }
    Ok(())
}

/// What an ephemeral volume's attributes say.
pub(in crate::plugin) fn ephemeral(id: &str, place: Place<'_>, size: Option<u64>) -> Result<(), Failure> {
    let Place { pool, backend, wish } = place;
    let range = crate::contract::v1::CapacityRange {
        required_bytes: size.map_or(0, |size| i64::try_from(size).unwrap_or(i64::MAX)),
        limit_bytes: 0,
    };
    let capacity = parameters::capacity(Some(&range), backend.least(&wish), None).map_err(|error| {
        Failure { code: Code::InvalidArgument, field: Some("volume_context[size]".into()), ..error }
    })?;
    let record = Volume { ephemeral: true, ..empty(id.to_owned(), backend, wish, capacity) };
    let reserved = pool.reserve(record.taken)?;
    pool.add_volume(reserved, record, |backend, place, volume| backend.create(place, volume, None)).map(drop)
}
