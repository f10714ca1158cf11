//! Rotation of containers' logs: `0.log` becomes `0.log.20260102-030405`, and that `0.log.20260102-030405.gz` when the next one comes.
//!
//! A rotation that ended half-way is made good by the next one: what was compressed is there twice, or is no whole file yet (`.tmp`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::contract::v1::ReopenContainerLogRequest;
use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::jiff::Timestamp;

use crate::agent::Agent;
use crate::names::Key;
use crate::observed::is_running;
use crate::runtime::cause;
use crate::volumes;

/// Rotates all logs that are too large.
pub(super) async fn rotate(agent: &Arc<Agent>) {
    for pod in agent.all_pods() {
        let key = Key::of(&pod);
        let large = large(&key.logs(&agent.setup.logs), agent.setup.limits.log_size);
        if !large.is_empty()
            && let Err(why) = rotate_pod(agent, &key, &large).await
        {
            eprintln!("sextant agent: warning: cannot rotate logs of pod {}: {why}", key.words());
        }
    }
}

/// Logs of a pod that are larger than this, or were moved away by an agent that was killed before the container was told.
fn large(pod: &Path, most: u64) -> Vec<PathBuf> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let mut found = BTreeSet::new();
    for log in entries(pod).flat_map(|container| entries(&container.path())) {
        let name = log.file_name().to_string_lossy().into_owned();
        if name.ends_with(".log") {
            if log.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > most) {
                found.insert(log.path());
            }
        } else if let Some((number, _)) = name.split_once(".log.") {
            let moved = log.path().with_file_name(format!("{number}.log"));
            if !moved.exists() {
                found.insert(moved);
            }
        }
    }
    found.into_iter().collect()
}

async fn rotate_pod(agent: &Arc<Agent>, key: &Key, large: &[PathBuf]) -> Result<(), String> {
    let observed = agent.runtime.observe(&key.uid).await.map_err(|error| cause(&error))?;
    for container in observed.containers.iter().filter(|one| is_running(one)) {
        let log = PathBuf::from(&container.log_path);
        if !large.contains(&log) {
            continue;
        }
        let reopen = async || {
            let request = ReopenContainerLogRequest { container_id: container.id.clone() };
            agent.runtime.client().await?.reopen_container_log(request).await
        };
        if !log.exists() {
            reopen().await.map_err(|error| cause(&error))?;
            continue;
        }
        let (path, files) = (log.clone(), agent.setup.limits.log_files);
        // To compress takes a while.
        let preparing = tokio::task::spawn_blocking(move || prepare(&path, files));
        let failed = |error: io::Error| format!("{}: {error}", log.display());
        preparing.await.map_err(|error| error.to_string())?.map_err(failed)?;
        let old = named(&log, &stamp(Timestamp::now()));
        if old.exists() {
            continue;
        }
        fs::rename(&log, &old).map_err(failed)?;
        if let Err(error) = reopen().await {
            // It writes to the old one still.
            if !log.exists() {
                fs::rename(&old, &log).map_err(failed)?;
            }
            return Err(cause(&error));
        }
    }
    Ok(())
}

/// Makes room for one more: the oldest go, and all but the one to come are compressed.
fn prepare(log: &Path, files: usize) -> io::Result<()> {
    let mut rotated = rotated(log)?;
    rotated.retain(|path| {
        let is_left = path.extension().is_some_and(|ext| ext == "tmp") || named(path, "gz").exists();
        !is_left || fs::remove_file(path).is_err()
    });
    // The one that is written, and the one that it becomes.
    let excess = rotated.len().saturating_sub(files.saturating_sub(2));
    for path in rotated.drain(..excess) {
        fs::remove_file(path)?;
    }
    rotated
        .iter()
        .filter(|path| path.extension().is_none_or(|ext| ext != "gz"))
        .try_for_each(|path| compress(path))
}

fn compress(path: &Path) -> io::Result<()> {
    let (half, whole) = (named(path, "tmp"), named(path, "gz"));
    let mut log = volumes::open(path)?;
    // Who may not read the log may not read this.
    let mode = log.metadata()?.permissions().mode() & 0o666;
    let file = File::options().write(true).create(true).truncate(true).mode(mode).open(&half)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    io::copy(&mut log, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(half, whole)?;
    fs::remove_file(path)
}

/// The files that a log has become, the oldest first.
pub(super) fn rotated(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    let begin = [name.as_encoded_bytes(), b"."].concat();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(&begin) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Removes a log, with all that it has become.
pub(crate) fn remove(log: &Path) {
    // What stays goes with the pod.
    for path in rotated(log).unwrap_or_default() {
        let _ = fs::remove_file(path);
    }
    let _ = fs::remove_file(log);
}

fn named(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    name.into()
}

fn stamp(now: Timestamp) -> String {
    now.strftime("%Y%m%d-%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_oldest_go_and_the_others_are_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        let at = |name: &str| dir.path().join(name);
        fs::write(&log, "now").unwrap();
        // Two of a rotation that ended half-way, and one of another container's start.
        for name in [
            "0.log.20260101-000001.gz",
            "0.log.20260101-000002.gz",
            "0.log.20260101-000002",
            "0.log.20260101-000003",
            "0.log.20260101-000004",
            "0.log.20260101-000004.tmp",
            "10.log.20260101-000001",
        ] {
            fs::write(at(name), name).unwrap();
        }
        prepare(&log, 4).unwrap();
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|one| one.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            ["0.log", "0.log.20260101-000003.gz", "0.log.20260101-000004.gz", "10.log.20260101-000001"]
        );
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(at("0.log.20260101-000004.gz")).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "0.log.20260101-000004");
        remove(&log);
        assert!(
            !log.exists()
                && at("10.log.20260101-000001").exists()
                && !at("0.log.20260101-000003.gz").exists()
        );
    }

    #[test]
    fn a_log_that_a_killed_agent_has_moved_away_is_found() {
        let pod = tempfile::tempdir().unwrap();
        let at = |name: &str| pod.path().join("main").join(name);
        fs::create_dir(pod.path().join("main")).unwrap();
        for (name, size) in [("0.log", 11), ("1.log", 10), ("1.log.20260101-000001.gz", 99)] {
            fs::write(at(name), vec![b'x'; size]).unwrap();
        }
        assert_eq!(large(pod.path(), 10), [at("0.log")]);
        fs::rename(at("1.log"), at("1.log.20260101-000002")).unwrap();
        assert_eq!(large(pod.path(), 10), [at("0.log"), at("1.log")]);
    }

    #[test]
    fn names_are_a_kubelets() {
        assert_eq!(stamp(Timestamp::from_second(0).unwrap()), "19700101-000000");
    }
}
