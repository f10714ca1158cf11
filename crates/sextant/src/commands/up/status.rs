//! `sextant status`: which programs run, how long, and what they hold; and which objects nothing acts on.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::idle::{self, Idle};
use super::programs::{MESH, NAMES};
use super::storage::Storage;
use super::{SUPERVISOR, child, member, places};
use crate::cli::StatusArgs;
use crate::failure::Result;
use crate::instance::Instance;
use crate::objects::Server;
use crate::output::{self, Table};

/// Clock ticks of `/proc/PID/stat` in a second, on every architecture (proc_pid_stat(5)).
const USER_HZ: u64 = 100;

/// Of so many objects of a kind people are told the names.
const SHOWN: usize = 3;

/// A program, as it is now.
struct Row {
    name: &'static str,
    pid: Option<i32>,
    is_ready: bool,
    /// Proportional set size, in bytes.
    memory: Option<u64>,
    /// Seconds since its start.
    age: Option<u64>,
}

/// Prints it; the code is 0 if everything is up, 3 if nothing or a part is, as systemctl has it.
pub(crate) fn run(instance: &Instance, args: &StatusArgs) -> Result<ExitCode> {
    let places = places(instance)?;
    let row = |name: &'static str| {
        let pid = member::living(&places.member(name)).map(|process| process.pid);
        let is_ready = pid.is_some_and(|pid| name == SUPERVISOR || child::has_told(&places, name, pid));
        Row { name, pid, is_ready, memory: pid.and_then(memory), age: pid.and_then(age) }
    };
    let without = fs::read_to_string(places.without()).unwrap_or_default();
    let is_meshed = places.meshed().exists();
    let wanted = NAMES.iter().filter(|name| match **name {
        MESH => is_meshed,
        name => without.lines().all(|left_out| left_out != name),
    });
    let rows: Vec<Row> = std::iter::once(&SUPERVISOR).chain(wanted).map(|name| row(name)).collect();
    let is_up = rows.iter().all(|row| row.is_ready);
    // While the API is not up, nobody is asked.
    let has_api = rows.iter().any(|row| row.name == "api" && row.is_ready);
    let server = has_api.then(|| Server::own(&places.data)).flatten();
    let idle = server.and_then(idle_soon).unwrap_or_default();
    let storage = Storage::read(&places);
    if args.output.json() {
        let programs: Vec<_> = rows.iter().map(json_of).collect();
        let idle = idle.iter().map(json_of_idle).collect::<Vec<_>>();
        output::json(&json!({"up": is_up, "kubeconfig": places.kubeconfig(), "programs": programs,
                             "storage": storage, "idle": idle}))?;
    } else {
        let mut table = Table::new(["PROGRAM", "STATE", "PID", "SINCE", "MEMORY", "LOG"]);
        for row in &rows {
            let state = match (row.pid, row.is_ready) {
                (None, _) => "not running",
                (Some(_), false) => "starting",
                (Some(_), true) => "up",
            };
            let or_nothing = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            table.row([
                row.name.into(),
                state.into(),
                or_nothing(row.pid.map(|pid| pid.to_string())),
                or_nothing(row.age.map(duration)),
                or_nothing(row.memory.map(output::bytes)),
                places.log(row.name).display().to_string(),
            ]);
        }
        table.print()?;
        if let Some(storage) = storage {
            writeln!(std::io::stdout(), "\n{}", storage.words())?;
        }
        tell_idle(&idle)?;
    }
    Ok(ExitCode::from(if is_up { 0 } else { 3 }))
}

fn tell_idle(idle: &[Idle]) -> Result<()> {
    if idle.is_empty() {
        return Ok(());
    }
    println!("\nNothing acts on these objects:");
    let mut table = Table::new(["KIND", "OBJECTS", "WHY"]);
    for one in idle {
        let more = one.objects.len().saturating_sub(SHOWN);
        let mut objects = one.objects[..one.objects.len().min(SHOWN)].join(", ");
        if more > 0 {
            objects += &format!(" and {more} more");
        }
        table.row([one.kind.full(), objects, one.why.into()]);
    }
    Ok(table.print()?)
}

fn json_of_idle(idle: &Idle) -> serde_json::Value {
    json!({"kind": idle.kind.full(), "objects": idle.objects, "why": idle.why})
}

fn json_of(row: &Row) -> serde_json::Value {
    json!({"name": row.name, "pid": row.pid, "ready": row.is_ready, "memoryBytes": row.memory, "ageSeconds": row.age})
}

fn memory(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

fn age(pid: i32) -> Option<u64> {
    let started = kernel::process::start_time(pid).ok()? / USER_HZ;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
    u64::try_from(now).ok()?.checked_sub(started)
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86400),
    }
}

/// What nothing acts on, if the API tells soon: who asks for the status may have a server that hangs.
fn idle_soon(server: Server) -> Option<Vec<Idle>> {
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || drop(told.send(idle::find(&server).ok())));
    heard.recv_timeout(std::time::Duration::from_secs(5)).ok().flatten()
}
