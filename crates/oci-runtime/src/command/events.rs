//! `events`: what a container uses, in the shape runc's readers know.

mod stats;

use std::os::fd::AsFd;
use std::time::Duration;

use kernel::process::{Waited, await_end};
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;
use super::list::print;
use super::options::{Given, Rest, Words, switch, value};
use super::record::Dir;
use super::{Command, Context};

pub(super) static EVENTS: Command = Command {
    name: "events",
    usage: "ID",
    summary: "show what a container uses, every so often until it ends",
    options: &[
        value("interval", None, "TIME", "between two reports, as in 5s or 500ms [5s]"),
        switch("stats", None, "one report, at once"),
        switch("help", Some('h'), "show this"),
    ],
    words: Words { least: 1, own: 1, rest: Rest::None },
    clones: false,
    run: events,
};

/// A line of `events`, in the order that others write it.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

fn events(context: &Context, given: &Given) -> Result<u8, Failure> {
    let id = given.id();
    let dir = Dir::open(&context.root, id)?;
    let record = dir.read()?;
    let Some(pidfd) = record.process() else {
        return Err(Failure::container("watch", id, "container not running"));
    };
    let cgroup = record.cgroup()?;
    let cgroup = cgroup.ok_or_else(|| Failure::container("watch", id, "it has no cgroup of its own"))?;
    let report = |kind: &str, data: Option<Value>| {
        let event = Event { kind, id, data };
        print(&serde_json::to_string(&event).unwrap_or_default())
    };
    if given.has("stats") {
        return report("stats", Some(stats::read(&cgroup)));
    }
    let interval = given.get("interval").map_or(Some(Duration::from_secs(5)), parse_time);
    let interval = interval.filter(|i| !i.is_zero());
    let interval =
        interval.ok_or_else(|| Failure::usage("cannot use --interval: give a time, as in 5s or 500ms"))?;
    let mut oom_kills = cgroup.usage().oom_kills;
    loop {
        let waited =
            await_end(pidfd.as_fd(), Some(interval), None).map_err(|e| Failure::container("watch", id, e))?;
        let now = cgroup.usage().oom_kills;
        if now > oom_kills {
            report("oom", None)?;
            oom_kills = now;
        }
        if waited == Waited::Ended {
            return Ok(0);
        }
        report("stats", Some(stats::read(&cgroup)))?;
    }
}

/// A time as Go writes it: numbers with units.
fn parse_time(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..unit_end] {
            "ms" => 1e-3,
            "us" => 1e-6,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * unit).ok()?;
        rest = &rest[unit_end..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(parse_time("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_time("1m30s"), Some(Duration::from_secs(90)));
        assert_eq!(parse_time("5"), Some(Duration::from_secs(5)));
        for bad in ["s", "5x", "-1s", "1e999s"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }
}
