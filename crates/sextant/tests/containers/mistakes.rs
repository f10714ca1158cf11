//! What people type by mistake, and what they are told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::Test;
use crate::bench::{Bench, Ended};

pub(crate) const TESTS: &[Test] = &[
    ("unknown_containers_are_told_by_every_command", unknown),
    ("an_image_without_a_command", no_command),
    ("an_image_that_is_not_here", no_image),
    ("unknown_options_and_commands", usage),
    ("an_ordinary_user_is_told_once", ordinary_user),
    ("the_beginning_of_two_ids", ambiguous),
    ("help_tells_the_same_everywhere", help),
    ("a_reader_that_has_seen_enough", pipes),
];

fn unknown(b: &Bench) {
    for command in ["start", "stop", "kill", "rm", "wait", "pause", "unpause", "logs", "attach", "stats"] {
        let text = b.fails(1, &[command, "nosuch"]);
        assert!(
            text.contains("no container \"nosuch\"") && text.contains("sextant ps -a"),
            "{command}: {text}"
        );
    }
    let text = b.fails(1, &["inspect", "nosuch"]);
    assert!(text.contains("\"nosuch\"") && text.contains("image"), "{text}");
}

fn no_command(b: &Bench) {
    let text = b.fails(125, &["run", "--rm", "nothing"]);
    assert!(text.contains("\"nothing\"") && text.contains("no command"), "{text}");
    assert_eq!(b.ok(&["run", "--rm", "nothing", "probe", "say", "x"]), "x\n");
}

fn no_image(b: &Bench) {
    let text = b.fails(125, &["run", "--rm", "--pull", "never", "nosuch"]);
    assert!(text.contains("nosuch"), "{text}");
    let text = b.fails(125, &["run", "--rm", "127.0.0.1:1/nosuch"]);
    assert!(text.contains("127.0.0.1:1"), "{text}");
    assert!(b.fails(125, &["run", "--rm", "Upper"]).contains("lower case"));
}

fn usage(b: &Bench) {
    let usage = |code: i32, args: &[&str], words: &[&str]| {
        let Ended { code: is, out, err } = b.run(args);
        assert!(is == code && out.is_empty(), "{args:?}: {is} {out} {err}");
        words.iter().for_each(|word| assert!(err.contains(word), "{args:?}: {err}"));
        assert!(!err.contains("'-- -"), "no advice that leads astray: {err}");
    };
    usage(125, &["run"], &["<IMAGE>"]);
    usage(125, &["run", "--volumes", "x", "t"], &["--volumes", "--volume"]);
    usage(125, &["run", "--nosuch", "t"], &["--nosuch", "--help"]);
    usage(125, &["run", "--name"], &["--name"]);
    usage(2, &["stop"], &["<CONTAINER>"]);
    usage(2, &["exec", "x"], &["<COMMAND>"]);
    usage(2, &["psx"], &["psx", "'ps'"]);
    usage(2, &["ps", "-o", "yaml"], &["yaml", "json"]);
    assert!(b.fails(1, &["kill", "-s", "BOGUS", "x"]).contains("\"BOGUS\""));
    assert!(b.fails(125, &["run", "--stop-signal", "BOGUS", "t"]).contains("\"BOGUS\""));
}

fn ordinary_user(b: &Bench) {
    // Where the program was built may be closed to others.
    let dir = tempfile::Builder::new().prefix("sextant-nobody-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = dir.path().join("sextant");
    fs::copy(env!("CARGO_BIN_EXE_sextant"), &program).unwrap();
    let as_nobody = |args: &[&str]| -> Ended {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(args);
        command.arg("--data-dir").arg(b.path("data")).arg("--run-dir").arg(b.path("run"));
        command.current_dir("/").stdin(Stdio::null()).output().unwrap().into()
    };
    for args in [&["ps"][..], &["images"], &["stop", "x"]] {
        let ended = as_nobody(args);
        assert!(ended.code != 0 && ended.err.lines().count() == 1 && ended.err.contains("root"), "{ended:?}");
    }
    let ended = as_nobody(&["--help"]);
    assert!(ended.code == 0 && ended.out.contains("Usage: sextant"), "{ended:?}");
}

fn ambiguous(b: &Bench) {
    // By the pigeon hole: seventeen ids, sixteen first digits.
    for _ in 0..17 {
        b.ok(&["run", "--network", "none", "t"]);
    }
    let ids = b.ok(&["ps", "-aq"]);
    let mut firsts: Vec<&str> = ids.lines().map(|id| &id[..1]).collect();
    firsts.sort_unstable();
    let twice = firsts.windows(2).find(|pair| pair[0] == pair[1]).unwrap()[0];
    let text = b.fails(1, &["rm", twice]);
    assert!(text.contains(&format!("{twice:?}")) && text.contains("give more"), "{text}");
    b.ok(&[&["rm"], &ids.lines().collect::<Vec<_>>()[..]].concat());
}

fn help(b: &Bench) {
    let top = b.ok(&["--help"]);
    let commands = top.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    // A long description goes on further to the right.
    let named = commands.filter(|l| !l.starts_with("   "));
    let names: Vec<&str> = named.filter_map(|l| l.split_whitespace().next()).collect();
    assert!(names.len() > 20 && names.contains(&"run"), "{top}");
    for name in names {
        let text = b.ok(&[name, "--help"]);
        assert!(text.contains(&format!("Usage: sextant {name}")), "{text}");
        // Every option says what it does. "- " begins a value that one may have.
        let lines: Vec<&str> = text.lines().collect();
        let is_option = |line: &str| line.starts_with('-') && !line.starts_with("- ");
        for pair in lines.windows(2).filter(|pair| is_option(pair[0].trim_start())) {
            let words = pair[0].trim_start().split("  ").filter(|w| !w.trim().is_empty()).count();
            assert!(words > 1 || !pair[1].trim().is_empty(), "{name}: {pair:?}");
        }
    }
    assert!(b.ok(&["--version"]).starts_with("sextant "));
}

/// `| head -1` and the like: no complaint, no panic.
fn pipes(b: &Bench) {
    b.ok(&["run", "--name", "some", "t", "probe", "flood", "1000000"]);
    for args in
        [&["ps", "-aq"][..], &["ps", "-a"], &["inspect", "some"], &["logs", "some"], &["wait", "some"]]
    {
        let mut command = b.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended: Ended = child.wait_with_output().unwrap().into();
        assert_eq!(ended.err, "", "{args:?}");
    }
    b.ok(&["rm", "some"]);
}
