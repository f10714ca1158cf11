//! What pods of a runtime use, as rows of a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cri::contract::v1::{
    ContainerStats, ContainerStatus, CpuUsage, FilesystemUsage, ListPodSandboxStatsRequest, MemoryUsage,
    PodSandboxStats, PodSandboxStatsFilter, UInt64Value,
};

use crate::failure::Result;
use crate::pods::{Held, Runtime};

/// What one pod or container uses.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) id: String,
    /// The container's name, or the pod's.
    pub(super) name: String,
    /// NAMESPACE/NAME, of a pod and of its containers.
    pub(super) pod: Option<String>,
    /// It is a pod's container.
    pub(super) within: bool,
    /// Nanoseconds of CPU time, and when that was read.
    pub(super) cpu: Option<(u64, i64)>,
    /// CPUs in use, as the runtime reckons.
    pub(super) rate: Option<f64>,
    pub(super) memory: Option<u64>,
    pub(super) limit: Option<u64>,
    pub(super) pids: Option<u64>,
    /// Bytes and files of its writable layer.
    pub(super) disk: Option<u64>,
    pub(super) inodes: Option<u64>,
    /// Bytes of its logs, rotated ones too.
    pub(super) log: Option<u64>,
    pub(super) oom_kills: Option<u64>,
}

impl Row {
    /// CPUs in use since an earlier look: 1.5 is one and a half.
    pub(super) fn cpus(&self, before: &[Row]) -> Option<f64> {
        let earlier = before.iter().find(|row| row.id == self.id).and_then(|row| row.cpu);
        let reckoned = || {
            let ((now, at), (then, since)) = (self.cpu?, earlier?);
            let passed = at.checked_sub(since).filter(|passed| *passed > 0)?;
            Some(now.checked_sub(then)? as f64 / passed as f64)
        };
        reckoned().or(self.rate)
    }
}

/// Rows of pods that are ready, each with its containers behind it; only the container with this id if one is given.
pub(super) fn of_pods(runtime: &Runtime, pod: Option<&str>, container: Option<&str>) -> Result<Vec<Row>> {
    let filter =
        pod.map(|id| PodSandboxStatsFilter { id: id.to_owned(), ..PodSandboxStatsFilter::default() });
    let request = ListPodSandboxStatsRequest { filter };
    let answer = runtime.ask("read what pods use", async |c| c.list_pod_sandbox_stats(request).await)?;
    let held = runtime.held()?;
    let mut rows = Vec::new();
    for pod in answer.stats {
        let name = name_of(&pod);
        let linux = pod.linux.clone().unwrap_or_default();
        let mut within = Vec::new();
        for stats in &linux.containers {
            let id = stats.attributes.as_ref().map_or("", |a| a.id.as_str());
            if container.is_none_or(|wanted| wanted == id) && is_running(stats) {
                within.push(of_container(runtime, &held, &name, stats));
            }
        }
        let sum = |part: fn(&Row) -> Option<u64>| within.iter().filter_map(part).reduce(|a, b| a + b);
        let mut row = Row {
            id: pod.attributes.as_ref().map(|a| a.id.clone()).unwrap_or_default(),
            name: name.clone(),
            pod: Some(name),
            pids: linux.process.and_then(|process| value(process.process_count)),
            disk: sum(|row| row.disk),
            inodes: sum(|row| row.inodes),
            log: sum(|row| row.log),
            ..Row::default()
        };
        row.take(linux.cpu.as_ref(), linux.memory.as_ref());
        if container.is_none() {
            rows.push(row);
        }
        within.sort_by(|a, b| a.name.cmp(&b.name));
        rows.extend(within);
    }
    Ok(rows)
}

fn is_running(stats: &ContainerStats) -> bool {
    stats.cpu.is_some()
}

fn name_of(pod: &PodSandboxStats) -> String {
    let metadata = pod.attributes.as_ref().and_then(|a| a.metadata.as_ref());
    metadata.map(|m| format!("{}/{}", m.namespace, m.name)).unwrap_or_default()
}

fn of_container(runtime: &Runtime, held: &Held, pod: &str, stats: &ContainerStats) -> Row {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let layer = stats.writable_layer.as_ref();
    let of_layer = |part: fn(&FilesystemUsage) -> Option<UInt64Value>| layer.and_then(|l| value(part(l)));
    let is_here = held.containers.iter().any(|c| c.id == attributes.id);
    // One that has gone meanwhile has no log.
    let status = is_here.then(|| runtime.status(&attributes.id, false).ok()?.status).flatten();
    let mut row = Row {
        id: attributes.id,
        name: attributes.metadata.map(|m| m.name).unwrap_or_default(),
        pod: Some(pod.to_owned()),
        within: true,
        disk: of_layer(|l| l.used_bytes),
        inodes: of_layer(|l| l.inodes_used),
        log: status.as_ref().and_then(log_of),
        ..Row::default()
    };
    row.take(stats.cpu.as_ref(), stats.memory.as_ref());
    row
}

impl Row {
    fn take(&mut self, cpu: Option<&CpuUsage>, memory: Option<&MemoryUsage>) {
        self.cpu = cpu.and_then(|cpu| Some((value(cpu.usage_core_nano_seconds)?, cpu.timestamp)));
        self.rate = cpu.and_then(|cpu| value(cpu.usage_nano_cores)).map(|nanos| nanos as f64 / 1e9);
        self.memory = memory.and_then(|memory| value(memory.working_set_bytes));
        let available = memory.and_then(|memory| value(memory.available_bytes)).filter(|bytes| *bytes > 0);
        self.limit = available.zip(self.memory).map(|(available, used)| available.saturating_add(used));
    }
}

fn value(value: Option<UInt64Value>) -> Option<u64> {
    value.map(|value| value.value)
}

fn log_of(status: &ContainerStatus) -> Option<u64> {
    (!status.log_path.is_empty()).then(|| log_bytes(Path::new(&status.log_path)))
}

/// The bytes of a log and of what was rotated away from it.
pub(super) fn log_bytes(path: &Path) -> u64 {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return 0 };
    let name = name.to_string_lossy();
    let is_of =
        |other: &str| other.strip_prefix(&*name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.filter(|entry| is_of(&entry.file_name().to_string_lossy()));
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Pods by what they use, those that use most first, each with its containers behind it.
pub(super) fn by_use(rows: Vec<Row>, before: &[Row]) -> Vec<Row> {
    let rank = |row: &Row| row.cpus(before).unwrap_or(0.0);
    let mut groups: Vec<Vec<Row>> = Vec::new();
    let mut at: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let key = row.pod.clone().unwrap_or_else(|| row.id.clone());
        let group = *at.entry(key).or_insert(groups.len());
        match groups.get_mut(group) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    let most = |group: &[Row]| group.iter().map(rank).fold(0.0, f64::max);
    groups.sort_by(|a, b| most(b).total_cmp(&most(a)));
    for group in &mut groups {
        group.sort_by(|a, b| a.within.cmp(&b.within).then(rank(b).total_cmp(&rank(a))));
    }
    groups.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, pod: Option<&str>, within: bool, rate: f64) -> Row {
        let pod = pod.map(str::to_owned);
        Row { id: id.into(), pod, within, rate: Some(rate), ..Row::default() }
    }

    #[test]
    fn those_that_use_most_come_first_and_pods_stay_together() {
        let rows = vec![
            row("p", Some("n/p"), false, 0.1),
            row("p-a", Some("n/p"), true, 0.02),
            row("p-b", Some("n/p"), true, 0.08),
            row("own", None, false, 0.3),
            row("q", Some("n/q"), false, 0.5),
        ];
        let sorted: Vec<String> = by_use(rows, &[]).into_iter().map(|row| row.id).collect();
        assert_eq!(sorted, ["q", "own", "p", "p-b", "p-a"]);
    }

    #[test]
    fn a_share_of_the_cpu_is_between_two_looks() {
        let before = Row { id: "a".into(), cpu: Some((1_000, 0)), ..Row::default() };
        let now = Row { cpu: Some((1_500, 1_000)), ..before.clone() };
        assert_eq!(now.cpus(std::slice::from_ref(&before)), Some(0.5));
        assert_eq!(before.cpus(std::slice::from_ref(&before)), None, "no time has passed");
    }

    #[test]
    fn rotated_logs_count() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("0.log", "12345"), ("0.log.1.gz", "678"), ("00.log", "x"), ("0.logs", "x")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        assert_eq!(log_bytes(&dir.path().join("0.log")), 8);
    }
}
