//! From a container's beginning to its removal.

use serde_json::json;

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("a_detached_container_runs_on", detached),
    ("containers_are_listed", listed),
    ("names_are_taken_once", names),
    ("an_ended_container_starts_again", start),
    ("stop_asks_first_and_then_insists", stop),
    ("kill_sends_any_signal", kill),
    ("a_running_container_is_not_removed", rm),
    ("wait_prints_exit_codes", wait),
    ("a_frozen_container_stands_still", pause),
    ("inspect_tells_all", inspect),
    ("stats_are_numbers", stats),
    ("rm_leaves_nothing", nothing_left),
];

fn detached(b: &Bench) {
    let id = b.ok(&["run", "-d", "--name", "web", "t", "probe", "sleep"]);
    assert_eq!((id.len(), id.ends_with('\n')), (65, true));
    let short = &id[..12];
    for name in ["web", short, &id[..64], &id[..5]] {
        assert_eq!(b.inspect(name, "/name"), "web");
    }
    assert_eq!(b.ok(&["stop", "-t", "0", short]), format!("{short}\n"));
    assert_eq!(b.ok(&["rm", "web"]), "web\n");
    // One that is removed at its end.
    b.ok(&["run", "-d", "--rm", "--name", "brief", "t"]);
    b.until("it is gone", || b.ok(&["ps", "-aq"]).is_empty());
}

fn listed(b: &Bench) {
    assert_eq!(b.ok(&["ps"]).split_whitespace().next(), Some("ID"));
    assert_eq!(b.json(&["ps", "-a", "-o", "json"]), json!([]));
    let id = b.ok(&["run", "-d", "--name", "up", "-p", "127.0.0.1:8080:80", "t", "probe", "sleep"]);
    b.run(&["run", "--name", "down", "t", "probe", "exit", "3"]);
    let running = b.ok(&["ps"]);
    assert!(running.contains(&id[..12]) && running.contains("running") && !running.contains("down"));
    assert!(running.contains("127.0.0.1:8080->80/tcp"), "{running}");
    let all = b.ok(&["ps", "--all"]);
    let row = all.lines().find(|l| l.contains("down")).unwrap();
    assert!(row.contains("probe exit 3") && row.contains("exited (3)"), "{row}");
    assert_eq!(b.ok(&["ps", "-q"]), format!("{}\n", &id[..12]));
    assert_eq!(b.ok(&["ps", "-qa"]).lines().count(), 2);
    let rows = b.json(&["ps", "-a", "-o", "json"]);
    let find = |name: &str| rows.as_array().unwrap().iter().find(|r| r["name"] == name).unwrap();
    assert_eq!((&find("up")["state"], &find("up")["id"]), (&"running".into(), &id.trim().into()));
    assert!(find("up")["pid"].as_i64().unwrap() > 1);
    assert_eq!((&find("down")["state"], &find("down")["exitCode"]), (&"exited".into(), &3.into()));
    b.ok(&["rm", "-f", "up", "down"]);
}

fn names(b: &Bench) {
    b.ok(&["run", "--name", "one", "t"]);
    let text = b.fails(125, &["run", "--name", "one", "t"]);
    assert!(text.contains("\"one\"") && text.contains("sextant rm one"), "{text}");
    let text = b.fails(125, &["run", "-d", "--rm", "--name", "a/b", "t"]);
    assert!(text.contains("\"a/b\""), "{text}");
    assert_eq!(b.ok(&["rm", "one"]), "one\n");
    b.ok(&["run", "--name", "one", "--rm", "t"]);
}

fn start(b: &Bench) {
    b.ok(&["run", "--name", "again", "t", "probe", "add", "/file", "x", "then", "read", "/file"]);
    assert_eq!(b.ok(&["start", "again"]), "again\n");
    b.until_state("again", "exited");
    assert_eq!(b.ok(&["logs", "again"]), "x\nx\nx\n", "what it wrote is still there");
    b.ok(&["rm", "again"]);
    // Ports and all: it runs as it ran before. One that runs is started already.
    b.ok(&["run", "-d", "--name", "web", "-p", "8080:80", "t", "probe", "serve", "80", "web"]);
    b.ok(&["stop", "-t", "0", "web"]);
    b.ok(&["start", "web"]);
    assert_eq!(b.ok(&["start", "web"]), "web\n");
    assert!(crate::probe::ask("127.0.0.1:8080").unwrap().starts_with("web "));
    b.ok(&["rm", "-f", "web"]);
}

fn stop(b: &Bench) {
    // TERM, which it takes.
    b.ok(&["run", "-d", "--name", "polite", "t", "probe", "trap", "TERM", "then", "exit", "4"]);
    b.until_logged("polite", "ready");
    b.ok(&["stop", "polite"]);
    assert_eq!(b.inspect("polite", "/detail/exitCode"), 4);
    assert_eq!(b.ok(&["stop", "polite"]), "polite\n", "it is stopped, which is what was asked");
    b.ok(&["rm", "polite"]);
    // Deaf to TERM, as a first process without a handler is.
    b.ok(&["run", "-d", "--name", "deaf", "t", "probe", "sleep"]);
    b.ok(&["stop", "--time", "1", "deaf"]);
    assert_eq!(b.inspect("deaf", "/detail/exitCode"), 137);
    b.ok(&["rm", "deaf"]);
    // Another signal: this command's, the container's, the image's.
    let trap = ["probe", "trap", "INT", "then", "exit", "5"];
    for (options, image, stop) in [
        (&[][..], "t", &["--signal", "INT"][..]),
        (&["--stop-signal", "SIGINT"], "t", &[]),
        (&["--entrypoint", ""], "tool", &[]),
    ] {
        b.ok(&[&["run", "-d", "--name", "other"], options, &[image], &trap[..]].concat());
        b.until_logged("other", "ready");
        b.ok(&[&["stop"], stop, &["other"]].concat());
        assert_eq!(b.inspect("other", "/detail/exitCode"), 5);
        b.ok(&["rm", "other"]);
    }
    // A frozen one is stopped too.
    b.ok(&["run", "-d", "--name", "frozen", "t", "probe", "trap", "TERM"]);
    b.until_logged("frozen", "ready");
    b.ok(&["pause", "frozen"]);
    b.ok(&["stop", "frozen"]);
    assert_eq!(b.inspect("frozen", "/detail/exitCode"), 0);
    b.ok(&["rm", "frozen"]);
}

fn kill(b: &Bench) {
    b.ok(&["run", "-d", "--name", "target", "t", "probe", "trap", "HUP", "USR1", "then", "exit", "6"]);
    b.until_logged("target", "ready");
    b.ok(&["kill", "-s", "SIGHUP", "target"]);
    b.until_logged("target", "got HUP");
    b.ok(&["kill", "--signal", "10", "target"]);
    b.until_state("target", "exited");
    assert_eq!(b.inspect("target", "/detail/exitCode"), 6);
    let text = b.fails(1, &["kill", "target"]);
    assert!(text.contains("not running"), "{text}");
    b.ok(&["rm", "target"]);
}

fn rm(b: &Bench) {
    b.ok(&["run", "-d", "--name", "busy", "t", "probe", "sleep"]);
    let text = b.fails(1, &["rm", "busy"]);
    assert!(
        text.contains("running") && text.contains("sextant stop busy") && text.contains("--force"),
        "{text}"
    );
    let ended = b.run(&["rm", "-f", "nosuch", "busy"]);
    assert_eq!((ended.code, ended.out.as_str()), (1, "busy\n"), "{ended:?}");
    assert!(ended.err.contains("\"nosuch\"") && ended.err.lines().count() == 1, "{ended:?}");
}

fn wait(b: &Bench) {
    let dir = b.scratch();
    let volume = format!("{dir}:/out");
    b.ok(&[
        "run", "-d", "--name", "late", "-v", &volume, "t", "probe", "await", "/out/go", "then", "exit", "9",
    ]);
    let mut waiting = b.spawn(&["wait", "late"]);
    std::fs::write(format!("{dir}/go"), "").unwrap();
    assert_eq!(waiting.end().out, "9\n");
    assert_eq!(b.ok(&["wait", "late", "late"]), "9\n9\n");
    b.ok(&["rm", "late"]);
}

fn pause(b: &Bench) {
    let dir = b.scratch();
    let volume = format!("{dir}:/out");
    b.ok(&[
        "run", "-d", "--name", "cold", "-v", &volume, "t", "probe", "await", "/out/go", "then", "say", "on",
    ]);
    b.ok(&["pause", "cold"]);
    assert_eq!(b.inspect("cold", "/state"), "paused");
    assert!(b.ok(&["ps"]).contains("paused"));
    let text = b.fails(126, &["exec", "cold", "probe", "say", "x"]);
    assert!(text.contains("paused"), "{text}");
    std::fs::write(format!("{dir}/go"), "").unwrap();
    assert_eq!(b.ok(&["logs", "cold"]), "");
    b.ok(&["unpause", "cold"]);
    b.until_state("cold", "exited");
    assert_eq!(b.ok(&["logs", "cold"]), "on\n");
    assert!(b.fails(1, &["pause", "cold"]).contains("not running"));
    b.ok(&["rm", "cold"]);
}

fn inspect(b: &Bench) {
    let id = b.ok(&["run", "-d", "--name", "seen", "-p", "8080:80", "t", "probe", "sleep"]);
    let all = b.json(&["inspect", "seen", "t"]);
    let (container, image) = (&all[0], &all[1]);
    assert_eq!((&container["kind"], &image["kind"]), (&"container".into(), &"image".into()));
    assert_eq!((&container["id"], &container["imageId"]), (&id.trim().into(), &image["id"]));
    assert_eq!((&container["state"], &container["image"]), (&"running".into(), &"t".into()));
    assert_eq!(container["command"], json!(["probe", "sleep"]));
    assert_eq!(container["network"]["ports"][0]["hostPort"], 8080);
    assert_eq!(container["network"]["addresses"].as_array().unwrap().len(), 1, "{}", container["network"]);
    let pid = container["detail"]["pid"].as_i64().unwrap();
    assert!(std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().contains("probe\0sleep"));
    assert!(std::path::Path::new(container["log"].as_str().unwrap()).exists());
    assert_eq!(container["config"]["process"]["args"], json!(["probe", "sleep"]));
    b.ok(&["rm", "-f", "seen"]);
    let text = b.fails(1, &["inspect", "seen"]);
    assert!(text.contains("\"seen\""), "{text}");
}

fn stats(b: &Bench) {
    assert_eq!(b.json(&["stats", "-o", "json"]), json!([]));
    b.ok(&["run", "-d", "--name", "idle", "--memory", "64m", "t", "probe", "say", "up", "then", "sleep"]);
    b.until_logged("idle", "up");
    let row = &b.json(&["stats", "-o", "json", "idle"])[0];
    assert_eq!((&row["name"], &row["memoryLimitBytes"]), (&"idle".into(), &(64 << 20).into()));
    assert!(row["memoryBytes"].as_u64().unwrap() > 0 && row["cpus"].is_f64(), "{row}");
    assert_eq!(row["pids"], 1);
    let table = b.ok(&["stats"]);
    assert!(table.contains("idle") && table.contains('%') && !table.contains('\u{1b}'), "{table}");
    b.ok(&["stop", "-t", "0", "idle"]);
    let text = b.fails(1, &["stats", "idle"]);
    assert!(text.contains("idle") && text.contains("not running"), "{text}");
    b.ok(&["rm", "idle"]);
}

fn nothing_left(b: &Bench) {
    let dir = b.scratch();
    let volume = format!("{dir}:/out");
    b.ok(&["run", "--rm", "-p", "8080:80", "-v", &volume, "--tmpfs", "/x", "--memory", "64m", "t"]);
    assert_eq!(b.ok(&["ps", "-aq"]), "");
    // Nor does one that could not be started.
    b.fails(127, &["run", "-p", "8080:80", "t", "nosuch"]);
    b.fails(127, &["run", "-d", "-p", "8080:80", "t", "nosuch"]);
    assert_eq!(b.ok(&["ps", "-aq"]), "");
}
