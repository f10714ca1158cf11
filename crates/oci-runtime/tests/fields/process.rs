//! When and where a process runs, and under which labels.

use std::io::Read;
use std::os::fd::AsFd;

use oci_runtime::{create, join};
use serde_json::{Value, json};

use super::{answer, refused};
use crate::{Bench, Outcome, Test, check, pipes};

pub(super) const TESTS: &[Test] = &[
    ("a_scheduler_and_an_io_priority_are_set", scheduler),
    ("a_deadline_that_cannot_be_met_is_named", deadline),
    ("an_execution_domain_is_set", personality),
    ("memory_comes_from_the_nodes_asked_for", memory_policy),
    ("a_process_that_joins_runs_on_its_cpus", affinity),
    ("labels_without_their_module_are_errors", labels),
];

pub(super) fn probe(word: &str) -> Option<Value> {
    let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let field = |n: usize| {
        let rest = own.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_ascii_whitespace().nth(n).unwrap_or_default().to_owned()
    };
    match word {
        "schedule" => Some(json!({
            "nice": field(16), "policy": field(38), "priority": field(37),
            // What ionice(1) asks: the class above bit 13, the priority below.
            "io": kernel::schedule::io_priority().map_or(-1, i64::from),
            "machine": rustix::system::uname().machine().to_string_lossy(),
            "memory": std::fs::read_to_string("/proc/self/numa_maps").unwrap_or_default(),
            "cpus": std::fs::read_to_string("/proc/self/status").unwrap_or_default()
                .lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:\t")).unwrap_or_default(),
        })),
        _ => None,
    }
}

fn scheduler(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["schedule"]);
    spec["process"]["scheduler"] =
        json!({"policy": "SCHED_BATCH", "nice": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]});
    spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    let seen = answer(bench, &spec)?;
    check(seen["policy"] == "3" && seen["nice"] == "5", || seen.to_string())?;
    check(seen["io"] == (2 << 13 | 6), || seen.to_string())?;
    spec["process"]["scheduler"] = json!({"policy": "SCHED_IDLE"});
    spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    let seen = answer(bench, &spec)?;
    check(seen["policy"] == "5" && seen["io"] == 3 << 13, || seen.to_string())
}

fn deadline(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["schedule"]);
    // Shorter than the kernel's own resolution.
    spec["process"]["scheduler"] =
        json!({"policy": "SCHED_DEADLINE", "runtime": 2, "deadline": 3, "period": 4});
    refused(bench, &spec, &["cannot set the scheduler (process.scheduler): "])
}

fn personality(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["schedule"]);
    let plain = answer(bench, &spec)?;
    spec["linux"]["personality"] = json!({"domain": "LINUX32"});
    let seen = answer(bench, &spec)?;
    let narrow = match plain["machine"].as_str() {
        Some("x86_64") => "i686",
        Some("aarch64") => "armv8l",
        other => return Err(format!("which machine is {other:?}?").into()),
    };
    check(seen["machine"] == narrow, || seen.to_string())
}

fn memory_policy(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["schedule"]);
    spec["linux"]["memoryPolicy"] =
        json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    let seen = answer(bench, &spec)?;
    let maps = seen["memory"].as_str().unwrap_or_default();
    check(maps.contains(" bind=static:0 "), || maps.to_owned())?;
    spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "1000"});
    refused(bench, &spec, &["linux.memoryPolicy", "none of the nodes"])
}

fn affinity(bench: &Bench) -> Outcome {
    let mut own = [0; 128];
    kernel::schedule::affinity(&mut own)?;
    let cpus: Vec<usize> = (0..128 * 64).filter(|n| own[n / 64] >> (n % 64) & 1 == 1).collect();
    let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
    let spec = bench.parsed(&bench.spec(&["sleep"]))?;
    let (mut streams, stdio) = pipes()?;
    let (child, _) = create(&spec, bench.setup(Some(stdio)))?.start()?;
    streams.out.read_exact(&mut [0; 3])?;
    let run = |affinity: Value| -> Result<Value, Box<dyn std::error::Error>> {
        let mut process = bench.spec(&["schedule"])["process"].clone();
        process["execCPUAffinity"] = affinity;
        let process = oci_runtime::contract::parse_process(process.to_string().as_bytes())?;
        let (streams, stdio) = pipes()?;
        let how = bench.join(&spec, &child, Some(stdio));
        let (second, warnings) = join(&process, how)?.start()?;
        Ok(streams.finish(&second, "", warnings)?.answer()["cpus"].clone())
    };
    let final_only = run(json!({"final": last.to_string()}))?;
    check(final_only == *last.to_string(), || final_only.to_string())?;
    let both = run(json!({"initial": first.to_string(), "final": last.to_string()}))?;
    check(both == *last.to_string(), || both.to_string())?;
    let nobody = run(json!({"final": "8000"})).err().ok_or("it ran")?.to_string();
    check(nobody.contains("process.execCPUAffinity") && nobody.contains("none of these CPUs"), || {
        nobody.clone()
    })?;
    let mut after = [0; 128];
    kernel::schedule::affinity(&mut after)?;
    check(own == after, || "this process runs on other CPUs than before".into())?;
    kernel::process::signal(child.pidfd.as_fd(), 9)?;
    child.wait()?;
    Ok(())
}

fn labels(bench: &Bench) -> Outcome {
    let enabled = std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|t| t.starts_with(b"Y"));
    let mut spec = bench.spec(&["exit", "0"]);
    spec["process"]["apparmorProfile"] = "sextant-no-such-profile".into();
    let word = if enabled { "no such profile is loaded" } else { "AppArmor is not enabled" };
    refused(bench, &spec, &["process.apparmorProfile", word])?;
    let mut spec = bench.spec(&["exit", "0"]);
    spec["process"]["selinuxLabel"] = "sextant_no_such_label".into();
    let enabled = std::path::Path::new("/sys/fs/selinux/enforce").exists();
    let word = if enabled { "the policy has no such label" } else { "SELinux is not enabled" };
    refused(bench, &spec, &["process.selinuxLabel", word])
}
