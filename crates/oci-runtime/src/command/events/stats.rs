//! A cgroup's counters, from whichever hierarchy has them.

use std::collections::BTreeMap;

use kernel::cgroup::Cgroup;
use serde_json::{Value, json};

/// All counters, as runc's readers know them.
pub(super) fn read(cgroup: &Cgroup) -> Value {
    json!({
        "cpu": cpu(cgroup),
        "cpuset": cpuset(cgroup),
        "memory": memory(cgroup),
        "pids": pids(cgroup),
        "blkio": block_io(cgroup),
        "hugetlb": huge_pages(cgroup),
        "intel_rdt": {},
        "network_interfaces": Value::Null,
    })
}

fn number(cgroup: &Cgroup, file: &str) -> Option<u64> {
    match cgroup.read(file)?.trim() {
        "max" => Some(u64::MAX),
        text => text.parse().ok(),
    }
}

/// A file of keys and numbers.
fn keyed(cgroup: &Cgroup, file: &str) -> BTreeMap<String, u64> {
    let text = cgroup.read(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

fn cpu(cgroup: &Cgroup) -> Value {
    let stat = keyed(cgroup, "cpu.stat");
    let get = |key: &str| stat.get(key).copied().unwrap_or(0);
    let usage = if let Some(total) = number(cgroup, "cpuacct.usage") {
        let list = |file: &str| -> Vec<u64> {
            let text = cgroup.read(file).unwrap_or_default();
            text.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect()
        };
        json!({
            "total": total,
            "percpu": list("cpuacct.usage_percpu"),
            "percpu_kernel": list("cpuacct.usage_percpu_sys"),
            "percpu_user": list("cpuacct.usage_percpu_user"),
            "kernel": number(cgroup, "cpuacct.usage_sys").unwrap_or(0),
            "user": number(cgroup, "cpuacct.usage_user").unwrap_or(0),
        })
    } else {
        json!({
            "total": get("usage_usec") * 1000,
            "kernel": get("system_usec") * 1000,
            "user": get("user_usec") * 1000,
        })
    };
    // v1 counts nanoseconds, v2 microseconds.
    let throttled = stat.get("throttled_time").copied().unwrap_or(get("throttled_usec") * 1000);
    let mut cpu = json!({
        "usage": usage,
        "throttling": {
            "periods": get("nr_periods"),
            "throttledPeriods": get("nr_throttled"),
            "throttledTime": throttled,
        },
    });
    add_pressure(&mut cpu, cgroup, "cpu.pressure");
    cpu
}

fn cpuset(cgroup: &Cgroup) -> Value {
    let list = |names: [&str; 2]| {
        let text = names.iter().find_map(|name| cgroup.read(name).filter(|text| !text.trim().is_empty()));
        let text = text.unwrap_or_default();
        expand(text.trim())
    };
    let flag = |file: &str| number(cgroup, file).unwrap_or(0);
    json!({
        "cpus": list(["cpuset.cpus", "cpuset.cpus.effective"]),
        "cpu_exclusive": flag("cpuset.cpu_exclusive"),
        "mems": list(["cpuset.mems", "cpuset.mems.effective"]),
        "mem_hardwall": flag("cpuset.mem_hardwall"),
        "mem_exclusive": flag("cpuset.mem_exclusive"),
        "memory_migrate": flag("cpuset.memory_migrate"),
        "memory_spread_page": flag("cpuset.memory_spread_page"),
        "memory_spread_slab": flag("cpuset.memory_spread_slab"),
        "memory_pressure": flag("cpuset.memory_pressure"),
        "sched_load_balance": flag("cpuset.sched_load_balance"),
        "sched_relax_domain_level":
            cgroup.read("cpuset.sched_relax_domain_level").and_then(|t| t.trim().parse::<i64>().ok()).unwrap_or(0),
    })
}

/// The numbers of a list like `0-2,7`.
fn expand(list: &str) -> Vec<u16> {
    let mut numbers = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            numbers.extend(first..=last);
        }
    }
    numbers
}

fn memory(cgroup: &Cgroup) -> Value {
    let raw = keyed(cgroup, "memory.stat");
    let v1 = number(cgroup, "memory.usage_in_bytes").is_some();
    let entry = |files: [&str; 4]| {
        let [limit, usage, max, failures] = files.map(|file| number(cgroup, file).unwrap_or(0));
        json!({"limit": limit, "usage": usage, "max": max, "failcnt": failures})
    };
    let of_v1 = |name: &str| {
        let file = |end: &str| format!("memory.{name}{end}");
        let files =
            [file("limit_in_bytes"), file("usage_in_bytes"), file("max_usage_in_bytes"), file("failcnt")];
        entry([&files[0], &files[1], &files[2], &files[3]])
    };
    let none = json!({"limit": 0, "failcnt": 0});
    let mut memory = if v1 {
        json!({
            "cache": raw.get("cache").copied().unwrap_or(0),
            "usage": of_v1(""),
            "swap": of_v1("memsw."),
            "kernel": of_v1("kmem."),
            "kernelTCP": of_v1("kmem.tcp."),
            "raw": raw,
        })
    } else {
        json!({
            "cache": raw.get("file").copied().unwrap_or(0),
            "usage": entry(["memory.max", "memory.current", "memory.peak", "-"]),
            // v1 counts memory and swap together, which is what readers expect.
            "swap": with_memory(cgroup),
            "kernel": none,
            "kernelTCP": none,
            "raw": raw,
        })
    };
    let events = keyed(cgroup, "memory.events");
    if !events.is_empty() {
        memory["event_count"] = json!(events);
    }
    add_pressure(&mut memory, cgroup, "memory.pressure");
    memory
}

fn with_memory(cgroup: &Cgroup) -> Value {
    let both = |swap: &str, memory: &str| {
        number(cgroup, swap).unwrap_or(0).saturating_add(number(cgroup, memory).unwrap_or(0))
    };
    json!({
        "limit": both("memory.swap.max", "memory.max"),
        "usage": both("memory.swap.current", "memory.current"),
        "failcnt": 0,
    })
}

fn pids(cgroup: &Cgroup) -> Value {
    let limit = number(cgroup, "pids.max").filter(|limit| *limit != u64::MAX).unwrap_or(0);
    // Without the controller they can be counted all the same.
    let count = || cgroup.pids().map_or(0, |pids| pids.len() as u64);
    json!({"current": number(cgroup, "pids.current").unwrap_or_else(count), "limit": limit})
}

fn block_io(cgroup: &Cgroup) -> Value {
    let mut block_io = json!({});
    let files = [
        ("ioServiceBytesRecursive", "io_service_bytes_recursive"),
        ("ioServicedRecursive", "io_serviced_recursive"),
    ];
    for (name, file) in files {
        let read = |prefix: &str| cgroup.read(&format!("blkio.{prefix}{file}"));
        let text = read("bfq.").or_else(|| read("throttle.")).unwrap_or_default();
        let entries: Vec<Value> = text.lines().filter_map(block_entry).collect();
        if !entries.is_empty() {
            block_io[name] = entries.into();
        }
    }
    if let Some(text) = cgroup.read("io.stat") {
        let pick = |wanted: [(&str, &str); 2]| -> Vec<Value> {
            text.lines().flat_map(|line| unified_entries(line, wanted)).collect()
        };
        let (bytes, operations) =
            (pick([("rbytes", "Read"), ("wbytes", "Write")]), pick([("rios", "Read"), ("wios", "Write")]));
        if !bytes.is_empty() {
            block_io["ioServiceBytesRecursive"] = bytes.into();
            block_io["ioServicedRecursive"] = operations.into();
        }
    }
    add_pressure(&mut block_io, cgroup, "io.pressure");
    block_io
}

/// A line of v1: `8:0 Read 4096`.
fn block_entry(line: &str) -> Option<Value> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let (major, minor) = (major.parse::<u64>().ok()?, minor.parse::<u64>().ok()?);
    let (operation, value) = (words.next()?, words.next()?.parse::<u64>().ok()?);
    Some(json!({"major": major, "minor": minor, "op": operation, "value": value}))
}

/// A line of v2: `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn unified_entries(line: &str, wanted: [(&str, &str); 2]) -> Vec<Value> {
    let mut words = line.split_ascii_whitespace();
    let device = words.next().and_then(|d| d.split_once(':'));
    let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse::<u64>(), b.parse::<u64>())) else {
        return Vec::new();
    };
    let found =
        |key: &str| line.split_ascii_whitespace().find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
    wanted
        .into_iter()
        .filter_map(|(key, operation)| {
            let value = found(key)?.parse::<u64>().ok()?;
            Some(json!({"major": major, "minor": minor, "op": operation, "value": value}))
        })
        .collect()
}

fn huge_pages(cgroup: &Cgroup) -> Value {
    let sizes = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut all = json!({});
    for size in sizes {
        let name = size.file_name();
        let kib =
            name.to_str().and_then(|n| n.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok());
        let Some(kib) = kib else { continue };
        let size = if kib >= 1 << 20 { format!("{}GB", kib >> 20) } else { format!("{}MB", kib >> 10) };
        let one = |v1: &str, v2: &str| {
            let read = |end: &str| number(cgroup, &format!("hugetlb.{size}.{end}"));
            read(v2).or_else(|| read(v1))
        };
        let Some(usage) = one("usage_in_bytes", "current") else { continue };
        let failures = keyed(cgroup, &format!("hugetlb.{size}.events")).get("max").copied();
        all[&size] = json!({
            "usage": usage,
            "max": one("max_usage_in_bytes", "-").unwrap_or(0),
            "failcnt": failures.or_else(|| one("failcnt", "-")).unwrap_or(0),
        });
    }
    all
}

/// Pressure stall information, where the kernel has it: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn add_pressure(of: &mut Value, cgroup: &Cgroup, file: &str) {
    let Some(text) = cgroup.read(file) else { return };
    let mut pressure = json!({});
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(kind) = words.next() else { continue };
        let mut data = json!({});
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            data[key] = match key {
                "total" => json!(value.parse::<u64>().unwrap_or(0)),
                _ => json!(value.parse::<f64>().unwrap_or(0.0)),
            };
        }
        pressure[kind] = data;
    }
    of["psi"] = pressure;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        assert_eq!(expand("0-2,7"), [0, 1, 2, 7]);
        assert_eq!(expand("3-1,x"), Vec::<u16>::new());
        assert_eq!(block_entry("8:0 Read 4096").unwrap()["value"], 4096);
        assert_eq!(block_entry("Total 0"), None);
        let both = unified_entries("8:0 rbytes=1 wbytes=2 rios=3", [("rbytes", "Read"), ("wbytes", "Write")]);
        assert_eq!((both.len(), &both[1]["value"]), (2, &json!(2)));
    }
}
