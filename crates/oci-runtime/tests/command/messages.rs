//! Help, version, messages, logs, and the documents of spec and features.

use std::fs;

use serde_json::Value;

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("help_and_version", help),
    ("called_runc_it_speaks_as_runc", runc),
    ("what_is_wrong_is_named", wrong),
    ("messages_go_to_the_log", log),
    ("spec_writes_a_configuration", spec),
    ("features_are_told", features),
    ("debug_tells_the_stages", debug),
];

fn help(bench: &Bench) -> Outcome {
    let version = bench.output(&["--version"]);
    let text = String::from_utf8(version.stdout)?;
    check(text.starts_with("sextant-oci version ") && text.contains("\ncommit: "), || text.clone())?;
    check(text.ends_with("\nspec: 1.3.0\n"), || text)?;
    for args in [&["--help"][..], &["-h"], &["help"], &[]] {
        let text = bench.run(args).ok()?.out;
        check(text.contains("create") && text.contains("--root DIR"), || text)?;
    }
    for (args, second) in
        [(&["-h"][..], "   sextant-oci - "), (&["checkpoint", "-h"], "   sextant-oci checkpoint - ")]
    {
        let text = bench.run(args).ok()?.out;
        check(text.starts_with(&format!("NAME:\n{second}")), || text)?;
    }
    for args in [&["run", "--help"][..], &["run", "-h"], &["help", "run"], &["run", "x", "--help"]] {
        let text = bench.run(args).ok()?.out;
        check(text.contains("--console-socket SOCKET") && text.contains("-d, --detach"), || text)?;
    }
    Ok(())
}

fn runc(bench: &Bench) -> Outcome {
    std::os::unix::fs::symlink(fs::canonicalize("/proc/self/exe")?, bench.path("runc"))?;
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(bench.path("runc"));
        command.arg("--root").arg(bench.root()).args(args).current_dir(bench.bundle());
        bench.run_command(command.stdin(std::process::Stdio::null()))
    };
    let version = run(&["--version"]).ok()?.out;
    check(version.starts_with("runc version "), || version)?;
    check(run(&["start", "nobody"]).err.starts_with("runc start failed: cannot "), || "start".into())?;
    // A script whose interpreter is not there: the container's process says that itself, and nobody else anything.
    let script = bench.bundle().join("rootfs/script");
    fs::write(&script, "#!/nowhere\n")?;
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    bench.configure(&bench.spec(&["/script"]));
    let done = run(&["run", &bench.id]);
    check(done.code == 1 && done.err == "exec /script: no such file or directory\n", || done.err)?;
    // What to do is in the log.
    let log = bench.path("log");
    let done = run(&["--log", &log.display().to_string(), "run", &bench.id]);
    check(done.err == "exec /script: no such file or directory\n", || done.err)?;
    let text = fs::read_to_string(log)?;
    check(text.contains("check PATH and the entry point"), || text)?;
    let done = run(&["--debug", "run", &bench.id]);
    check(done.err.contains("check PATH and the entry point"), || done.err)
}

fn debug(bench: &Bench) -> Outcome {
    let mut spec = bench.spec(&["/bin/true"]);
    spec["linux"]["seccomp"] =
        serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]});
    bench.configure(&spec);
    let path = bench.path("log").display().to_string();
    let done = bench.run(&["--debug", "--log", &path, "run", &bench.id]).ok()?;
    check(done.err.is_empty(), || done.err)?;
    let log = fs::read_to_string(&path)?;
    for stage in [
        "nsexec container setup",
        "child process in init()",
        "\"seccomp filter flags: 2\"",
        "init: closing the pipe",
    ] {
        check(log.matches(stage).count() == 1, || format!("{stage}: {log}"))?;
    }
    bench.start_sleeper()?;
    spec["process"]["execCPUAffinity"] = serde_json::json!({"initial": "0"});
    let process = bench.path("process.json");
    let mut process_spec = spec["process"].clone();
    process_spec["args"] = serde_json::json!(["/bin/true"]);
    fs::write(&process, process_spec.to_string())?;
    let done =
        bench.run(&["--debug", "exec", "--process", &process.display().to_string(), &bench.id]).ok()?;
    check(
        done.err.contains("nsexec: affinity: 0x1") && done.err.contains("setns_init: about to exec"),
        || done.err,
    )?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}

fn wrong(bench: &Bench) -> Outcome {
    for (args, part) in [
        (&["strat", "x"][..], "did you mean start?"),
        (&["foo", "-h"], "No help topic for 'foo'"),
        (&["create", "--bundel", "x", "y"], "did you mean --bundle?"),
        (&["create"], "id is missing"),
        (&["kill", "x", "SIGNONE"], "unknown signal"),
        (&["checkpoint", "x"], "cannot checkpoint"),
        (&["restore", "--image-path", "y", "x"], "cannot restore"),
        (&["--systemd-cgroup", "create", "x"], "systemd"),
        (&["--log-format", "xml", "list"], "text or json"),
        (&["list", "-f", "xml"], "table or json"),
    ] {
        let done = bench.run(args);
        check(done.code == 1 && done.err.contains(part), || format!("{args:?}: {}", done.err))?;
    }
    Ok(())
}

fn log(bench: &Bench) -> Outcome {
    let path = bench.path("log");
    let file = path.display().to_string();
    let done = bench.run(&["--log", &file, "--log-format", "json", "start", &bench.id]);
    check(done.code == 1 && done.err.contains("does not exist"), || done.err)?;
    let line: Value = serde_json::from_str(fs::read_to_string(&path)?.trim())?;
    check(
        line["level"] == "error" && line["msg"].as_str().is_some_and(|m| m.contains("does not exist")),
        || line.to_string(),
    )?;
    check(line["time"].as_str().is_some_and(|t| t.len() > 19), || line.to_string())?;
    bench.run(&["--log", &file, "start", &bench.id]);
    let text = fs::read_to_string(&path)?;
    check(text.lines().nth(1).is_some_and(|l| l.starts_with("time=\"") && l.contains("level=error")), || text)
}

fn spec(bench: &Bench) -> Outcome {
    fs::remove_file(bench.bundle().join("config.json"))?;
    for args in [&["spec"][..], &["spec", "--rootless"]] {
        bench.run(args).ok()?;
        let text = fs::read(bench.bundle().join("config.json"))?;
        let spec = oci_runtime::contract::parse(&text)?;
        oci_runtime::contract::validate(&spec)?;
        let again = bench.run(args);
        check(again.code == 1 && again.err.contains("remove it first"), || again.err)?;
        fs::remove_file(bench.bundle().join("config.json"))?;
    }
    Ok(())
}

fn features(bench: &Bench) -> Outcome {
    let features = bench.run(&["features"]).ok()?.json()?;
    check(
        features["ociVersionMax"] == "1.3.0" && features["hooks"].as_array().is_some_and(|h| h.len() == 6),
        || features.to_string(),
    )?;
    let options = features["mountOptions"].to_string();
    check(options.contains("\"rro\"") && options.contains("\"rbind\""), || options.clone())
}
