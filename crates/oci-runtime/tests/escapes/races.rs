//! A container that shares a volume exchanges directories and links in it while another starts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::paths::{treasure, ways_out};
use crate::{Attacker, Outcome, Test, check, picture, probing, push, rounds};

pub(crate) const TESTS: &[Test] = &[
    ("cve_2021_30465_mounts_stay_inside_while_their_targets_are_exchanged", mounts),
    ("cve_2024_45310_nothing_empty_is_made_outside_while_targets_are_exchanged", empty),
    ("cve_2025_52881_a_working_directory_is_made_inside_while_it_is_exchanged", working_directory),
];

/// A volume whose `a` is a directory, and whose `b` leads to `to` in one way or another.
fn volume(bench: &Bench, to: &str) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let path = bench.path("shared");
    drop(fs::remove_dir_all(&path));
    fs::create_dir_all(path.join("a"))?;
    symlink(to, path.join("b"))?;
    Ok(path)
}

/// How many containers started and how many did not, with `change` made to each; `inspect` looks at what one answered.
fn race(
    bench: &Bench,
    treasure: &Path,
    change: impl Fn(&mut Value, u32),
    inspect: impl Fn(&Value) -> Outcome,
) -> Outcome {
    let before = picture(treasure);
    let (mut ran, mut refused) = (0, 0);
    for to in ways_out(treasure) {
        let shared = volume(bench, &to)?;
        let attacker = Attacker::start(&shared, &["swap", "a=b"])?;
        let outcome = (0..rounds()).try_for_each(|round| {
            let mut spec = probing(bench, &["look"]);
            push(&mut spec, "/mounts", json!({"destination": "/v", "source": shared, "options": ["rbind"]}));
            change(&mut spec, round);
            bench.configure(&spec);
            let done = bench.run(&["run", &bench.id]);
            if done.code == 0 {
                ran += 1;
                inspect(&done.json()?)?;
            } else {
                refused += 1;
            }
            check(picture(treasure) == before, || format!("round {round}: {:?}", picture(treasure)))
        });
        attacker.end()?;
        outcome?;
    }
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    check(!table.contains("sextant-mark"), || "a mount is left on the host".into())?;
    check(ran > 0, || format!("no container ran, {refused} were refused: nothing was tried"))
}

/// Where mounts of this source are.
fn places(answer: &Value, mark: &str) -> Vec<String> {
    let text = answer["mounts"].as_str().unwrap_or_default();
    let found = text.lines().filter(|line| line.split(' ').any(|word| word == mark));
    found.filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

fn mounts(bench: &Bench) -> Outcome {
    let treasure = treasure(bench)?;
    let root = bench.bundle().join("rootfs");
    // The way out leads somewhere inside, too.
    let inside = root.join(treasure.display().to_string().trim_start_matches('/'));
    fs::create_dir_all(&inside)?;
    let tmpfs = |spec: &mut Value, _| {
        push(spec, "/mounts", json!({"destination": "/v/a/sub", "type": "tmpfs", "source": "sextant-mark"}));
        push(spec, "/mounts", json!({"destination": "/v/a/dir", "type": "tmpfs", "source": "sextant-mark"}));
    };
    race(bench, &treasure, tmpfs, |answer| {
        let found = places(answer, "sextant-mark");
        // Each of the two is somewhere in this root, where it can be seen.
        check(found.len() == 2, || format!("mounts are elsewhere: {found:?}"))
    })
}

fn empty(bench: &Bench) -> Outcome {
    let treasure = treasure(bench)?;
    let change = |spec: &mut Value, round: u32| {
        for (at, source) in
            [(format!("/v/a/file-{round}"), "/etc/hostname"), (format!("/v/a/x/y-{round}"), "/var")]
        {
            push(spec, "/mounts", json!({"destination": at, "source": source, "options": ["bind"]}));
        }
        spec["linux"]["devices"] =
            json!([{"path": format!("/v/a/null-{round}"), "type": "c", "major": 1, "minor": 3}]);
    };
    race(bench, &treasure, change, |_| Ok(()))
}

fn working_directory(bench: &Bench) -> Outcome {
    let treasure = treasure(bench)?;
    let change = |spec: &mut Value, round: u32| spec["process"]["cwd"] = format!("/v/a/cwd-{round}").into();
    race(bench, &treasure, change, |answer| {
        let cwd = answer["cwd"].as_str().unwrap_or_default();
        check(cwd.starts_with("/v/"), || cwd.to_owned())
    })
}
