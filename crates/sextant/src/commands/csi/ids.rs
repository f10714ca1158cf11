//! What people mean by an id: a whole one, or the beginning of one where the driver lists what there is.

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as ControllerCall;

use crate::failure::{Context, Failure, Result};

/// What has an id.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Volume,
    Snapshot,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Volume => "volume",
            Kind::Snapshot => "snapshot",
        }
    }
}

/// The ids of all that there is of a kind; `None` where the driver does not list it.
async fn listed(driver: &Driver, kind: Kind) -> Result<Option<Vec<String>>> {
    let ids = match kind {
        Kind::Volume if driver.controls(ControllerCall::ListVolumes) => {
            let volumes = driver.volumes().await.context(|| "list volumes".into())?;
            volumes.into_iter().filter_map(|entry| entry.volume).map(|volume| volume.volume_id).collect()
        }
        Kind::Snapshot if driver.controls(ControllerCall::ListSnapshots) => {
            let snapshots = driver.snapshots().await.context(|| "list snapshots".into())?;
            snapshots.into_iter().map(|snapshot| snapshot.snapshot_id).collect()
        }
        _ => return Ok(None),
    };
    Ok(Some(ids))
}

/// The one that is meant: whose id it is, or whose alone it begins.
fn pick(mut all: Vec<(Kind, String)>, asked: &str) -> Result<Option<(Kind, String)>> {
    if let Some(at) = all.iter().position(|(_, id)| id == asked) {
        return Ok(Some(all.swap_remove(at)));
    }
    all.retain(|(_, id)| id.starts_with(asked));
    if all.len() > 1 {
        let some: Vec<&str> = all.iter().take(3).map(|(_, id)| id.as_str()).collect();
        return Err(Failure::new(format!(
            "{asked:?} begins several ids: {}; write more of it",
            some.join(", ")
        )));
    }
    Ok(all.pop())
}

fn of(kind: Kind, ids: Vec<String>) -> Vec<(Kind, String)> {
    ids.into_iter().map(|id| (kind, id)).collect()
}

/// A whole id. What a driver does not list is taken as it is.
pub(super) async fn whole(driver: &Driver, kind: Kind, asked: &str) -> Result<String> {
    let Some(ids) = listed(driver, kind).await? else { return Ok(asked.to_owned()) };
    if let Some((_, id)) = pick(of(kind, ids), asked)? {
        return Ok(id);
    }
    if matches!(kind, Kind::Volume)
        && let Some(snapshots) = listed(driver, Kind::Snapshot).await?
        && let Some((_, id)) = pick(of(Kind::Snapshot, snapshots), asked)?
    {
        return Err(Failure::new(format!("{id} is a snapshot: make a volume of it with --from-snapshot")));
    }
    let word = kind.word();
    Err(Failure::new(format!(
        "no {word} {asked:?} is at the driver {}; see `sextant csi {word}s`",
        driver.name
    )))
}

/// What is to be deleted, and of which kind it is. Where only one kind is listed, nothing is guessed: the beginning of an id of
/// that kind may be a whole one of the other.
pub(super) async fn to_remove(driver: &Driver, asked: &str, is_snapshot: bool) -> Result<(Kind, String)> {
    if is_snapshot {
        return Ok((Kind::Snapshot, whole(driver, Kind::Snapshot, asked).await?));
    }
    let snapshots = match listed(driver, Kind::Snapshot).await? {
        None if !driver.controls(ControllerCall::CreateDeleteSnapshot) => Some(Vec::new()),
        snapshots => snapshots,
    };
    let name = &driver.name;
    match (listed(driver, Kind::Volume).await?, snapshots) {
        (None, Some(snapshots)) if snapshots.iter().any(|id| id == asked) => Err(Failure::new(format!(
            "{asked} is a snapshot, and may be a volume, too, as the driver {name} lists none: say --snapshot if it is"
        ))),
        (None, _) => Ok((Kind::Volume, asked.to_owned())),
        (Some(volumes), None) if volumes.iter().any(|id| id == asked) => Ok((Kind::Volume, asked.to_owned())),
        (Some(_), None) => Err(Failure::new(format!(
            "no volume {asked:?} is at the driver {name}, which lists no snapshots: say --snapshot if it is one, or write \
             the volume's whole id"
        ))),
        (Some(volumes), Some(snapshots)) => {
            let mut all = of(Kind::Volume, volumes);
            all.extend(of(Kind::Snapshot, snapshots));
            pick(all, asked)?.ok_or_else(|| {
                Failure::new(format!("no volume or snapshot {asked:?} is at the driver {name}"))
            })
        }
    }
}
