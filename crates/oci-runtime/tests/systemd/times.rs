//! How long it takes: printed, never asserted.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::bench::Bench;
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[("times_are_printed", times)];

/// `SEXTANT_OCI_ROUNDS` says otherwise.
fn rounds() -> usize {
    std::env::var("SEXTANT_OCI_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5)
}

const AT_A_TIME: usize = 20;

type Setting = (&'static str, &'static [&'static str], Option<&'static str>);

/// Cgroups by the kernel's files alone, through the bus, and through systemd's own socket.
const SETTINGS: [Setting; 3] = [
    ("cgroupfs", &[], None),
    ("systemd, bus", &["--systemd-cgroup"], None),
    ("systemd, own socket", &["--systemd-cgroup"], Some("unix:path=/run/none")),
];

fn times(bench: &Bench) -> Outcome {
    for what in ["create", "delete -f"] {
        println!("  {what:<10} median (least) of {}, ms", rounds());
        let mut all = vec![Vec::new(); SETTINGS.len()];
        for _ in 0..rounds() {
            for (setting, times) in SETTINGS.iter().zip(&mut all) {
                configure(bench, setting);
                let create = timed(bench, setting, &["create", &bench.id])?;
                let delete = timed(bench, setting, &["delete", "--force", &bench.id])?;
                times.push(if what == "create" { create } else { delete });
            }
        }
        for ((name, _, _), times) in SETTINGS.iter().zip(&mut all) {
            times.sort();
            println!("    {name:<20} {:6.1} ({:.1})", ms(times[times.len() / 2]), ms(times[0]));
        }
    }
    println!("  {AT_A_TIME} creates and deletes at a time, all done after, ms");
    for setting in &SETTINGS {
        println!("    {:<20} {:6.0}", setting.0, ms(crowd(setting)?));
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn configure(bench: &Bench, (_, options, _): &Setting) {
    let mut spec = bench.sleeper();
    if !options.is_empty() {
        spec["linux"]["cgroupsPath"] = json!(format!("sxtest.slice:bench:{}", bench.id));
    }
    spec["linux"]["resources"]["pids"] = json!({"limit": 40});
    bench.configure(&spec);
}

fn timed(
    bench: &Bench,
    (_, options, bus): &Setting,
    args: &[&str],
) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut command = bench.command();
    command.args(*options).args(args);
    if let Some(bus) = bus {
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
    }
    let begun = Instant::now();
    bench.run_command(&mut command).ok()?;
    Ok(begun.elapsed())
}

fn crowd(setting: &Setting) -> Result<Duration, Box<dyn std::error::Error>> {
    let benches: Vec<Bench> = (0..AT_A_TIME).map(|_| Bench::new()).collect();
    benches.iter().for_each(|bench| configure(bench, setting));
    let begun = Instant::now();
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let one = |bench: &Bench| {
            timed(bench, setting, &["create", &bench.id])
                .and_then(|_| timed(bench, setting, &["delete", "--force", &bench.id]))
                .map(drop)
                .map_err(|e| e.to_string())
        };
        let threads: Vec<_> = benches.iter().map(|bench| scope.spawn(move || one(bench))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into()))).collect()
    });
    let time = begun.elapsed();
    results.into_iter().collect::<Result<(), String>>()?;
    Ok(time)
}
