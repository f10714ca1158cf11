//! exec.

use std::fs;

use serde_json::json;

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("exec_runs_in_the_container", exec),
    ("exec_takes_what_options_say", options),
    ("exec_takes_a_process_file", file),
    ("exec_detached_writes_its_number", detached),
    ("exec_enters_a_cgroup_below", below),
    ("exec_enters_a_cgroup_of_single_controllers", single),
    ("exec_adds_a_capability_that_is_inheritable_as_ambient_too", ambient),
    ("home_is_the_users_in_the_containers_table", home),
];

fn exec(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    let done = bench.run(&["exec", &bench.id, "sh", "-c", "echo out; echo err >&2; exit 9"]);
    check((done.code, done.out.as_str(), done.err.as_str()) == (9, "out\n", "err\n"), || done.err)?;
    let pids = bench.run(&[
        "exec",
        &bench.id,
        "sh",
        "-c",
        "echo $$; readlink /proc/1/ns/pid; readlink /proc/self/ns/pid",
    ]);
    let lines: Vec<&str> = pids.out.lines().collect();
    check(lines.len() == 3 && lines[1] == lines[2], || format!("{lines:?}"))?;
    let missing = bench.run(&["exec", &bench.id, "no-such-program"]);
    check(missing.code == 255 && missing.err.contains("no-such-program"), || missing.err)?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn options(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    let script = "id -u; id -g; id -G; pwd; echo $COLOUR; umask; cat /proc/self/status";
    let args = [
        "exec",
        "--user",
        "5:6",
        &bench.id,
        "-g",
        "7",
        "--cwd",
        "/tmp",
        "--env",
        "COLOUR=blue",
        "--umask",
        "077",
    ];
    let done = bench.run_command(bench.command().args(args).args(["sh", "-c", script])).ok()?;
    let lines: Vec<&str> = done.out.lines().collect();
    check(lines[..6] == ["5", "6", "6 7", "/tmp", "blue", "0077"], || format!("{lines:?}"))?;
    let status = bench
        .run(&["exec", "--cap", "CAP_CHOWN", "--no-new-privs", &bench.id, "cat", "/proc/self/status"])
        .ok()?
        .out;
    let effective = status.lines().find(|l| l.starts_with("CapEff")).unwrap_or_default();
    check(effective.ends_with("0000000000000021"), || effective.to_owned())?;
    check(status.contains("NoNewPrivs:\t1"), || status.clone())?;
    let bad = bench.run(&["exec", "--user", "root", &bench.id, "true"]);
    check(bad.code == 255 && bad.err.contains("--user"), || bad.err)?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn file(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    let path = bench.path("process.json");
    let process = json!({"args": ["sh", "-c", "id -u; pwd; exit 2"], "cwd": "/etc", "env": ["PATH=/bin"], "user": {"uid": 8, "gid": 9}});
    fs::write(&path, process.to_string())?;
    let done = bench.run(&["exec", "--process", &path.display().to_string(), &bench.id]);
    check((done.code, done.out.as_str()) == (2, "8\n/etc\n"), || {
        format!("{} {} {}", done.code, done.out, done.err)
    })?;
    fs::write(&path, "{}")?;
    let bad = bench.run(&["exec", "-p", &path.display().to_string(), &bench.id]);
    check(bad.code == 255 && bad.err.contains("process.json") && bad.err.contains("cwd"), || bad.err)?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn detached(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    bench.until("two run", || bench.processes().len() == 2)?;
    let file = bench.path("pid");
    bench.run(&["exec", "-d", "--pid-file", &file.display().to_string(), &bench.id, "sleep", "100"]).ok()?;
    let pid = fs::read_to_string(&file)?;
    let line = fs::read(format!("/proc/{pid}/cmdline"))?;
    check(line == b"sleep\x00100\x00", || String::from_utf8_lossy(&line).into_owned())?;
    let pids = bench.run(&["ps", "-f", "json", &bench.id]).ok()?.json()?;
    check(pids.as_array().is_some_and(|p| p.len() == 3), || pids.to_string())?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn below(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    bench.run(&["exec", &bench.id, "true"]).ok()?;
    let missing = bench.run(&["exec", "--cgroup", "sub", &bench.id, "true"]);
    check(missing.code == 255 && missing.err.contains("sub"), || missing.err)?;
    for tree in bench.cgroups() {
        fs::create_dir(tree.join("sub"))?;
        for name in ["cpuset.cpus", "cpuset.mems"] {
            // v2 has them where the controller is handed down, and does not need them.
            let below = tree.join("sub").join(name);
            if let Ok(text) =
                fs::read_to_string(tree.join(name)).and_then(|t| fs::metadata(&below).map(|_| t))
            {
                fs::write(below, text.trim())?;
            }
        }
    }
    let inside = bench.run(&["exec", "--cgroup", "/sub", &bench.id, "cat", "/proc/self/cgroup"]).ok()?.out;
    check(inside.lines().any(|l| l.ends_with(&format!("/{}/sub", bench.id))), || inside.clone())?;
    // Deleting removes what is below, too.
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn single(bench: &Bench) -> Outcome {
    bench.start_sleeper()?;
    for (args, words) in [
        (&["--cgroup", ".."][..], "bad sub cgroup path"),
        (&["--cgroup", "pids:../x"], "bad sub cgroup path"),
        (&["--cgroup", "whaaat:/"], "unknown controller \"whaaat\""),
        (&["--cgroup", "sub", "--cgroup", "pids:sub"], "give it alone"),
    ] {
        let done = bench.run_command(bench.command().arg("exec").args(args).args([&bench.id, "true"]));
        check(done.code == 255 && done.err.contains(words), || format!("{args:?}: {}", done.err))?;
    }
    if !matches!(kernel::cgroup::layout()?, kernel::cgroup::Layout::Unified) {
        let missing = bench.run(&["exec", "--cgroup", "pids:sub", &bench.id, "true"]);
        check(missing.code == 255 && missing.err.contains("pids") && missing.err.contains("sub"), || {
            missing.err
        })?;
        for name in ["pids", "memory"] {
            fs::create_dir(std::path::Path::new("/sys/fs/cgroup").join(name).join(&bench.id).join("sub"))?;
        }
        let args = [
            "exec",
            "--cgroup",
            "pids:sub",
            "--cgroup",
            "memory:/sub",
            &bench.id,
            "cat",
            "/proc/self/cgroup",
        ];
        let table = bench.run(&args).ok()?.out;
        let place = |name: &str| {
            let line = table.lines().find(|line| line.split(':').nth(1) == Some(name)).unwrap_or_default();
            line.rsplit(':').next().unwrap_or_default().to_owned()
        };
        let (own, below) = (format!("/{}", bench.id), format!("/{}/sub", bench.id));
        check(place("pids") == below && place("memory") == below && place("freezer") == own, || {
            table.clone()
        })?;
    }
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn ambient(bench: &Bench) -> Outcome {
    let mut spec = bench.sleeper();
    spec["process"]["capabilities"] = json!({
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SYSLOG"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"], "inheritable": ["CAP_CHOWN", "CAP_SYSLOG"], "ambient": ["CAP_CHOWN"],
    });
    bench.configure(&spec);
    bench.run(&["run", "-d", &bench.id]).ok()?;
    for (added, expected) in [("CAP_SYSLOG", "0000000400000001"), ("CAP_NET_RAW", "0000000000000001")] {
        let done = bench.run(&["exec", "--cap", added, &bench.id, "cat", "/proc/self/status"]).ok()?;
        let line = done.out.lines().find(|line| line.starts_with("CapAmb")).unwrap_or_default().to_owned();
        check(line.ends_with(expected) && done.err.is_empty(), || format!("{added}: {line} {}", done.err))?;
    }
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    // One that cannot be ambient is told, with why.
    spec["process"]["capabilities"]["ambient"] = json!(["CAP_CHOWN", "CAP_KILL"]);
    spec["process"]["args"] = json!(["/bin/true"]);
    bench.configure(&spec);
    let done = bench.run(&["run", &bench.id]).ok()?;
    check(
        done.err.contains("can't raise ambient capability CAP_KILL: ") && !done.err.contains("CHOWN"),
        || done.err,
    )
}

fn home(bench: &Bench) -> Outcome {
    fs::write(
        bench.bundle().join("rootfs/etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nu:x:5:5::/home/u:/bin/sh\n",
    )?;
    bench.configure(&bench.spec(&["/bin/sh", "-c", "echo $HOME"]));
    let done = bench.run(&["run", &bench.id]).ok()?;
    check(done.out == "/root\n", || done.out)?;
    bench.start_sleeper()?;
    for (args, home) in [(["-u", "5"], "/home/u\n"), (["-u", "6"], "/\n"), (["-e", "HOME=/x"], "/x\n")] {
        let done = bench.run_command(bench.command().arg("exec").args(args).args([
            &bench.id,
            "sh",
            "-c",
            "echo $HOME",
        ]));
        check(done.out == home, || format!("{args:?}: {} {}", done.out, done.err))?;
    }
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}
