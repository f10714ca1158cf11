//! Drivers, volumes and snapshots as people and programs read them.

use std::path::{Path, PathBuf};

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as ControllerCall;
use csi::contract::v1::plugin_capability::service::Type as Service;
use csi::contract::v1::volume_content_source::Type as Content;
use csi::contract::v1::{Snapshot, Volume, VolumeCondition};
use serde_json::{Value, json};

use crate::cli::OutputArgs;
use crate::failure::{Context, Failure, Result};
use crate::output::{self, Table, bytes, timestamp};

/// What drivers can do, in words.
const ABILITIES: [(ControllerCall, &str); 6] = [
    (ControllerCall::CreateDeleteVolume, "volumes"),
    (ControllerCall::CreateDeleteSnapshot, "snapshots"),
    (ControllerCall::CloneVolume, "clones"),
    (ControllerCall::ExpandVolume, "expand"),
    (ControllerCall::ModifyVolume, "modify"),
    (ControllerCall::PublishUnpublishVolume, "attach"),
];

/// A size of the wire: 0 is not known.
pub(super) fn size(bytes_told: i64) -> String {
    match u64::try_from(bytes_told) {
        Ok(0) | Err(_) => "-".into(),
        Ok(number) => bytes(number),
    }
}

/// `sextant csi drivers`. A socket where nobody answers is told, and no failure, unless there is no other.
pub(super) async fn drivers(sockets: &[PathBuf], output: OutputArgs) -> Result<()> {
    let mut table = Table::new(["NAME", "VERSION", "CAN", "SOCKET"]);
    let mut list = Vec::new();
    let mut refused = Vec::new();
    for socket in sockets {
        match Driver::connect(socket).await {
            Ok(driver) => {
                table.row([
                    driver.name.clone(),
                    driver.version.clone(),
                    abilities(&driver).join(","),
                    shown(socket),
                ]);
                list.push(json!({
                    "name": driver.name, "version": driver.version, "can": abilities(&driver), "socket": shown(socket),
                }));
            }
            Err(error @ grpc::Error::Connect { .. }) => refused.push(error.to_string()),
            Err(error) => refused.push(format!("{}: {error}", shown(socket))),
        }
    }
    if list.is_empty() {
        return Err(Failure::new(refused.join("; ")));
    }
    for error in refused {
        eprintln!("sextant csi: {error}");
    }
    if output.json() { Ok(output::json(&json!(list))?) } else { Ok(table.print()?) }
}

fn shown(socket: &Path) -> String {
    socket.display().to_string()
}

fn abilities(driver: &Driver) -> Vec<&'static str> {
    let mut all: Vec<&str> =
        ABILITIES.iter().filter(|(call, _)| driver.controls(*call)).map(|(_, word)| *word).collect();
    if driver.has(Service::GroupControllerService) {
        all.push("groups");
    }
    if driver.has(Service::SnapshotMetadataService) {
        all.push("blocks");
    }
    all
}

fn source(volume: &Volume) -> Option<&str> {
    match volume.content_source.as_ref()?.r#type.as_ref()? {
        Content::Snapshot(source) => Some(&source.snapshot_id),
        Content::Volume(source) => Some(&source.volume_id),
    }
}

fn health(condition: Option<&VolumeCondition>) -> String {
    match condition {
        None => "-".into(),
        Some(condition) if condition.abnormal => condition.message.clone(),
        Some(_) => "good".into(),
    }
}

/// `sextant csi volumes`
pub(super) async fn volumes(driver: &Driver, output: OutputArgs) -> Result<()> {
    let mut table = Table::new(["ID", "SIZE", "FROM", "HEALTH"]);
    let mut list = Vec::new();
    for entry in driver.volumes().await.context(|| "list volumes".into())? {
        let volume = entry.volume.unwrap_or_default();
        let condition = entry.status.and_then(|status| status.volume_condition);
        let from = source(&volume).unwrap_or("-").to_owned();
        table.row([volume.volume_id.clone(), size(volume.capacity_bytes), from, health(condition.as_ref())]);
        let mut told = as_json(&volume);
        told["health"] = json!(condition.map(|c| json!({"abnormal": c.abnormal, "message": c.message})));
        list.push(told);
    }
    if output.json() { Ok(output::json(&json!(list))?) } else { Ok(table.print()?) }
}

fn as_json(volume: &Volume) -> Value {
    let topology: Vec<_> = volume.accessible_topology.iter().map(|topology| &topology.segments).collect();
    json!({
        "id": volume.volume_id,
        "bytes": volume.capacity_bytes,
        "from": source(volume),
        "context": volume.volume_context,
        "topology": topology,
    })
}

/// `sextant csi snapshots`
pub(super) async fn snapshots(driver: &Driver, output: OutputArgs) -> Result<()> {
    let all = driver.snapshots().await.context(|| "list snapshots".into())?;
    if output.json() {
        return Ok(output::json(&json!(all.iter().map(snapshot_json).collect::<Vec<_>>()))?);
    }
    let mut table = Table::new(["ID", "OF", "SIZE", "CUT", "READY"]);
    for snapshot in all {
        table.row([
            snapshot.snapshot_id.clone(),
            snapshot.source_volume_id.clone(),
            size(snapshot.size_bytes),
            cut_at(&snapshot),
            if snapshot.ready_to_use { "yes" } else { "no" }.into(),
        ]);
    }
    Ok(table.print()?)
}

fn cut_at(snapshot: &Snapshot) -> String {
    let seconds = snapshot.creation_time.as_ref().and_then(|time| u64::try_from(time.seconds).ok());
    seconds.map_or_else(|| "-".into(), timestamp)
}

fn snapshot_json(snapshot: &Snapshot) -> Value {
    json!({
        "id": snapshot.snapshot_id,
        "of": snapshot.source_volume_id,
        "bytes": snapshot.size_bytes,
        "cut": cut_at(snapshot),
        "ready": snapshot.ready_to_use,
        "group": snapshot.group_snapshot_id,
    })
}

/// A volume that has just been made: its id, which a script wants.
pub(super) fn made(volume: &Volume, output: OutputArgs) -> Result<()> {
    if output.json() {
        return Ok(output::json(&as_json(volume))?);
    }
    println!("{}", volume.volume_id);
    Ok(())
}

/// The same of a snapshot.
pub(super) fn cut(snapshot: &Snapshot, output: OutputArgs) -> Result<()> {
    if output.json() {
        return Ok(output::json(&snapshot_json(snapshot))?);
    }
    println!("{}", snapshot.snapshot_id);
    Ok(())
}
