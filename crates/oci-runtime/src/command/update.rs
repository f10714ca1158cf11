//! `update`: limits of a running container.

use std::io::Read;

use super::container::warn_of;
use super::failure::Failure;
use super::options::{Given, Rest, Words, switch, value};
use super::record::Dir;
use super::{Command, Context};
use crate::contract::{self, Resources, Status};

pub(super) static UPDATE: Command = Command {
    name: "update",
    usage: "ID",
    summary: "change the limits of a running container",
    options: &[
        value(
            "resources",
            Some('r'),
            "FILE",
            "all of them as JSON (linux.resources); - reads standard input",
        ),
        value("blkio-weight", None, "N", "block I/O weight, 10 to 1000"),
        value("cpu-period", None, "US", "the period of --cpu-quota"),
        value("cpu-quota", None, "US", "CPU time in a period; -1 for no limit"),
        value("cpu-burst", None, "US", "quota that may be saved up"),
        value("cpu-share", None, "N", "relative weight, 2 to 262144"),
        value("cpu-shares", None, "N", "the same"),
        value("cpu-rt-period", None, "US", "the period of --cpu-rt-runtime"),
        value("cpu-rt-runtime", None, "US", "real-time scheduling in a period"),
        value("cpu-idle", None, "0|1", "1: run only when nobody else wants to"),
        value("cpuset-cpus", None, "LIST", "which CPUs"),
        value("cpuset-mems", None, "LIST", "which memory nodes"),
        value("memory", None, "BYTES", "memory; -1 for no limit; k, M and G are understood"),
        value("memory-reservation", None, "BYTES", "the soft limit"),
        value("memory-swap", None, "BYTES", "memory and swap together; -1 for no limit"),
        value("kernel-memory", None, "BYTES", "accepted, and without effect: the kernel no longer has it"),
        value("kernel-memory-tcp", None, "BYTES", "likewise"),
        value("pids-limit", None, "N", "processes and threads; -1 for no limit"),
        switch("help", Some('h'), "show this"),
    ],
    words: Words { least: 1, own: 1, rest: Rest::None },
    clones: false,
    run: update,
};

fn update(context: &Context, given: &Given) -> Result<u8, Failure> {
    let id = given.id();
    let dir = Dir::open(&context.root, id)?.locked()?;
    let record = dir.read()?;
    if dir.status(&record)? == Status::Stopped {
        return Err(Failure::container("update", id, "container not running"));
    }
    let resources = match given.get("resources") {
        Some(path) => read(path)?,
        None => from_options(given)?,
    };
    contract::validate_resources(&resources)?;
    let cgroup = record.cgroup()?;
    let cgroup = cgroup.ok_or_else(|| Failure::container("update", id, "it has no cgroup of its own"))?;
    let limits = crate::plan::limits::plan(&resources)?;
    let missing = match &record.unit {
        Some(unit) => crate::systemd::update(&unit.name, unit.user, &cgroup, &limits)?,
        None => cgroup.apply(&limits)?,
    };
    warn_of(context, &missing);
    Ok(0)
}

fn read(path: &str) -> Result<Resources, Failure> {
    let say = |e| Failure::usage(format!("cannot read --resources {path:?}: {e}"));
    let mut text = Vec::new();
    if path == "-" {
        std::io::stdin().read_to_end(&mut text).map_err(say)?;
    } else {
        text = std::fs::read(path).map_err(say)?;
    }
    Ok(contract::parse_resources(&text)?)
}

fn from_options(given: &Given) -> Result<Resources, Failure> {
    let mut resources = Resources::default();
    let cpu = contract::Cpu {
        shares: given.number("cpu-shares")?.or(given.number("cpu-share")?),
        quota: given.number("cpu-quota")?,
        burst: given.number("cpu-burst")?,
        period: given.number("cpu-period")?,
        realtime_runtime: given.number("cpu-rt-runtime")?,
        realtime_period: given.number("cpu-rt-period")?,
        cpus: given.get("cpuset-cpus").unwrap_or_default().to_owned(),
        mems: given.get("cpuset-mems").unwrap_or_default().to_owned(),
        idle: given.number("cpu-idle")?,
    };
    let memory = contract::Memory {
        limit: bytes(given, "memory")?,
        reservation: bytes(given, "memory-reservation")?,
        swap: bytes(given, "memory-swap")?,
        ..contract::Memory::default()
    };
    resources.cpu = (cpu != contract::Cpu::default()).then_some(cpu);
    resources.memory = (memory != contract::Memory::default()).then_some(memory);
    resources.pids = given.number("pids-limit")?.map(|limit| contract::Pids { limit: Some(limit) });
    if let Some(weight) = given.number("blkio-weight")? {
        resources.block_io = Some(contract::BlockIo { weight: Some(weight), ..contract::BlockIo::default() });
    }
    Ok(resources)
}

/// A number of bytes, with a unit of 1024 if one is given.
fn bytes(given: &Given, option: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = given.get(option) else { return Ok(None) };
    parse_bytes(text).map(Some).ok_or_else(|| {
        Failure::usage(format!("cannot use --{option} {text:?}: give bytes, as in 64M, or -1 for no limit"))
    })
}

fn parse_bytes(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches('b').trim_end_matches('i');
    let (number, shift) = match number.char_indices().last()? {
        (at, unit @ ('k' | 'm' | 'g' | 't')) => (&number[..at], 10 * (1 + "kmgt".find(unit)?)),
        _ => (number, 0),
    };
    let number: i64 = number.trim().parse().ok()?;
    (number >= -1).then_some(())?;
    number.checked_mul(1 << shift).filter(|_| number >= 0 || shift == 0)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn bytes_have_units() {
        for (text, bytes) in
            [("64", 64), ("64M", 64 << 20), ("2g", 2 << 30), ("1KiB", 1024), ("-1", -1), ("5b", 5)]
        {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for bad in ["", "M", "-2", "-1M", "1.5G", "x", "9999999999G"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }
}
