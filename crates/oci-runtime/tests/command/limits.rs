//! update and events.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::json;

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("limits_are_updated", update),
    ("a_new_period_leaves_the_quota", period),
    ("limits_that_are_none_are_refused", refused),
    ("events_have_runcs_shape", stats),
    ("events_end_with_the_container", events),
    ("an_oom_is_told_at_once", oom),
];

/// A file of the container's cgroup, from whichever hierarchy has one of these names.
fn read(bench: &Bench, names: [&str; 2]) -> Option<String> {
    let trees = bench.cgroups();
    let paths = trees.iter().flat_map(|tree| names.iter().map(move |name| tree.join(name)));
    paths.filter_map(|path| fs::read_to_string(path).ok()).map(|text| text.trim().to_owned()).next()
}

fn update(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    bench.run(&["update", "--pids-limit", "33", "--memory", "64M", &bench.id]).ok()?;
    let limits = |bench: &Bench| {
        (read(bench, ["pids.max", "pids.max"]), read(bench, ["memory.limit_in_bytes", "memory.max"]))
    };
    let want = |pids: &str, memory: &str| (Some(pids.to_owned()), Some(memory.to_owned()));
    check(limits(bench) == want("33", "67108864"), || format!("{:?}", limits(bench)))?;
    let file = bench.path("limits.json");
    fs::write(&file, json!({"pids": {"limit": 44}}).to_string())?;
    bench.run(&["update", "-r", &file.display().to_string(), &bench.id]).ok()?;
    check(limits(bench) == want("44", "67108864"), || format!("{:?}", limits(bench)))?;
    let mut child = bench.command().args(["update", &bench.id, "-r", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(br#"{"memory": {"limit": 33554432}}"#)?;
    check(child.wait()?.success(), || "update from standard input".into())?;
    check(limits(bench) == want("44", "33554432"), || format!("{:?}", limits(bench)))?;
    let bad = bench.run(&["update", "--memory", "much", &bench.id]);
    check(bad.code == 1 && bad.err.contains("--memory \"much\""), || bad.err)?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn period(bench: &Bench) -> Outcome {
    let mut spec = bench.sleeper();
    spec["linux"]["resources"]["cpu"] = json!({"quota": 50_000, "period": 100_000});
    bench.configure(&spec);
    bench.run(&["create", &bench.id]).ok()?;
    for (args, v1, v2) in [
        (["--cpu-period", "90000"], "50000", "50000 90000"),
        (["--cpu-quota", "-1"], "-1", "max 90000"),
        (["--cpu-period", "80000"], "-1", "max 80000"),
        (["--cpu-quota", "40000"], "40000", "40000 80000"),
    ] {
        bench.run(&[&["update"], &args[..], &[&bench.id]].concat()).ok()?;
        let quota = read(bench, ["cpu.cfs_quota_us", "cpu.max"]).unwrap_or_default();
        check(quota == v1 || quota == v2, || format!("{args:?}: {quota}"))?;
    }
    bench.run(&["delete", "-f", &bench.id]).ok().map(drop)
}

fn refused(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    for idle in ["2", "-1"] {
        let bad = bench.run(&["update", "--cpu-idle", idle, &bench.id]);
        check(bad.code == 1 && bad.err.contains("cpu.idle") && bad.err.contains(idle), || bad.err)?;
    }
    let file = bench.path("limits.json");
    fs::write(&file, json!({"memory": {"limit": -5}}).to_string())?;
    let bad = bench.run(&["update", "-r", &file.display().to_string(), &bench.id]);
    check(bad.code == 1 && bad.err.contains("memory.limit") && bad.err.contains("-5"), || bad.err)?;
    bench.run(&["delete", "-f", &bench.id]).ok().map(drop)
}

fn stats(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    bench.until("two run", || bench.processes().len() == 2)?;
    let event = bench.run(&["events", "--stats", &bench.id]).ok()?.json()?;
    check(event["type"] == "stats" && event["id"] == bench.id.as_str(), || event.to_string())?;
    let data = &event["data"];
    check(data["pids"]["current"] == 2, || event.to_string())?;
    check(data["cpu"]["usage"]["total"].as_u64().is_some_and(|n| n > 0), || event.to_string())?;
    check(data["memory"]["usage"]["usage"].as_u64().is_some_and(|n| n > 0), || event.to_string())?;
    // A v2 cgroup has a cpuset only where the controller was handed down to it.
    let handed_down = bench.cgroups().iter().any(|tree| {
        ["cpuset.cpus", "cpuset.cpus.effective"]
            .iter()
            .any(|file| fs::read_to_string(tree.join(file)).is_ok_and(|text| !text.trim().is_empty()))
    });
    check(data["cpuset"]["cpus"].as_array().is_some_and(|n| n.is_empty() != handed_down), || {
        event.to_string()
    })?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn events(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    let mut child =
        bench.command().args(["events", "--interval", "20ms", &bench.id]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    for _ in 0..3 {
        let line = lines.next().ok_or("no line")??;
        check(line.starts_with('{') && line.contains("\"stats\""), || line)?;
    }
    bench.run(&["kill", &bench.id, "9"]).ok()?;
    for line in lines {
        line?;
    }
    check(child.wait()?.success(), || "it failed".into())?;
    bench.run(&["delete", &bench.id]).ok()?;
    Ok(())
}

/// The next report would come in an hour.
fn oom(bench: &Bench) -> Outcome {
    // A shell that doubles a word until the kernel ends it, once somebody watches.
    let greedy = "read x < /tmp/go; while :; do x=$x$x; done";
    let script = format!("mkfifo /tmp/go; sh -c '{greedy}'; : {}; exec sleep 100", bench.id);
    let mut spec = bench.spec(&["/bin/busybox", "sh", "-c", &script]);
    spec["linux"]["resources"]["memory"] = serde_json::json!({"limit": 16 << 20});
    bench.configure(&spec);
    bench.run(&["run", "-d", &bench.id]).ok()?;
    let go = bench.bundle().join("rootfs/tmp/go");
    bench.until("it waits", || go.exists())?;
    let mut child =
        bench.command().args(["events", "--interval", "1h", &bench.id]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    // It watches once it waits: for its descriptors, the last thing it makes.
    let fds = format!("/proc/{}/fd", child.id());
    let waits = |name: &str| {
        let all = fs::read_dir(&fds).into_iter().flatten().flatten();
        all.filter_map(|e| fs::read_link(e.path()).ok()).any(|link| link.ends_with(name))
    };
    bench.until("events watch", || waits("memory.events") || waits("anon_inode:[eventfd]"))?;
    // And it has told the kernel what they are for once it sleeps: until then it runs, or would.
    let stat = format!("/proc/{}/stat", child.id());
    bench.until("events wait", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") S ")))?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    fs::write(&go, "0123456789012345678901234567890123456789\n")?;
    let line = lines.next().ok_or("no line")??;
    check(line.contains("\"oom\""), || line)?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    child.wait()?;
    Ok(())
}
