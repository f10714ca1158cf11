//! `ps`: the processes of a container, from procfs.

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use super::failure::Failure;
use super::list::print;
use super::options::{Given, Rest, Words, switch, value};
use super::record::{Dir, Record};
use super::{Command, Context};

pub(super) static PS: Command = Command {
    name: "ps",
    usage: "ID [-e] [-f] [-x] [-o FIELD,...]",
    summary: "show the processes of a container",
    options: &[
        value("format", Some('f'), "FORMAT", "table or json: their numbers [table]"),
        switch("help", Some('h'), "show this"),
    ],
    words: Words { least: 1, own: 1, rest: Rest::Everything },
    clones: false,
    run: ps,
};

/// Ticks of the times in procfs, a second (USER_HZ).
const TICKS: u64 = 100;

/// A column: what stands above it, and which field is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    header: String,
    field: String,
}

/// The columns of `ps -ef`.
const USUAL: [(&str, &str); 8] = [
    ("UID", "user"),
    ("PID", "pid"),
    ("PPID", "ppid"),
    ("C", "c"),
    ("STIME", "stime"),
    ("TTY", "tty"),
    ("TIME", "time"),
    ("CMD", "cmd"),
];

/// Those of `ps -x`, which is older.
const PLAIN: [(&str, &str); 5] =
    [("PID", "pid"), ("TTY", "tty"), ("STAT", "stat"), ("TIME", "minutes"), ("COMMAND", "cmd")];

fn ps(context: &Context, given: &Given) -> Result<u8, Failure> {
    let dir = Dir::open(&context.root, given.id())?;
    let record = dir.read()?;
    let pids = pids(&record)?;
    match given.get("format").unwrap_or("table") {
        "json" => print(&serde_json::to_string(&pids).unwrap_or_default()),
        "table" => print(&table(&pids, &columns(&given.words[1..])?)),
        other => Err(Failure::usage(format!("cannot use --format {other:?}: give table or json"))),
    }
}

/// All processes of the container, as the host counts.
pub(super) fn pids(record: &Record) -> Result<Vec<i32>, Failure> {
    match record.cgroup()? {
        Some(cgroup) => Ok(cgroup.pids()?.into_iter().collect()),
        None => Ok(record.process().map(|_| record.pid).into_iter().collect()),
    }
}

/// Columns that ps's own options ask for: which processes is decided already, so `-e` and the like change nothing.
fn columns(options: &[String]) -> Result<Vec<Column>, Failure> {
    let named = |given: &[(&str, &str)]| {
        let one =
            |(header, field): &(&str, &str)| Column { header: (*header).into(), field: (*field).into() };
        given.iter().map(one).collect::<Vec<_>>()
    };
    let list = |text: &str| {
        let fields = text.split(',').map(|field| field.trim().to_ascii_lowercase());
        fields.map(|field| Column { header: field.to_ascii_uppercase(), field }).collect()
    };
    let mut wanted = named(&USUAL);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match option.trim_start_matches('-') {
            "o" => wanted = list(options.next().map_or("", String::as_str)),
            letters if letters.chars().all(|c| "aAdefFlwxu".contains(c)) => {
                if letters.contains('x') && !letters.contains('u') {
                    wanted = named(&PLAIN);
                }
            }
            other => match other.strip_prefix('o') {
                Some(fields) => wanted = list(fields),
                None => {
                    return Err(Failure::usage(format!(
                        "cannot use ps option {option:?}: give -o with fields of \
                         uid,user,pid,ppid,c,stime,tty,time,stat,comm,cmd,args"
                    )));
                }
            },
        }
    }
    Ok(wanted)
}

fn table(pids: &[i32], columns: &[Column]) -> String {
    let header: Vec<String> = columns.iter().map(|column| column.header.clone()).collect();
    let rows = pids.iter().filter_map(|pid| row(*pid, columns));
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let least = |column: &Column| if column.field == "pid" { 7 } else { 0 };
    let width = |(at, column): (usize, &Column)| {
        rows.iter().map(|row| row[at].len()).max().unwrap_or(0).max(least(column))
    };
    let widths: Vec<usize> = columns.iter().enumerate().map(width).collect();
    let line = |row: &Vec<String>| {
        let cells =
            row.iter().zip(columns).zip(&widths).map(|((cell, column), width)| match column.field.as_str() {
                "uid" | "pid" | "ppid" | "c" | "minutes" => format!("{cell:>width$}"),
                _ => format!("{cell:width$}"),
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One process; `None` if it has ended meanwhile.
fn row(pid: i32, columns: &[Column]) -> Option<Vec<String>> {
    use std::os::unix::fs::MetadataExt;
    let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (front, rest) = stat.rsplit_once(')')?;
    let name = front.split_once('(').map_or("", |(_, name)| name);
    let rest: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |field: usize| rest.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    let seconds = (number(11) + number(12)) / TICKS;
    let one = |column: &Column| match column.field.as_str() {
        "uid" => uid.to_string(),
        "user" => super::list::owner(uid),
        "pid" => pid.to_string(),
        "ppid" => number(1).to_string(),
        "c" => "0".to_owned(),
        "stat" => rest.first().map_or_else(String::new, |state| (*state).to_owned()),
        "stime" => started(number(19)),
        "tty" => tty(number(4)),
        "time" => format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        "minutes" => format!("{}:{:02}", seconds / 60, seconds % 60),
        "comm" => name.to_owned(),
        "cmd" | "args" | "command" if arguments.trim().is_empty() => format!("[{name}]"),
        "cmd" | "args" | "command" => arguments.trim_end().to_owned(),
        _ => "-".to_owned(),
    };
    Some(columns.iter().map(one).collect())
}

/// The hour and minute at which a process started, UTC.
fn started(ticks: u64) -> String {
    let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    let at = UNIX_EPOCH + Duration::from_secs(boot.unwrap_or(0) + ticks / TICKS);
    crate::timestamp(at).get(11..16).unwrap_or("?").to_owned()
}

/// A terminal by its device number.
fn tty(number: u64) -> String {
    let (major, minor) = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xfff00);
    match major {
        0 => "?".to_owned(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}
