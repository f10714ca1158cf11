//! What is asked of a driver.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

use csi::caller::{Client, Driver};
use csi::contract::v1::volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode};
use csi::contract::v1::volume_content_source::{SnapshotSource, Type as Source, VolumeSource};
use csi::contract::v1::*;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::super::Meter;
use super::table::{self, Rounds};
use crate::Result;

/// Volumes that live one after the other.
const VOLUMES: usize = 20;
/// How large a volume is.
pub(super) const SIZE: u64 = 64 << 20;
/// What is written to each.
pub(super) const DATA: usize = 4 << 20;
/// Callers at the same time, and what each does.
const CALLERS: usize = 8;
const EACH: usize = 8;
/// What is written to learn how fast that goes, and how often.
const WRITTEN: u64 = 256 << 20;
const WRITES: usize = 5;
/// A volume that has twice that.
const HALF: u64 = 2 * WRITTEN;
/// One that has it all: btrfs counts what is written anew, and what it takes the place of, until a commit, which it has to wait for
/// where a group has no room for both.
const ROOM: u64 = (WRITES as u64 + 3) * WRITTEN;

/// How a driver is to be asked.
pub(super) struct Asked<'a> {
    /// A class's parameter.
    pub(super) backend: Option<&'static str>,
    /// Where volumes are put.
    pub(super) place: &'a Path,
    /// Where the same kind of file system is bare.
    pub(super) bare: &'a Path,
}

impl Asked<'_> {
    fn capability(&self) -> VolumeCapability {
        // Only an image has a file system to choose.
        let fs_type = if self.backend == Some("image") { "ext4".into() } else { String::new() };
        VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume { fs_type, ..Default::default() })),
            access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        }
    }

    fn create(&self, name: String, bytes: u64, source: Option<Source>) -> CreateVolumeRequest {
        let parameters = self.backend.map(|backend| ("backend".to_owned(), backend.to_owned()));
        CreateVolumeRequest {
            name,
            capacity_range: Some(CapacityRange { required_bytes: bytes.cast_signed(), limit_bytes: 0 }),
            volume_capabilities: vec![self.capability()],
            parameters: parameters.into_iter().collect(),
            volume_content_source: source.map(|source| VolumeContentSource { r#type: Some(source) }),
            ..Default::default()
        }
    }

    /// How large a volume is that is written again and again.
    fn room(&self) -> u64 {
        if self.backend == Some("btrfs") { ROOM } else { HALF }
    }

    fn stage(&self, name: &str) -> Result<PathBuf> {
        let path = self.place.join("stage").join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    fn target(&self, name: &str) -> Result<PathBuf> {
        let folder = self.place.join("target");
        fs::create_dir_all(&folder)?;
        Ok(folder.join(name))
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A volume that is there, as its calls need it.
struct Volume {
    id: String,
    context: BTreeMap<String, String>,
    capability: VolumeCapability,
    stage: PathBuf,
    target: PathBuf,
}

impl Volume {
    async fn new(client: &Client, asked: &Asked<'_>, request: CreateVolumeRequest) -> Result<Self> {
        let (stage, target) = (asked.stage(&request.name)?, asked.target(&request.name)?);
        let volume = client.create_volume(request).await?.volume.ok_or("CreateVolume: no volume")?;
        let context = volume.volume_context.into_iter().collect();
        Ok(Self { id: volume.volume_id, context, capability: asked.capability(), stage, target })
    }

    async fn stage(&self, client: &Client) -> Result<()> {
        let request = NodeStageVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: text(&self.stage),
            volume_capability: Some(self.capability.clone()),
            volume_context: self.context.clone().into_iter().collect(),
            ..Default::default()
        };
        client.node_stage_volume(request).await?;
        Ok(())
    }

    async fn publish(&self, client: &Client) -> Result<()> {
        let request = NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            staging_target_path: text(&self.stage),
            target_path: text(&self.target),
            volume_capability: Some(self.capability.clone()),
            volume_context: self.context.clone().into_iter().collect(),
            ..Default::default()
        };
        client.node_publish_volume(request).await?;
        Ok(())
    }

    async fn stats(&self, client: &Client) -> Result<()> {
        let (volume_id, volume_path) = (self.id.clone(), text(&self.target));
        let request = NodeGetVolumeStatsRequest { volume_id, volume_path, ..Default::default() };
        client.node_get_volume_stats(request).await?;
        Ok(())
    }

    async fn unpublish(&self, client: &Client) -> Result<()> {
        let (volume_id, target_path) = (self.id.clone(), text(&self.target));
        client.node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id, target_path }).await?;
        Ok(())
    }

    async fn unstage(&self, client: &Client) -> Result<()> {
        let (volume_id, staging_target_path) = (self.id.clone(), text(&self.stage));
        client.node_unstage_volume(NodeUnstageVolumeRequest { volume_id, staging_target_path }).await?;
        Ok(())
    }

    async fn delete(&self, client: &Client) -> Result<()> {
        let request = DeleteVolumeRequest { volume_id: self.id.clone(), ..Default::default() };
        client.delete_volume(request).await?;
        Ok(())
    }
}

/// How long a call takes, in milliseconds.
async fn timed<T>(
    rounds: &mut Rounds,
    call: &'static str,
    what: impl Future<Output = Result<T>>,
) -> Result<T> {
    let began = Instant::now();
    let outcome = what.await.map_err(|e| format!("{call}: {e}"))?;
    rounds.add(call, began.elapsed().as_secs_f64() * 1e3);
    Ok(outcome)
}

/// Volumes live one after the other, with data, a snapshot, what is restored of it, and a clone.
pub(super) async fn life(
    driver: &Driver,
    asked: &Asked<'_>,
    meter: &Meter,
    rounds: &mut Rounds,
) -> Result<()> {
    let client = &driver.client;
    let before = meter.cpu()?;
    for number in 0..VOLUMES {
        let name = format!("life-{number}");
        let create = asked.create(name.clone(), SIZE, None);
        let volume = timed(rounds, "CreateVolume", Volume::new(client, asked, create)).await?;
        timed(rounds, "NodeStageVolume", volume.stage(client)).await?;
        timed(rounds, "NodePublishVolume", volume.publish(client)).await?;
        write(&volume.target.join("data"), DATA as u64)?;
        timed(rounds, "NodeGetVolumeStats", volume.stats(client)).await?;
        let cut = CreateSnapshotRequest {
            source_volume_id: volume.id.clone(),
            name: format!("cut-{number}"),
            ..Default::default()
        };
        let cut =
            timed(rounds, "CreateSnapshot", async { Ok(client.create_snapshot(cut).await?) }).await?.snapshot;
        let snapshot_id = cut.ok_or("CreateSnapshot: no snapshot")?.snapshot_id;
        let source = Source::Snapshot(SnapshotSource { snapshot_id: snapshot_id.clone() });
        let create = asked.create(format!("restored-{number}"), SIZE, Some(source));
        let restored =
            timed(rounds, "CreateVolume, of a snapshot", Volume::new(client, asked, create)).await?;
        timed(rounds, "NodeUnpublishVolume", volume.unpublish(client)).await?;
        timed(rounds, "NodeUnstageVolume", volume.unstage(client)).await?;
        let source = Source::Volume(VolumeSource { volume_id: volume.id.clone() });
        let create = asked.create(format!("clone-{number}"), SIZE, Some(source));
        let clone = timed(rounds, "CreateVolume, of a volume", Volume::new(client, asked, create)).await?;
        let cut = DeleteSnapshotRequest { snapshot_id, ..Default::default() };
        timed(rounds, "DeleteSnapshot", async { Ok(client.delete_snapshot(cut).await?) }).await?;
        timed(rounds, "DeleteVolume", volume.delete(client)).await?;
        restored.delete(client).await?;
        clone.delete(client).await?;
    }
    rounds.cpu.push((meter.cpu()? - before).as_secs_f64() * 1e3 / VOLUMES as f64);
    Ok(())
}

/// The same work by one caller and by several: volumes are made, used and deleted.
pub(super) async fn callers(driver: &Driver, asked: &Asked<'_>, rounds: &mut Rounds) -> Result<()> {
    let one = rate(driver, asked, 1, CALLERS * EACH, "one").await?;
    let many = rate(driver, asked, CALLERS, EACH, "many").await?;
    rounds.add("volumes per second, one caller", one);
    rounds.add("volumes per second, eight callers", many);
    Ok(())
}

async fn rate(driver: &Driver, asked: &Asked<'_>, callers: usize, each: usize, word: &str) -> Result<f64> {
    let client = &driver.client;
    let caller = |caller: usize| async move {
        for number in 0..each {
            let create = asked.create(format!("{word}-{caller}-{number}"), SIZE, None);
            let volume = Volume::new(client, asked, create).await?;
            volume.stage(client).await?;
            volume.publish(client).await?;
            volume.unpublish(client).await?;
            volume.unstage(client).await?;
            volume.delete(client).await?;
        }
        Result::Ok(())
    };
    let began = Instant::now();
    let mut running = Vec::new();
    running.extend((0..callers).map(|number| Box::pin(caller(number))));
    together(running).await?;
    Ok((callers * each) as f64 / began.elapsed().as_secs_f64())
}

/// Drives all of them on this thread until the last has ended.
async fn together<F: Future<Output = Result<()>> + Unpin>(mut running: Vec<F>) -> Result<()> {
    std::future::poll_fn(|context| {
        let mut failed = None;
        running.retain_mut(|one| match std::pin::Pin::new(one).poll(context) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(outcome) => {
                if let Err(error) = outcome {
                    failed.get_or_insert(error);
                }
                false
            }
        });
        match failed {
            Some(error) => std::task::Poll::Ready(Err(error)),
            None if running.is_empty() => std::task::Poll::Ready(Ok(())),
            None => std::task::Poll::Pending,
        }
    })
    .await
}

/// A file that is written, and what its rate and the writer's CPU time are called.
struct Way {
    path: PathBuf,
    rate: &'static str,
    cpu: Option<&'static str>,
}

/// How fast a volume is written, beside the same kind of file system on a disk and the pool's own, turn about.
pub(super) async fn throughput(driver: &Driver, asked: &Asked<'_>, rounds: &mut Rounds) -> Result<()> {
    let client = &driver.client;
    let mut volumes = vec![written(client, asked, "throughput", asked.room()).await?];
    if asked.room() > HALF {
        volumes.push(written(client, asked, "half", HALF).await?);
    }
    let (bare, pool) = (asked.bare.join("bare"), asked.place.join("bare"));
    let kind = Way { path: bare.clone(), rate: table::KIND, cpu: Some(table::CPU_OF_KIND) };
    // For people, with no promise: what who needs no volume has.
    let mut ways = vec![kind, Way { path: pool.clone(), rate: table::POOL, cpu: None }];
    let names = [(table::THROUGH, Some(table::CPU_THROUGH)), (table::HALF, None)];
    for (volume, (rate, cpu)) in volumes.iter().zip(names) {
        ways.push(Way { path: volume.target.join("data"), rate, cpu });
    }
    for number in 0..=WRITES {
        for way in &ways {
            let (began, cpu) = (Instant::now(), clock_gettime(ClockId::ThreadCPUTime));
            write(&way.path, WRITTEN)?;
            let rate = WRITTEN as f64 / 1e6 / began.elapsed().as_secs_f64();
            let cpu = milliseconds(clock_gettime(ClockId::ThreadCPUTime)) - milliseconds(cpu);
            // The first time blocks are found, and caches filled.
            if number > 0 {
                rounds.add(way.rate, rate);
                way.cpu.iter().for_each(|what| rounds.add(what, cpu));
            }
        }
        ways.reverse();
    }
    fs::remove_file(&bare)?;
    fs::remove_file(&pool)?;
    for volume in volumes {
        volume.unpublish(client).await?;
        volume.unstage(client).await?;
        volume.delete(client).await?;
    }
    Ok(())
}

/// A volume that is written to.
async fn written(client: &Client, asked: &Asked<'_>, name: &str, bytes: u64) -> Result<Volume> {
    let volume = Volume::new(client, asked, asked.create(name.to_owned(), bytes, None)).await?;
    volume.stage(client).await?;
    volume.publish(client).await?;
    Ok(volume)
}

fn milliseconds(time: Timespec) -> f64 {
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// What is written again and again: nothing that a disk or a file system could make smaller.
static BLOCK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..1_u32 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
});

/// Writes a file anew, and waits until it is on the disk.
fn write(path: &Path, bytes: u64) -> Result<()> {
    let mut file = File::options().create(true).write(true).truncate(false).open(path)?;
    let mut left = bytes;
    while left > 0 {
        let part = BLOCK.get(..left.min(BLOCK.len() as u64) as usize).unwrap_or(&BLOCK);
        file.write_all(part)?;
        left -= part.len() as u64;
    }
    file.sync_all()?;
    Ok(())
}
