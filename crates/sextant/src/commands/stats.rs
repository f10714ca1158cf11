//! `sextant stats` and `sextant top`: what containers and pods use.

use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kernel::cgroup::Cgroup;
use serde_json::json;

use super::usage::{self, Row};
use super::which::{self, Which};
use crate::cli::{Cli, OfPod, OutputArgs, StatsArgs, TopArgs};
use crate::container::{self, Record};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::output::{self, Table, bytes};
use crate::pods::Runtime;
use crate::terminal;

/// Between two looks: a share of the CPU takes both.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) fn run(cli: &Cli, args: &StatsArgs) -> Result<()> {
    let source = Source::new(cli, &args.of, &args.containers)?;
    let live = std::io::stdout().is_terminal() && !args.no_stream && !args.output.json();
    show(&source, args.output, live, false)
}

pub(super) fn top(cli: &Cli, args: &TopArgs) -> Result<()> {
    let source = Source::new(cli, &args.of, &[])?;
    let terminal = std::io::stdout().is_terminal();
    if !terminal && !args.output.json() {
        eprintln!("sextant: standard output is no terminal: shown once");
    }
    show(&source, args.output, terminal && !args.output.json(), true)
}

fn show(source: &Source, format: OutputArgs, live: bool, sorted: bool) -> Result<()> {
    let mut before = source.look()?;
    std::thread::sleep(PAUSE);
    loop {
        let mut now = source.look()?;
        if sorted {
            now = usage::by_use(now, &before);
        }
        if format.json() {
            let list: Vec<_> = now.iter().map(|row| document(row, row.cpus(&before))).collect();
            return Ok(output::json(&json!(list))?);
        }
        let mut text = table(&now, &before).to_string();
        if live {
            if sorted && let Some(size) = terminal::size() {
                // What does not fit is what uses least.
                let rows = usize::try_from(size.rows).unwrap_or(usize::MAX).saturating_sub(1).max(2);
                text = text.split_inclusive('\n').take(rows).collect();
            }
            // From the top of a cleared screen.
            text.insert_str(0, "\x1b[H\x1b[2J");
        }
        std::io::stdout().write_all(text.as_bytes())?;
        if !live {
            return Ok(());
        }
        std::io::stdout().flush()?;
        before = now;
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn table(rows: &[Row], before: &[Row]) -> Table {
    let mut table = Table::new(["ID", "NAME", "CPU", "MEMORY", "LIMIT", "PIDS", "DISK", "INODES", "LOG"]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    for row in rows {
        table.row([
            output::short(&row.id).into(),
            if row.within && rows.len() > 1 { format!("  {}", row.name) } else { row.name.clone() },
            or_dash(row.cpus(before).map(|cpus| format!("{:.1} %", cpus * 100.0))),
            or_dash(row.memory.map(bytes)),
            row.limit.map_or_else(|| "none".into(), bytes),
            or_dash(row.pids.map(|pids| pids.to_string())),
            or_dash(row.disk.map(bytes)),
            or_dash(row.inodes.map(|inodes| inodes.to_string())),
            or_dash(row.log.map(bytes)),
        ]);
    }
    table
}

fn document(row: &Row, cpus: Option<f64>) -> serde_json::Value {
    json!({
        "kind": if row.pod.is_some() && !row.within { "pod" } else { "container" },
        "id": row.id, "name": row.name, "pod": row.pod, "cpus": cpus, "cpuNanoseconds": row.cpu.map(|(cpu, _)| cpu),
        "memoryBytes": row.memory, "memoryLimitBytes": row.limit, "pids": row.pids, "oomKills": row.oom_kills,
        "diskBytes": row.disk, "inodes": row.inodes, "logBytes": row.log,
    })
}

/// Whose use is shown.
enum Source {
    /// Everything that runs: here, and in a runtime's pods.
    All(Box<Instance>, Option<Runtime>),
    /// A pod with its containers, or one of them.
    OfPod { runtime: Runtime, pod: String, container: Option<String> },
    /// Those that were named.
    Named(Vec<Which>),
}

impl Source {
    fn new(cli: &Cli, of: &OfPod, names: &[String]) -> Result<Self> {
        if let Some(pod) = &of.pod {
            let runtime = Runtime::connect(&cli.run_dir, &of.cri)?;
            let id = runtime.pod(pod)?.id;
            let container = match &of.name {
                Some(name) => Some(runtime.container_of(pod, Some(name), false)?.id),
                None => None,
            };
            return Ok(Self::OfPod { runtime, pod: id, container });
        }
        if names.is_empty() {
            let instance = Instance::open(&cli.data_dir, &cli.run_dir)?;
            let runtime = Runtime::if_there(&cli.run_dir, &of.cri)?;
            return Ok(Self::All(Box::new(instance), runtime));
        }
        let named = names.iter().map(|name| which::find(cli, Some(name), of, false));
        Ok(Self::Named(named.collect::<Result<_>>()?))
    }

    fn look(&self) -> Result<Vec<Row>> {
        match self {
            Self::All(instance, runtime) => {
                let records = Record::all(instance)?.into_iter();
                let active = records.filter(|r| container::state_of(instance, r).is_active());
                let mut rows = active.map(|r| of_own(instance, &r)).collect::<Result<Vec<_>>>()?;
                if let Some(runtime) = runtime {
                    rows.extend(usage::of_pods(runtime, None, None)?);
                }
                Ok(rows)
            }
            Self::OfPod { runtime, pod, container } => {
                let rows = usage::of_pods(runtime, Some(pod), container.as_deref())?;
                must_run(rows, container.as_ref().unwrap_or(pod))
            }
            Self::Named(named) => {
                let mut rows = Vec::new();
                for which in named {
                    match which {
                        Which::Own(instance, record) => rows.push(running(instance, record)?),
                        Which::OfPod(runtime, c) => {
                            let one = usage::of_pods(runtime, Some(&c.pod_sandbox_id), Some(&c.id))?;
                            rows.extend(must_run(one, &c.id)?);
                        }
                    }
                }
                Ok(rows)
            }
        }
    }
}

fn must_run(rows: Vec<Row>, id: &str) -> Result<Vec<Row>> {
    if rows.is_empty() {
        return Err(Failure::new(format!("{} is not running: it uses nothing", output::short(id))));
    }
    Ok(rows)
}

fn running(instance: &Instance, record: &Record) -> Result<Row> {
    if container::state_of(instance, record).is_active() {
        return of_own(instance, record);
    }
    let name = &record.name;
    Err(Failure::new(format!(
        "container {name} is not running: it uses nothing (start it: sextant start {name})"
    )))
}

/// A container of `sextant run`.
fn of_own(instance: &Instance, record: &Record) -> Result<Row> {
    let usage = Cgroup::at(&instance.cgroup(&record.id))?.usage();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context(|| "read the clock".into())?;
    Ok(Row {
        id: record.id.clone(),
        name: record.name.clone(),
        cpu: usage.cpu.zip(i64::try_from(now.as_nanos()).ok()),
        // Without what can be dropped at once, as other tools count.
        memory: usage.memory.map(|memory| memory.saturating_sub(usage.inactive_file.unwrap_or(0))),
        limit: usage.memory_limit,
        pids: usage.pids,
        log: Some(usage::log_bytes(&record.log(instance))),
        oom_kills: usage.oom_kills,
        ..Row::default()
    })
}
