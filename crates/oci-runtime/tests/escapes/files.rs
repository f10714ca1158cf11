//! Mounts over procfs that an image asks for as volumes, and what the runtime writes there.

use std::fs;

use serde_json::json;

use crate::bench::Bench;
use crate::{Outcome, Test, check, picture, with_probe, with_volume};

pub(crate) const TESTS: &[Test] =
    &[("cve_2019_16884_what_is_written_to_procfs_does_not_reach_a_volume_over_it", volume_over_proc)];

fn volume_over_proc(bench: &Bench) -> Outcome {
    let mut spec = bench.sleeper();
    with_probe(&mut spec);
    let volume = with_volume(bench, &mut spec, "volume", "/proc");
    for task in ["self", "thread-self", "1", "2", "3"] {
        fs::create_dir_all(volume.join(task).join("attr/apparmor"))?;
        fs::create_dir_all(volume.join(task).join("fd"))?;
        for name in ["oom_score_adj", "attr/exec", "attr/apparmor/exec", "uid_map", "setgroups"] {
            fs::write(volume.join(task).join(name), "")?;
        }
    }
    let before = picture(&volume);
    spec["process"]["oomScoreAdj"] = 500.into();
    bench.configure(&spec);
    bench.run(&["run", "-d", &bench.id]).ok()?;
    let state = bench.run(&["state", &bench.id]).ok()?.json()?;
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", state["pid"]))?;
    check(score == "500\n", || score.clone())?;
    let file = bench.path("process.json");
    let process = json!({"args": ["/bin/busybox", "sleep", "100"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "oomScoreAdj": 600});
    fs::write(&file, process.to_string())?;
    let pid = bench.path("pid");
    let (file, pid) = (file.display().to_string(), pid.display().to_string());
    bench.run(&["exec", "-d", "-p", &file, "--pid-file", &pid, &bench.id]).ok()?;
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", fs::read_to_string(&pid)?))?;
    check(score == "600\n", || score.clone())?;
    check(picture(&volume) == before, || format!("{:?}", picture(&volume)))?;
    // A profile that cannot be set is no container, whatever the volume says.
    let done = bench.run(&["exec", "--apparmor", "sextant-no-such-profile", &bench.id, "true"]);
    check(done.code != 0 && done.err.contains("apparmor"), || done.err.clone())?;
    check(picture(&volume) == before, || format!("{:?}", picture(&volume)))?;
    bench.run(&["delete", "-f", &bench.id]).ok()?;
    Ok(())
}
