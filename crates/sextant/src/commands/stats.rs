use std::io::IsTerminal;
use std::time::{Duration, Instant};

use kernel::cgroup::{Cgroup, Usage};
use serde_json::json;

use crate::cli::StatsArgs;
use crate::container::{self, Record};
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::output::{self, Table, bytes};

/// One look at one container.
struct Sample {
    record: Record,
    at: Instant,
    usage: Usage,
}

pub(super) fn run(instance: &Instance, args: &StatsArgs) -> Result<()> {
    let live = std::io::stdout().is_terminal() && !args.no_stream && !args.output.json();
    let mut before = sample(instance, args)?;
    // A share of the CPU takes two looks.
    std::thread::sleep(Duration::from_millis(200));
    loop {
        let now = sample(instance, args)?;
        if args.output.json() {
            let list: Vec<_> = now.iter().map(|s| to_json(s, cpu(&before, s))).collect();
            return Ok(output::json(&json!(list))?);
        }
        let mut table = Table::new(["ID", "NAME", "CPU", "MEMORY", "LIMIT", "PIDS"]);
        for sample in &now {
            let usage = &sample.usage;
            table.row([
                output::short(&sample.record.id).into(),
                sample.record.name.clone(),
                cpu(&before, sample).map_or_else(|| "-".into(), |c| format!("{:.1} %", c * 100.0)),
                memory(usage).map_or_else(|| "-".into(), bytes),
                usage.memory_limit.map_or_else(|| "none".into(), bytes),
                usage.pids.map_or_else(|| "-".into(), |p| p.to_string()),
            ]);
        }
        if live {
            // From the top of a cleared screen.
            print!("\x1b[H\x1b[2J");
        }
        table.print()?;
        if !live {
            return Ok(());
        }
        before = now;
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn sample(instance: &Instance, args: &StatsArgs) -> Result<Vec<Sample>> {
    let records = if args.containers.is_empty() {
        Record::all(instance)?.into_iter().filter(|r| container::state_of(instance, r).is_active()).collect()
    } else {
        args.containers.iter().map(|name| running(instance, name)).collect::<Result<Vec<_>>>()?
    };
    records
        .into_iter()
        .map(|record| {
            let usage = Cgroup::at(&instance.cgroup(&record.id))?.usage();
            Ok(Sample { record, at: Instant::now(), usage })
        })
        .collect()
}

fn running(instance: &Instance, name: &str) -> Result<Record> {
    let record = container::find(instance, name)?;
    if container::state_of(instance, &record).is_active() {
        return Ok(record);
    }
    let name = &record.name;
    Err(Failure::new(format!(
        "container {name} is not running: it uses nothing (start it: sextant start {name})"
    )))
}

/// CPUs in use between two looks: 1.5 is one and a half.
fn cpu(before: &[Sample], now: &Sample) -> Option<f64> {
    let earlier = before.iter().find(|s| s.record.id == now.record.id)?;
    let used = now.usage.cpu?.checked_sub(earlier.usage.cpu?)?;
    let passed = now.at.duration_since(earlier.at).as_nanos().max(1);
    Some(used as f64 / passed as f64)
}

/// Without what can be dropped at once, as other tools count.
fn memory(usage: &Usage) -> Option<u64> {
    Some(usage.memory?.saturating_sub(usage.inactive_file.unwrap_or(0)))
}

fn to_json(sample: &Sample, cpu: Option<f64>) -> serde_json::Value {
    let usage = &sample.usage;
    json!({
        "id": sample.record.id, "name": sample.record.name, "cpus": cpu, "cpuNanoseconds": usage.cpu,
        "memoryBytes": memory(usage), "memoryLimitBytes": usage.memory_limit, "pids": usage.pids, "oomKills": usage.oom_kills,
    })
}
