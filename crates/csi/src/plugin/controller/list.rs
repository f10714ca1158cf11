//! ListVolumes and ListSnapshots. A page ends with the id of its last entry, so what comes and goes between two pages makes no
//! entry come twice or not at all.

use grpc::{Code, Failure};

use super::{Shared, tell, told};
use crate::contract::v1::{
    ListSnapshotsRequest, ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse,
    list_snapshots_response, list_volumes_response,
};
use crate::plugin::driver::Driver;

/// Begins each token, so that it is told from what nobody gave out.
const TOKEN: &str = "after:";

/// The entries behind a token, at most so many, and the next token.
fn page<T>(
    mut all: Vec<T>,
    id: impl Fn(&T) -> &str,
    token: &str,
    most: i32,
) -> Result<(Vec<T>, String), Failure> {
    all.sort_by(|a, b| id(a).cmp(id(b)));
    if !token.is_empty() {
        let Some(after) = token.strip_prefix(TOKEN) else {
            let message =
                format!("{} is no token of this driver: begin without one", crate::contract::shown(token));
            return Err(Failure {
                field: Some("starting_token".into()),
                ..Failure::new(Code::Aborted, message)
            });
        };
        all.retain(|entry| id(entry) > after);
    }
    let most = usize::try_from(most).ok().filter(|&most| most > 0).unwrap_or(usize::MAX);
    let next = match all.get(..most).and_then(|page| page.last()) {
        Some(last) if all.len() > most => format!("{TOKEN}{}", id(last)),
        _ => String::new(),
    };
    all.truncate(most);
    Ok((all, next))
}

pub(super) fn volumes(driver: &Driver, request: &ListVolumesRequest) -> Result<ListVolumesResponse, Failure> {
    let all: Vec<_> = driver
        .pools
        .iter()
        .flat_map(|pool| pool.volumes().into_iter().map(move |kept: Shared| (pool, kept)))
        .filter(|(_, kept)| !kept.record.ephemeral)
        .collect();
    let (all, next_token) =
        page(all, |(_, kept)| &kept.record.id, &request.starting_token, request.max_entries)?;
    let entry = |(pool, kept): (_, Shared)| {
        let status = list_volumes_response::VolumeStatus {
            volume_condition: Some(tell::condition(driver, pool, &kept)),
            ..Default::default()
        };
        list_volumes_response::Entry {
            volume: Some(tell::volume(driver, pool, &kept.record)),
            status: Some(status),
        }
    };
    Ok(ListVolumesResponse { entries: all.into_iter().map(entry).collect(), next_token })
}

pub(super) fn snapshots(
    driver: &Driver,
    request: &ListSnapshotsRequest,
) -> Result<ListSnapshotsResponse, Failure> {
    let is_meant = |snapshot: &crate::plugin::pool::record::Snapshot| {
        (request.snapshot_id.is_empty() || snapshot.id == request.snapshot_id)
            && (request.source_volume_id.is_empty() || snapshot.volume.id == request.source_volume_id)
    };
    let all = driver.pools.iter().flat_map(|pool| pool.snapshots());
    let all: Vec<_> = all.filter(|kept| is_meant(&kept.record)).collect();
    let (all, next_token) = page(all, |kept| &kept.record.id, &request.starting_token, request.max_entries)?;
    let entry = |kept: std::sync::Arc<crate::plugin::pool::Kept<_>>| list_snapshots_response::Entry {
        snapshot: Some(told(&kept.record)),
    };
    Ok(ListSnapshotsResponse { entries: all.into_iter().map(entry).collect(), next_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_hold_everything_once() {
        let all = || ["e", "a", "c", "b", "d"].to_vec();
        let of = |token: &str, most| page(all(), |entry| entry, token, most);
        assert_eq!(of("", 0).unwrap(), (vec!["a", "b", "c", "d", "e"], String::new()));
        let (first, token) = of("", 2).unwrap();
        assert_eq!((first, token.as_str()), (vec!["a", "b"], "after:b"));
        assert_eq!(of(&token, 3).unwrap(), (vec!["c", "d", "e"], String::new()));
        assert_eq!(of(&token, 0).unwrap().0.len(), 3);
        assert_eq!(of("invalid", 2).unwrap_err().code, Code::Aborted);
    }
}
