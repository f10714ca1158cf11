//! What a class says: which pool, which backend, and what is the backend's.

use std::collections::BTreeMap;

use grpc::{Code, Failure};

use super::backend::{Backend, Wish};
use super::driver::{Driver, TOPOLOGY};
use super::pool::Pool;
use super::pool::record::Volume;
use super::text;
use crate::contract::v1::volume_capability::AccessType;
use crate::contract::v1::{CapacityRange, Topology, TopologyRequirement, VolumeCapability};

/// Keys of whoever asks, which say nothing to the driver.
const OTHERS: &str = "csi.storage.k8s.io/";
const FS_TYPE: &str = "csi.storage.k8s.io/fstype";
const POOL: &str = "pool";
const BACKEND: &str = "backend";
/// Says that a volume must not be deleted; may change at any time.
const PROTECTED: &str = "protected";
/// What a volume has of which nobody says how large it is.
const DEFAULT: u64 = 1 << 30;
/// Capacities are whole blocks.
const BLOCK: u64 = 4096;

/// Where a volume is to be, and as what.
pub(super) struct Place<'a> {
    pub(super) pool: &'a Pool,
    pub(super) backend: &'a dyn Backend,
    pub(super) wish: Wish,
}

/// Reads what a volume of a class is to be.
///
/// # Errors
/// `InvalidArgument` that names what cannot be.
pub(super) fn place<'a>(
    driver: &'a Driver,
    parameters: &BTreeMap<String, String>,
    mutable: &BTreeMap<String, String>,
    capabilities: &[VolumeCapability],
) -> Result<Place<'a>, Failure> {
    let own = |key: &str| parameters.get(key).map_or("", String::as_str);
    let pool = driver.pool(own(POOL))?;
    let (block, mut fs_type) = shape(capabilities)?;
    // Whoever asks for a capacity says it here alone.
    if fs_type.is_empty() && !block {
        own(FS_TYPE).clone_into(&mut fs_type);
    }
    let named = own(BACKEND);
    let backend = if named.is_empty() && block {
        // The default one of a pool may be of directories.
        let able = pool.abilities().find(|(_, abilities)| abilities.block).map(|(name, _)| name);
        let none = "cannot be had: no backend of this pool has block devices";
        pool.backend(able.ok_or_else(|| Failure::invalid("volume_capabilities.block", none))?)?
    } else {
        pool.backend(named)?
    };
    let abilities = backend.abilities();
    if !(if block { abilities.block } else { abilities.mount }) {
        let what = if block { "block devices" } else { "file systems" };
        return Err(Failure::invalid(
            "volume_capabilities",
            format!("the backend {} has no {what}", backend.name()),
        ));
    }
    let is_backends = |(key, _): &(&String, &String)| *key != POOL && *key != BACKEND && !is_of_others(key);
    let rest = parameters.iter().filter(is_backends).map(|(key, value)| (key.clone(), value.clone()));
    let mut rest: BTreeMap<String, String> = rest.collect();
    // What may change later goes before what may not (CSI, CreateVolume).
    rest.retain(|key, _| !mutable.contains_key(key));
    let wish = Wish { block, fs_type, parameters: rest, mutable: mutable.clone() };
    accepted(backend, &wish)?;
    Ok(Place { pool, backend, wish })
}

/// Refuses what neither the driver nor the backend knows of a volume's parameters.
pub(super) fn accepted(backend: &dyn Backend, wish: &Wish) -> Result<(), Failure> {
    let mut rest = wish.clone();
    for (key, value) in
        [&mut rest.parameters, &mut rest.mutable].map(|map| map.remove_entry(PROTECTED)).into_iter().flatten()
    {
        if value != "true" && value != "false" {
            let message = format!("{} is neither \"true\" nor \"false\"", text::shown(&value));
            return Err(Failure::invalid(format!("parameters[{key}]"), message));
        }
    }
    backend.accepts(&rest)
}

/// Whether a volume must not be deleted now.
pub(super) fn is_protected(volume: &Volume) -> bool {
    let said = volume.mutable.get(PROTECTED).or_else(|| volume.parameters.get(PROTECTED));
    said.is_some_and(|value| value == "true")
}

/// Whether a key is of whoever asks, and says nothing to the driver.
pub(super) fn is_of_others(key: &str) -> bool {
    key.starts_with(OTHERS)
}

/// What all capabilities want: a block device, or a file system of a type.
pub(super) fn shape(capabilities: &[VolumeCapability]) -> Result<(bool, String), Failure> {
    let mut found: Option<(bool, String)> = None;
    for (at, capability) in capabilities.iter().enumerate() {
        let (block, fs_type) = match &capability.access_type {
            Some(AccessType::Mount(mount)) => (false, mount.fs_type.as_str()),
            _ => (true, ""),
        };
        match &mut found {
            None => found = Some((block, fs_type.to_owned())),
            Some((known, of))
                if *known == block && (fs_type.is_empty() || of.is_empty() || of == fs_type) =>
            {
                if of.is_empty() {
                    fs_type.clone_into(of);
                }
            }
            Some(_) => {
                let message =
                    "wants another shape than the one before; a volume is a block device or one file system";
                return Err(Failure::invalid(format!("volume_capabilities[{at}]"), message));
            }
        }
    }
    Ok(found.unwrap_or_default())
}

/// The capacity of a new volume: what is required, or as large as its source, rounded up to what can be had, within the limit. A source
/// was rounded up so itself: its size is compared with what is had, not with what is required.
///
/// # Errors
/// `OutOfRange` where none would do.
pub(super) fn capacity(
    range: Option<&CapacityRange>,
    least: u64,
    source: Option<u64>,
) -> Result<u64, Failure> {
    let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
    let (required, limit) =
        range.map_or((0, 0), |range| (bytes(range.required_bytes), bytes(range.limit_bytes)));
    let out =
        |message: String| Failure { code: Code::OutOfRange, field: Some("capacity_range".into()), message };
    let wanted = match (required, source) {
        (0, Some(source)) => source,
        (0, None) if limit > 0 => DEFAULT.min(limit),
        (0, None) => DEFAULT,
        (required, _) => required,
    };
    let size = wanted.max(least).checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
    // What was asked for as it is, where rounding up would be too much.
    let size = if limit > 0 && size > limit && wanted >= least { wanted } else { size };
    if size > i64::MAX as u64 {
        return Err(out(format!("{wanted} bytes are more than a volume can have")));
    }
    if let Some(source) = source.filter(|source| size < *source) {
        return Err(out(format!("{required} bytes are fewer than the {source} that the source has")));
    }
    if limit > 0 && size > limit {
        return Err(out(format!("at most {limit} bytes are allowed, and such a volume has at least {size}")));
    }
    Ok(size)
}

/// What was asked for of a volume of this capacity.
pub(super) fn asked(range: Option<&CapacityRange>, capacity: u64) -> u64 {
    let required = range.map_or(0, |range| u64::try_from(range.required_bytes).unwrap_or(0));
    if required == 0 { capacity } else { required }
}

/// Refuses what this node cannot satisfy.
///
/// # Errors
/// `ResourceExhausted` where the volume is to be elsewhere.
pub(super) fn reachable(driver: &Driver, requirement: Option<&TopologyRequirement>) -> Result<(), Failure> {
    let Some(requirement) = requirement else { return Ok(()) };
    if requirement.requisite.is_empty()
        || requirement.requisite.iter().any(|topology| is_here(driver, topology))
    {
        return Ok(());
    }
    let message = format!("volumes of this driver can be reached on the node {:?} alone", driver.node);
    Err(Failure {
        code: Code::ResourceExhausted,
        field: Some("accessibility_requirements.requisite".into()),
        message,
    })
}

/// Whether a topology is this node's, or says nothing of nodes.
pub(super) fn is_here(driver: &Driver, topology: &Topology) -> bool {
    topology.segments.iter().all(|(key, value)| !key.eq_ignore_ascii_case(TOPOLOGY) || *value == driver.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capacity_is_within_what_is_asked_for() {
        let of = |required, limit, source| {
            capacity(Some(&CapacityRange { required_bytes: required, limit_bytes: limit }), 8192, source)
        };
        assert_eq!(of(0, 0, None).unwrap(), 1 << 30);
        assert_eq!(of(0, 1 << 20, None).unwrap(), 1 << 20);
        assert_eq!(of(1, 0, None).unwrap(), 8192);
        assert_eq!(of(10_000, 0, None).unwrap(), 12_288);
        assert_eq!(of(10_000, 10_000, None).unwrap(), 10_000);
        assert_eq!(of(0, 0, Some(20_480)).unwrap(), 20_480);
        assert_eq!(of(40_960, 0, Some(20_480)).unwrap(), 40_960);
        // What the source was asked for, as was rounded up there.
        assert_eq!(of(1, 0, Some(8192)).unwrap(), 8192);
        assert_eq!(of(10_000, 0, Some(12_288)).unwrap(), 12_288);
        assert_eq!(of(10_000, 10_000, Some(12_288)).unwrap_err().code, Code::OutOfRange);
        for (required, limit, source) in [(1, 4096, None), (10_000, 0, Some(20_480)), (i64::MAX, 0, None)] {
            assert_eq!(of(required, limit, source).unwrap_err().code, Code::OutOfRange);
        }
    }
}
