//! Limits, as the container's cgroup has them.

use std::fs;
use std::path::{Path, PathBuf};

use kernel::cgroup::{Layout, layout};
use serde_json::{Value, json};

use super::refused;
use crate::{Bench, Outcome, Test, check};

pub(super) const TESTS: &[Test] = &[
    ("a_block_device_is_throttled", throttle),
    ("real_time_takes_its_share_of_the_cgroup", real_time),
    ("quota_period_and_burst_bound_each_other", cpu),
    ("no_pids_means_no_fork", pids),
    ("controllers_that_are_not_there_are_named", absent),
    ("a_unified_key_is_named", unified),
    ("children_count_against_the_memory_limit", hierarchy),
];

fn unified_machine() -> bool {
    layout().is_ok_and(|l| l == Layout::Unified)
}

/// A file of the container's cgroup, by the controller that has it in v1.
fn file(bench: &Bench, controller: &str, name: &str) -> PathBuf {
    let root = Path::new("/sys/fs/cgroup");
    let root = if unified_machine() { root.into() } else { root.join(controller) };
    root.join(bench.cgroup.path()).join(name)
}

fn text(bench: &Bench, controller: &str, name: &str) -> Result<String, Box<dyn std::error::Error>> {
    let file = file(bench, controller, name);
    Ok(fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?.trim().to_owned())
}

fn with(bench: &Bench, resources: Value) -> Value {
    let mut spec = bench.spec(&["exit", "0"]);
    spec["linux"]["resources"] = resources;
    spec
}

/// A whole disk of this machine.
fn disk() -> Result<(u32, u32), Box<dyn std::error::Error>> {
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let numbers = fs::read_to_string(entry.path().join("dev"))?;
        if let Some((major, minor)) = numbers.trim().split_once(':') {
            return Ok((major.parse()?, minor.parse()?));
        }
    }
    Err("this machine has no block device".into())
}

fn throttle(bench: &Bench) -> Outcome {
    let (major, minor) = disk()?;
    let one = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let limits =
        json!({"blockIO": {"throttleReadBpsDevice": one(1 << 20), "throttleWriteIOPSDevice": one(77)}});
    bench.run(&with(bench, limits))?;
    if unified_machine() {
        let line = text(bench, "io", "io.max")?;
        return check(line == format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=77"), || line);
    }
    let bytes = text(bench, "blkio", "blkio.throttle.read_bps_device")?;
    check(bytes == format!("{major}:{minor} 1048576"), || bytes)?;
    let writes = text(bench, "blkio", "blkio.throttle.write_iops_device")?;
    check(writes == format!("{major}:{minor} 77"), || writes)?;
    let unknown = json!({"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 5}]}});
    refused(bench, &with(bench, unknown), &["4000:1 5", "read_bps_device"])
}

fn real_time(bench: &Bench) -> Outcome {
    let limits = json!({"cpu": {"realtimeRuntime": 1000, "realtimePeriod": 500_000}});
    if !file(bench, "cpu", "cpu.rt_runtime_us").exists() {
        return refused(bench, &with(bench, limits), &["real-time cpu time", "cpu.rt_runtime_us"]);
    }
    let mut spec = bench.spec(&["schedule"]);
    spec["linux"]["resources"] = limits;
    spec["process"]["scheduler"] = json!({"policy": "SCHED_RR", "priority": 3});
    let seen = super::answer(bench, &spec)?;
    check(seen["policy"] == "2" && seen["priority"] == "3", || seen.to_string())?;
    let set = (text(bench, "cpu", "cpu.rt_runtime_us")?, text(bench, "cpu", "cpu.rt_period_us")?);
    check(set == ("1000".into(), "500000".into()), || format!("{set:?}"))
}

fn cpu(bench: &Bench) -> Outcome {
    bench.run(&with(bench, json!({"cpu": {"quota": 50_000, "period": 100_000, "burst": 40_000}})))?;
    // Each of these is refused beside an old value of another.
    bench.run(&with(bench, json!({"cpu": {"quota": 2_000, "period": 10_000, "burst": 1_000}})))?;
    bench.run(&with(bench, json!({"cpu": {"quota": 500_000, "period": 1_000_000, "burst": 400_000}})))?;
    if unified_machine() {
        let set = (text(bench, "cpu", "cpu.max")?, text(bench, "cpu", "cpu.max.burst")?);
        return check(set == ("500000 1000000".into(), "400000".into()), || format!("{set:?}"));
    }
    let names = ["cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us"];
    let set = names.map(|name| text(bench, "cpu", name).unwrap_or_else(|e| e.to_string()));
    check(set == ["500000", "1000000", "400000"], || format!("{set:?}"))
}

fn pids(bench: &Bench) -> Outcome {
    let done = bench.run(&with(bench, json!({"pids": {"limit": 0}})))?;
    check(done.exit == kernel::process::Exit::Code(0), || format!("{done:?}"))?;
    check(text(bench, "pids", "pids.max")? == "1", || "not 1".into())?;
    bench.run(&with(bench, json!({"pids": {"limit": -1}})))?;
    check(text(bench, "pids", "pids.max")? == "max", || "not max".into())
}

fn absent(bench: &Bench) -> Outcome {
    let of_v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let mounted = |controller: &str| {
        Path::new("/sys/fs/cgroup").join(controller).exists()
            || of_v2.split_whitespace().any(|known| known == controller)
    };
    let mut seen = 0;
    for (controller, limits, word) in [
        ("net_cls", json!({"network": {"classID": 65_537}}), "network class"),
        (
            "net_prio",
            json!({"network": {"priorities": [{"name": "lo", "priority": 2}]}}),
            "network priorities",
        ),
        ("rdma", json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}), "rdma"),
    ] {
        if !mounted(controller) {
            seen += 1;
            refused(bench, &with(bench, limits), &["cannot apply the limit", word, controller])?;
        }
    }
    check(seen > 0, || "this machine has every controller: nothing was tested".into())
}

fn unified(bench: &Bench) -> Outcome {
    let words = ["linux.resources.unified.nosuch.max", "the controller nosuch is not enabled"];
    refused(bench, &with(bench, json!({"unified": {"nosuch.max": "5"}})), &words)?;
    let words = ["linux.resources.unified.cgroup.max.depth", "\"deep\""];
    refused(bench, &with(bench, json!({"unified": {"cgroup.max.depth": "deep"}})), &words)?;
    bench.run(&with(bench, json!({"unified": {"cgroup.max.depth": "7"}})))?;
    let root = if unified_machine() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" };
    let set = fs::read_to_string(Path::new(root).join(bench.cgroup.path()).join("cgroup.max.depth"))?;
    check(set.trim() == "7", || set.clone())
}

fn hierarchy(bench: &Bench) -> Outcome {
    bench.run(&with(
        bench,
        json!({"memory": {"useHierarchy": true, "limit": 64 << 20, "checkBeforeUpdate": true}}),
    ))?;
    if unified_machine() {
        return Ok(());
    }
    // Linux 5.11 took the other way of counting away.
    refused(bench, &with(bench, json!({"memory": {"useHierarchy": false}})), &["memory.use_hierarchy"])
}
