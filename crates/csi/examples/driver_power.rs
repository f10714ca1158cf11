//! What a guest does whose power is cut (`cargo xtask test --ring power --only volumes`).
//!
//! `driver_power write POOL DISK KINDS [DEVICE]` runs a driver with a pool in POOL, whose data are on DEVICE if one is given, has callers
//! make, fill, snapshot, restore, enlarge, group and delete volumes of all KINDS at the same time (`dir,image:ext4`), and marks on DISK,
//! behind its filesystem, what was begun and acknowledged. `driver_power look POOL [DEVICE]` says what the next driver has there, reads
//! all of it, and removes it.

#[path = "power/caller.rs"]
mod caller;
#[path = "../../api/examples/power/marks.rs"]
mod marks;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use caller::{Caller, Group, Kind, Made};
use marks::{Marks, Result};

/// How often each kind goes through a volume's life.
const ROUNDS: u64 = 8;
/// What is written to a volume each time.
const BYTES: u64 = 192 << 10;
/// Where a pool has its places.
const PARTS: [&str; 5] = ["volumes", "snapshots", "groups", "incoming", "gone"];

/// Bytes that are the same nowhere else.
fn pattern(seed: u64) -> Vec<u8> {
    let word = |n: u64| (n + (seed << 32) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..BYTES / 8).flat_map(word).collect()
}

/// FNV-1a of a volume's file, or of as much of its device; "none" where there is no such file, or nothing on the device.
fn sum(root: &Path, kind: &Kind) -> String {
    match read(root, kind) {
        Ok(bytes) if kind.block && bytes.iter().all(|byte| *byte == 0) => "none".into(),
        Ok(bytes) => sum_of(&bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => "none".into(),
        Err(e) => format!("unreadable ({e})"),
    }
}

fn read(root: &Path, kind: &Kind) -> std::io::Result<Vec<u8>> {
    if !kind.block {
        return fs::read(root.join("file"));
    }
    let mut bytes = vec![0; BYTES as usize];
    fs::File::open(root)?.read_exact_at(&mut bytes, 0).map(|()| bytes)
}

fn sum_of(bytes: &[u8]) -> String {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}

/// Writes the file anew and syncs it, in the two ways that a database has: in place, and under a new name. A device has one of them.
fn fill(root: &Path, kind: &Kind, bytes: &[u8], in_place: bool) -> std::io::Result<()> {
    use std::io::Write as _;
    if kind.block {
        let device = fs::File::options().write(true).open(root)?;
        device.write_all_at(bytes, 0)?;
        return device.sync_all();
    }
    let (path, next) = (root.join("file"), root.join("next"));
    let to = if in_place { &path } else { &next };
    let mut file = fs::File::options().write(true).create(true).truncate(!in_place).open(to)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if !in_place {
        fs::rename(&next, &path)?;
    }
    fs::File::open(root)?.sync_all()
}

/// The life of volumes of one kind. Two are there at a time, with a snapshot and a group each, and what was made of a snapshot.
async fn live(caller: &Caller, marks: &Marks, kind: &Kind, seed: u64) -> Result<()> {
    let mut before: Option<(Made, Made, Group)> = None;
    for round in 1..=ROUNDS {
        let name = format!("{}-{round}", kind.name.replace(':', "-"));
        let say = |words: String| marks.mark(&words);
        say("begin create".into())?;
        let volume = caller.create(&name, kind, None).await?;
        say(format!("ack create {} {} none", volume.id, volume.bytes))?;
        let root = caller.mount(&volume.id, kind).await?;
        let write = |number: u64, in_place: bool| {
            let bytes = pattern(seed * 1000 + round * 10 + number);
            say(format!("begin write {}", volume.id))?;
            fill(&root, kind, &bytes, in_place)?;
            let sum = sum_of(&bytes);
            say(format!("ack write {} {sum}", volume.id))?;
            Result::Ok(sum)
        };
        write(1, false)?;
        let first = write(2, round % 2 == 0)?;
        say("begin snapshot".into())?;
        let snapshot = caller.snapshot(&name, &volume.id).await?;
        say(format!("ack snapshot {} {} {first}", snapshot.id, snapshot.bytes))?;
        write(3, round % 2 == 1)?;
        let larger = volume.bytes + kind.bytes / 2;
        say(format!("begin expand {} {larger}", volume.id))?;
        caller.expand(&volume.id, larger).await?;
        say(format!("ack expand {} {larger}", volume.id))?;
        let last = write(4, true)?;
        say("begin create".into())?;
        let restored = caller.create(&format!("{name}-restored"), kind, Some(&snapshot.id)).await?;
        say(format!("ack create {} {} {first}", restored.id, restored.bytes))?;
        caller.unmount(&volume.id).await?;
        let together = if kind.has_groups() { vec![&volume, &restored] } else { vec![&volume] };
        say(format!("begin group {}", together.len()))?;
        let group = caller.group(&name, &together).await?;
        let members = group.members.iter().zip([&last, &first]);
        let members: String =
            members.map(|(made, sum)| format!(" {} {} {sum}", made.id, made.bytes)).collect();
        say(format!("ack group{members}"))?;
        if let Some(before) = before.replace((volume, snapshot, group)) {
            end(caller, marks, before).await?;
        }
        say(format!("begin delete {}", restored.id))?;
        caller.delete(&restored.id).await?;
        say(format!("ack delete {}", restored.id))?;
    }
    Ok(())
}

/// The end of a volume, its snapshot and its group.
async fn end(caller: &Caller, marks: &Marks, (volume, snapshot, group): (Made, Made, Group)) -> Result<()> {
    let say = |words: String| marks.mark(&words);
    say(format!("begin delete {}", volume.id))?;
    caller.delete(&volume.id).await?;
    say(format!("ack delete {}", volume.id))?;
    say(format!("begin unsnapshot {}", snapshot.id))?;
    caller.delete_snapshot(&snapshot.id).await?;
    say(format!("ack unsnapshot {}", snapshot.id))?;
    let members: Vec<_> = group.members.into_iter().map(|member| member.id).collect();
    say(format!("begin ungroup {}", members.join(" ")))?;
    caller.delete_group(&group.id, members.clone()).await?;
    say(format!("ack ungroup {}", members.join(" ")))
}

async fn write(pool: &Path, disk: &Path, kinds: &str, device: Option<&Path>) -> Result<()> {
    let marks = Arc::new(Marks::open(disk)?);
    let caller = Arc::new(Caller::start(pool, device).await?);
    let mut lives = tokio::task::JoinSet::new();
    for (kind, seed) in kinds.split(',').zip(1..) {
        let (caller, marks, kind) = (Arc::clone(&caller), Arc::clone(&marks), Kind::of(kind));
        lives.spawn(async move { live(&caller, &marks, &kind, seed).await });
    }
    while let Some(done) = lives.join_next().await {
        done??;
    }
    Ok(())
}

/// Says what is there, as it is: a volume's file, and that of what is made of a snapshot.
async fn look(pool: &Path, device: Option<&Path>) -> Result<()> {
    let caller = Caller::start(pool, device).await?;
    let (volumes, snapshots) = (caller.volumes(pool).await?, caller.snapshots(pool).await?);
    for volume in &volumes {
        let root = caller.mount(&volume.id, &volume.kind).await?;
        println!("volume {} {} {}", volume.id, volume.bytes, sum(&root, &volume.kind));
        caller.unmount(&volume.id).await?;
    }
    let mut groups: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for snapshot in &snapshots {
        let kind = &snapshot.kind;
        let restored = caller.create(&format!("look-{}", snapshot.id), kind, Some(&snapshot.id)).await?;
        let root = caller.mount(&restored.id, kind).await?;
        println!("snapshot {} {} {}", snapshot.id, snapshot.bytes, sum(&root, kind));
        caller.unmount(&restored.id).await?;
        caller.delete(&restored.id).await?;
        groups.entry(&snapshot.group).or_default().insert(&snapshot.id);
    }
    let alone = groups.remove("").unwrap_or_default();
    for (group, found) in &groups {
        let members = caller.members(group).await?;
        if members.iter().map(String::as_str).collect::<BTreeSet<_>>() != *found {
            println!("damaged: group {group} has {members:?} and not {found:?}");
        }
    }
    let places = |part: &str| -> Result<Vec<String>> {
        let names =
            fs::read_dir(pool.join(part))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into()));
        names.collect()
    };
    let known = |name: &String| {
        volumes.iter().any(|volume| volume.id == *name)
            || snapshots.iter().any(|snapshot| snapshot.id == *name)
            || groups.contains_key(name.as_str())
    };
    for part in PARTS {
        places(part)?
            .iter()
            .filter(|name| !known(name))
            .for_each(|name| println!("damaged: {part}/{name} is left"));
    }
    for volume in &volumes {
        caller.delete(&volume.id).await?;
    }
    for (group, members) in &groups {
        caller.delete_group(group, members.iter().map(ToString::to_string).collect()).await?;
    }
    for snapshot in alone {
        caller.delete_snapshot(snapshot).await?;
    }
    for part in PARTS {
        places(part)?.iter().for_each(|name| println!("damaged: {part}/{name} cannot be removed"));
    }
    println!("looked");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", pool, disk, kinds, device @ ..] if device.len() < 2 => {
            write(Path::new(pool), Path::new(disk), kinds, device.first().map(Path::new)).await
        }
        ["look", pool, device @ ..] if device.len() < 2 => {
            look(Path::new(pool), device.first().map(Path::new)).await
        }
        _ => Err(
            "usage: driver_power write POOL DISK KIND[,KIND...] [DEVICE] | driver_power look POOL [DEVICE]"
                .into(),
        ),
    }
}
