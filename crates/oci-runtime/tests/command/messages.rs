//! Help, version, messages, logs, and the documents of spec and features.

use std::fs;

use serde_json::Value;

use crate::bench::Bench;
use crate::{Outcome, Test, check};

pub(crate) const TESTS: &[Test] = &[
    ("help_and_version", help),
    ("what_is_wrong_is_named", wrong),
    ("messages_go_to_the_log", log),
    ("spec_writes_a_configuration", spec),
    ("features_are_told", features),
];

fn help(bench: &Bench) -> Outcome {
    let version = bench.output(&["--version"]);
    let text = String::from_utf8(version.stdout)?;
    check(text.starts_with("sextant-oci version ") && text.contains("spec: 1.3.0"), || text)?;
    for args in [&["--help"][..], &["-h"], &["help"], &[]] {
        let text = bench.run(args).ok()?.out;
        check(text.contains("create") && text.contains("--root DIR"), || text)?;
    }
    for args in [&["run", "--help"][..], &["run", "-h"], &["help", "run"], &["run", "x", "--help"]] {
        let text = bench.run(args).ok()?.out;
        check(text.contains("--console-socket SOCKET") && text.contains("-d, --detach"), || text)?;
    }
    Ok(())
}

fn wrong(bench: &Bench) -> Outcome {
    for (args, part) in [
        (&["strat", "x"][..], "did you mean start?"),
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
