//! What a guest does whose power is cut (`cargo xtask test --ring power --only volumes`).
//!
//! `driver_power write POOL DISK KINDS` runs a driver with a pool in POOL, has callers make, fill, snapshot, restore, enlarge and delete
//! volumes of all KINDS at the same time (`dir,image:ext4`), and marks on DISK, behind its filesystem, what was begun and acknowledged.
//! `driver_power look POOL` says what the next driver has there, reads all of it, and removes it.

#[path = "power/caller.rs"]
mod caller;
#[path = "../../api/examples/power/marks.rs"]
mod marks;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use caller::{Caller, Kind, Made};
use marks::{Marks, Result};

/// How often each kind goes through a volume's life.
const ROUNDS: u64 = 8;
/// What is written to a volume each time.
const BYTES: u64 = 192 << 10;

/// Bytes that are the same nowhere else.
fn pattern(seed: u64) -> Vec<u8> {
    let word = |n: u64| (n + (seed << 32) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..BYTES / 8).flat_map(word).collect()
}

/// FNV-1a of a file, or "none" where there is no such file.
fn sum(file: &Path) -> String {
    match fs::read(file) {
        Ok(bytes) => sum_of(&bytes),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => "none".into(),
        Err(e) => format!("unreadable ({e})"),
    }
}

fn sum_of(bytes: &[u8]) -> String {
    let sum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}

/// Writes the file anew and syncs it, in the two ways that a database has: in place, and under a new name.
fn fill(root: &Path, bytes: &[u8], in_place: bool) -> std::io::Result<()> {
    use std::io::Write as _;
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

/// The life of volumes of one kind. Two are there at a time, and what was made of a snapshot.
async fn live(caller: &Caller, marks: &Marks, kind: &Kind, seed: u64) -> Result<()> {
    let mut before: Option<(Made, Made)> = None;
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
            fill(&root, &bytes, in_place)?;
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
        write(4, true)?;
        say("begin create".into())?;
        let restored = caller.create(&format!("{name}-restored"), kind, Some(&snapshot.id)).await?;
        say(format!("ack create {} {} {first}", restored.id, restored.bytes))?;
        caller.unmount(&volume.id).await?;
        if let Some((volume, snapshot)) = before.replace((volume, snapshot)) {
            say(format!("begin delete {}", volume.id))?;
            caller.delete(&volume.id).await?;
            say(format!("ack delete {}", volume.id))?;
            say(format!("begin unsnapshot {}", snapshot.id))?;
            caller.delete_snapshot(&snapshot.id).await?;
            say(format!("ack unsnapshot {}", snapshot.id))?;
        }
        say(format!("begin delete {}", restored.id))?;
        caller.delete(&restored.id).await?;
        say(format!("ack delete {}", restored.id))?;
    }
    Ok(())
}

async fn write(pool: &Path, disk: &Path, kinds: &str) -> Result<()> {
    let marks = Arc::new(Marks::open(disk)?);
    let caller = Arc::new(Caller::start(pool).await?);
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
async fn look(pool: &Path) -> Result<()> {
    let caller = Caller::start(pool).await?;
    let (volumes, snapshots) = (caller.volumes().await?, caller.snapshots(pool).await?);
    for volume in &volumes {
        let root = caller.mount(&volume.id, &volume.kind).await?;
        println!("volume {} {} {}", volume.id, volume.bytes, sum(&root.join("file")));
        caller.unmount(&volume.id).await?;
    }
    for (snapshot, kind) in &snapshots {
        let restored = caller.create(&format!("look-{}", snapshot.id), kind, Some(&snapshot.id)).await?;
        let root = caller.mount(&restored.id, kind).await?;
        println!("snapshot {} {} {}", snapshot.id, snapshot.bytes, sum(&root.join("file")));
        caller.unmount(&restored.id).await?;
        caller.delete(&restored.id).await?;
    }
    let places = |part: &str| -> Result<Vec<String>> {
        let names =
            fs::read_dir(pool.join(part))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into()));
        names.collect()
    };
    let known = |name: &String| {
        volumes.iter().any(|volume| volume.id == *name)
            || snapshots.iter().any(|(snapshot, _)| snapshot.id == *name)
    };
    for part in ["volumes", "snapshots", "incoming", "gone"] {
        places(part)?
            .iter()
            .filter(|name| !known(name))
            .for_each(|name| println!("damaged: {part}/{name} is left"));
    }
    for volume in &volumes {
        caller.delete(&volume.id).await?;
    }
    for (snapshot, _) in &snapshots {
        caller.delete_snapshot(&snapshot.id).await?;
    }
    for part in ["volumes", "snapshots", "incoming", "gone"] {
        places(part)?.iter().for_each(|name| println!("damaged: {part}/{name} cannot be removed"));
    }
    println!("looked");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write", pool, disk, kinds] => write(Path::new(pool), Path::new(disk), kinds).await,
        ["look", pool] => look(Path::new(pool)).await,
        _ => Err("usage: driver_power write POOL DISK KIND[,KIND...] | driver_power look POOL".into()),
    }
}
