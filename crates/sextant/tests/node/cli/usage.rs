//! `sextant ps`, `stats` and `top` with pods.

use serde_json::Value;

use super::screen::Screen;
use crate::bench::Bench;

fn json(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap()
}

pub(super) fn ps(b: &Bench) {
    let pod = b.host_pod("listed");
    let runs = b.run(&pod, "runs", &["probe", "sleep"]);
    let ended = b.run(&pod, "ended", &["probe"]);
    b.until_exited(&ended);
    b.says(&["run", "--name", "mine", "--network", "none", "t", "probe"]);
    let listed = b.says(&["ps"]);
    assert!(
        listed.contains(&runs[..12]) && listed.contains("tests/listed") && !listed.contains(&ended[..12]),
        "{listed}"
    );
    let all = b.says(&["ps", "-a"]);
    assert!(all.contains(&ended[..12]) && all.contains("mine"), "{all}");
    let documents = json(&b.says(&["ps", "-a", "-o", "json"]));
    let of = |name: &str| documents.iter().find(|c| c["name"] == name).unwrap();
    assert_eq!((&of("runs")["pod"], &of("ended")["state"]), (&"tests/listed".into(), &"exited".into()));
    assert!(of("mine")["pod"].is_null());
    // What can be given to `rm` is what -q lists; a pod's containers are asked for.
    assert!(!b.says(&["ps", "-aq"]).contains(&ended[..12]));
    let mut ids: Vec<String> = b.says(&["ps", "-aq", "--pod", "listed"]).lines().map(str::to_owned).collect();
    ids.sort();
    let mut want = [&runs[..12], &ended[..12]];
    want.sort_unstable();
    assert_eq!(ids, want);
    b.refuses(1, &["ps", "--pod", "nosuch"], &["no pod \"nosuch\""]);
    b.refuses(1, &["ps", "--cri", "/nonexistent/cri.sock"], &["/nonexistent/cri.sock", "--cri"]);
    // A runtime that goes while it is written to is told of: a signal would end these without a word.
    for command in ["ps", "stats"] {
        let socket = b.path("gone.sock");
        let gone = testkit::faulty::deaf(&socket, 1);
        b.refuses(1, &[command, "--cri", socket.to_str().unwrap()], &["the connection broke: "]);
        gone.join().unwrap();
    }
    b.says(&["rm", "mine"]);
    b.remove_pod(&pod);
}

pub(super) fn stats(b: &Bench) {
    let pod = b.host_pod("used");
    let c = b.run(&pod, "c", &["probe", "write", "/tmp/file", "text", "then", "say", "up", "then", "sleep"]);
    b.until_logged("used", "c", "up");
    let rows = json(&b.says(&["stats", "-o", "json"]));
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!((&row(&pod)["kind"], &row(&pod)["name"]), (&"pod".into(), &"tests/used".into()));
    assert_eq!((&row(&c)["kind"], &row(&c)["pod"]), (&"container".into(), &"tests/used".into()));
    for key in ["memoryBytes", "cpuNanoseconds", "inodes", "logBytes"] {
        assert!(
            row(&c)[key].as_u64().unwrap() > 0 && row(&pod)[key].as_u64().unwrap() > 0,
            "{key}: {rows:?}"
        );
    }
    assert!(row(&c)["cpus"].is_f64() && row(&pod)["pids"] == 1, "{rows:?}");
    let size = std::fs::metadata(b.log_path("used", "c")).unwrap().len();
    assert_eq!(row(&c)["logBytes"], size);
    let table = b.says(&["stats", "--no-stream"]);
    assert!(table.contains("tests/used") && table.contains("  c ") && !table.contains('\u{1b}'), "{table}");
    for args in [&["stats", "c"][..], &["stats", "-p", "used", "-c", "c"]] {
        let one = b.says(args);
        assert!(one.lines().count() == 2 && one.contains(&c[..12]), "{args:?}: {one}");
    }
    assert_eq!(b.says(&["stats", "-p", "used"]).lines().count(), 3);
    let once = b.cli(&["top"]);
    assert!(once.code == 0 && once.err.contains("shown once") && once.out.contains("tests/used"), "{once:?}");
    assert!(json(&b.says(&["top", "-o", "json"])).len() >= 2);
    let mut screen = Screen::new(&b.command(&["top"]));
    b.until("it is drawn again", || screen.shown().matches("\u{1b}[2J").count() >= 2);
    assert!(screen.shown().contains("tests/used"), "{}", screen.shown());
    screen.type_in("\x03");
    screen.end();
    b.refuses(1, &["stats", "nosuch"], &["no container \"nosuch\""]);
    b.stop(&c, 0);
    b.refuses(1, &["stats", "c"], &[&c[..12], "not running"]);
    b.remove_pod(&pod);
}
