//! Logs in CRI's format.

use std::fs;
use std::path::PathBuf;

use cri::contract::Code;
use cri::contract::v1::{ContainerState, ReopenContainerLogRequest};

use crate::Test;
use crate::bench::Bench;
use crate::wishes::container;

pub(crate) const TESTS: &[Test] =
    &[("log_lines_tell_time_and_stream", format), ("no_line_is_lost_when_a_log_is_rotated", rotated)];

/// Time, stream, tag and text of each line.
fn parse(log: &str) -> Vec<(&str, &str, &str, &str)> {
    let line = |line| {
        let mut parts = str::splitn(line, 4, ' ');
        let mut next = || parts.next().unwrap_or_else(|| panic!("{line:?} is no line of a log"));
        (next(), next(), next(), next())
    };
    log.lines().map(line).collect()
}

/// The log of `probe count`, oldest file first: that no line of it is lost, doubled or split. The last number.
#[track_caller]
pub(crate) fn counted(log: &str) -> u64 {
    let mut last = 0;
    for (_, stream, tag, text) in parse(log) {
        assert_eq!((stream, tag, text), ("stdout", "F", &*format!("line {}", last + 1)));
        last += 1;
    }
    last
}

fn format(b: &Bench) {
    let pod = b.host_pod("format");
    let words =
        ["probe", "say", "out", "then", "complain", "err", "then", "flood", "40000", "then", "say", "end"];
    let id = b.run(&pod, "c", &words);
    let status = b.until_exited(&id);
    assert_eq!(status.log_path, b.log_path("format", "c").display().to_string());
    let log = b.log("format", "c");
    let lines = parse(&log);
    assert!(lines.iter().all(|(time, ..)| time.len() >= 20 && time.contains('T')), "{log:.200}");
    assert!(lines.windows(2).all(|two| two[0].0 <= two[1].0), "{log:.200}");
    let of = |wanted: &str| lines.iter().filter(|line| line.1 == wanted).collect::<Vec<_>>();
    assert_eq!(of("stderr").iter().map(|line| (line.2, line.3)).collect::<Vec<_>>(), [("F", "err")]);
    let out = of("stdout");
    assert_eq!((out[0].2, out[0].3), ("F", "out"));
    // A long line comes in parts.
    let (last, parts) = out[1..].split_last().unwrap();
    assert!(last.2 == "F" && !parts.is_empty() && parts.iter().all(|part| part.2 == "P"), "{log:.200}");
    let whole: String = out[1..].iter().map(|part| part.3).collect();
    assert_eq!(whole, "x".repeat(40_000) + "end");
    // Nowhere, if nothing was said of a log.
    let mut config = container("silent", &["probe", "say", "x"]);
    config.log_path = String::new();
    let silent = b.run_as(&pod, config);
    assert_eq!(b.until_exited(&silent).exit_code, 0);
    assert_eq!(fs::read_dir(b.path("logs/format")).unwrap().count(), 1);
    let request = ReopenContainerLogRequest { container_id: silent };
    let error = b.wait(async |c| c.reopen_container_log(request).await).unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    b.remove_pod(&pod);
}

fn rotated(b: &Bench) {
    let pod = b.host_pod("rotated");
    let id = b.run(&pod, "c", &["probe", "count"]);
    b.until_logged("rotated", "c", "line 10");
    let path = b.log_path("rotated", "c");
    let older: Vec<PathBuf> = (0..10).map(|n| b.path(&format!("logs/rotated/c.log.{n}"))).collect();
    for to in &older {
        b.until("it has a line", || fs::metadata(&path).unwrap().len() > 0);
        fs::rename(&path, to).unwrap();
        let request = ReopenContainerLogRequest { container_id: id.clone() };
        b.ok(async |c| c.reopen_container_log(request).await);
        assert!(path.exists(), "it is there when the call returns");
    }
    b.until("it has a line", || fs::metadata(&path).unwrap().len() > 0);
    assert_eq!(b.status(&id).state(), ContainerState::ContainerRunning);
    b.stop(&id, 0);
    let files = older.iter().chain([&path]).map(|path| fs::read_to_string(path).unwrap());
    let files: Vec<String> = files.collect();
    assert!(files.iter().all(|file| !file.is_empty()));
    assert!(counted(&files.concat()) > 10);
    b.remove_pod(&pod);
}
