//! `events`: what a container uses, in the shape runc's readers know.

mod stats;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use kernel::cgroup::OomWatch;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
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
    let say = |e: std::io::Error| Failure::container("watch", id, e);
    // Without it an oom is told with the next report.
    let watch = cgroup.watch_oom().unwrap_or_else(|e| {
        context.log.warn(&e.to_string());
        None
    });
    let mut oom_kills = cgroup.usage().oom_kills;
    let (mut due, mut looks) = (Instant::now() + interval, 0);
    loop {
        let left = due.saturating_duration_since(Instant::now());
        let left = if looks > 0 { left.min(SOON) } else { left };
        let woken = wait(pidfd.as_fd(), watch.as_ref(), left).map_err(|e| say(e.into()))?;
        let now = cgroup.usage().oom_kills;
        looks = match woken {
            _ if now > oom_kills => 0,
            Woken::Oom => LOOKS,
            _ => looks.saturating_sub(1),
        };
        if now > oom_kills {
            report("oom", None)?;
            oom_kills = now;
        }
        if woken == Woken::Ended {
            return Ok(0);
        }
        if Instant::now() >= due {
            report("stats", Some(stats::read(&cgroup)))?;
            due = Instant::now() + interval;
        }
    }
}

/// Version 1 tells that memory has run out before it kills: so often, and after so long each time, the count is looked at.
const LOOKS: u32 = 50;
const SOON: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Ended,
    Oom,
    TimedOut,
}

/// Waits for the end of a process, for its memory to run out, or for so long.
fn wait(pidfd: BorrowedFd<'_>, watch: Option<&OomWatch>, limit: Duration) -> rustix::io::Result<Woken> {
    let ended = PollFd::from_borrowed_fd(pidfd, PollFlags::IN);
    let limit = rustix::time::Timespec {
        tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut fds = [ended.clone(), watch.map_or(ended, OomWatch::poll_fd)];
    match poll(&mut fds, Some(&limit)) {
        Ok(0) | Err(Errno::INTR) => Ok(Woken::TimedOut),
        Ok(_) if !fds[0].revents().is_empty() => Ok(Woken::Ended),
        Ok(_) => {
            watch.into_iter().for_each(OomWatch::settle);
            Ok(Woken::Oom)
        }
        Err(e) => Err(e),
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
