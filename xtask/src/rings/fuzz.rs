//! Ring 6: every parser of bytes from outside, fed by libFuzzer.
//!
//! The targets are in `fuzz/fuzz_targets`, what they begin with in `fuzz/seeds`. One program has them all, for linking each
//! with what it is about takes minutes and gigabytes. Coverage is the compiler's own pass and
//! needs no nightly: `-C passes` and `-C llvm-args` are stable. An input that crashed belongs into the seeds once the
//! fault is mended.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Count, Extent};
use crate::Result;
use crate::program::{call, cargo_command, output, read, root, target};

/// Which edges were taken and which numbers compared, so that libFuzzer can follow; and every check that a release
/// leaves out.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];
/// The target with a known bug: without its crash nobody would know that the others can have one.
const PLANTED: &str = "planted";
const SAMPLE: Duration = Duration::from_secs(5);
const FULL: Duration = Duration::from_secs(300);
/// The planted bug takes a second or two.
const PLANTED_WITHIN: Duration = Duration::from_secs(120);

/// One target and the folders it works with.
struct Target {
    name: String,
    /// The program of all.
    program: PathBuf,
    seeds: PathBuf,
    corpus: PathBuf,
    artifacts: PathBuf,
    /// Where it may leave files; gone with the ring.
    place: PathBuf,
}

/// How a run ended.
struct Ended {
    crashed: bool,
    inputs: u64,
    edges: u64,
    text: String,
}

pub(super) fn run(extent: &mut Extent) -> Result<Count> {
    let program = build(extent.full)?;
    // In memory: some targets make files for each input.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let place = tempfile::Builder::new().prefix("sextant-fuzz-").tempdir_in(parent)?;
    let time = if extent.full { FULL } else { SAMPLE };
    let mut count = Count::default();
    let mut seed = || extent.random.below(u64::from(u32::MAX)) + 1;
    let planted = Target::new(PLANTED, &program, place.path(), false)?;
    count.add("fuzz: the planted bug is found", planted.finds_the_planted(seed()));
    // A seed is drawn for each, so that --only does not change what the others get.
    let names = names()?.into_iter().filter(|name| name != PLANTED);
    let all: Vec<(String, u64)> = names.map(|name| (name, seed())).collect();
    let chosen: Vec<_> = all.into_iter().filter(|(name, _)| name.contains(&extent.only)).collect();
    let runs = at_once(&chosen, |(name, seed)| {
        let target = Target::new(name, &program, place.path(), extent.full).map_err(|e| e.to_string())?;
        target.survives(time, *seed).map_err(|e| e.to_string())
    });
    for ((name, _), outcome) in chosen.iter().zip(runs) {
        count.add(&format!("fuzz {name}"), outcome.map_err(Into::into));
    }
    Ok(count)
}

/// Does something for each, as many at a time as there are processors, for a target keeps one of them busy; what came of
/// them is in their order.
fn at_once<T: Sync, R: Send>(all: &[T], act: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(all.len())));
    let worker = || {
        while let Some((index, one)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, all.get(i)?)))
        {
            let outcome = act(one);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, outcome));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, NonZeroUsize::get) {
            scope.spawn(worker);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

/// What builds the program of all targets.
pub(super) fn building(full: bool) -> Command {
    let mut cargo = cargo_command();
    if !full {
        // Seconds of fuzzing are not worth minutes of optimising.
        cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    }
    cargo.args(["build", "--release", "--locked", "--manifest-path"]).arg(root().join("fuzz/Cargo.toml"));
    cargo.arg("--target-dir").arg(target().join("fuzz")).env("RUSTFLAGS", FLAGS.join(" "));
    cargo
}

/// Builds the program of all targets; where it is.
fn build(full: bool) -> Result<PathBuf> {
    let place = target().join("fuzz");
    call(&mut building(full))?;
    let version = read("rustc", ["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?;
    Ok(place.join(host).join("release/fuzz"))
}

/// Every target, by its file.
fn names() -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets"))? {
        names.extend(entry?.path().file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names.remove("mod");
    Ok(names)
}

impl Target {
    /// In a full run the corpus is kept and grows from one to the next; else a run depends on its seed alone.
    fn new(name: &str, program: &Path, place: &Path, keep: bool) -> Result<Self> {
        let kept = target().join("fuzz");
        let target = Self {
            name: name.to_owned(),
            program: program.to_owned(),
            seeds: root().join("fuzz/seeds").join(name),
            corpus: if keep { kept.join("corpus") } else { place.join("corpus") }.join(name),
            artifacts: kept.join("artifacts").join(name),
            place: place.to_owned(),
        };
        if !target.seeds.is_dir() {
            return Err(format!("{} has nothing to begin with: no {}", name, target.seeds.display()).into());
        }
        [&target.corpus, &target.artifacts].into_iter().try_for_each(fs::create_dir_all)?;
        Ok(target)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("--target={}", self.name));
        command
    }

    fn survives(&self, time: Duration, seed: u64) -> Result<()> {
        let ended = self.fuzz(time, seed)?;
        if ended.crashed {
            return Err(self.told(&ended, seed).into());
        }
        let seeds = fs::read_dir(&self.seeds)?.count() as u64;
        if ended.inputs < seeds || ended.edges == 0 {
            return Err(format!("{} inputs and {} edges are no run", ended.inputs, ended.edges).into());
        }
        println!("        {}: {} inputs, {} edges, seed {seed}", self.name, ended.inputs, ended.edges);
        Ok(())
    }

    /// It crashes, leaves the input, and that input alone crashes it again.
    fn finds_the_planted(&self, seed: u64) -> Result<()> {
        fs::remove_dir_all(&self.artifacts)?;
        fs::create_dir_all(&self.artifacts)?;
        let ended = self.fuzz(PLANTED_WITHIN, seed)?;
        let input = self.newest().filter(|_| ended.crashed);
        let input = input.ok_or_else(|| format!("it was not, in {} inputs, seed {seed}", ended.inputs))?;
        let again = output(self.command().arg(&input))?;
        let text = String::from_utf8_lossy(&again.stderr);
        if again.status.success() || !text.contains("panicked") {
            return Err(format!("{} does not crash it again", input.display()).into());
        }
        let innocent = output(self.command().arg(self.seeds.join("header")))?;
        if !innocent.status.success() {
            return Err("it crashes on what is harmless".into());
        }
        println!("        {}: found in {} inputs, seed {seed}", self.name, ended.inputs);
        Ok(())
    }

    fn fuzz(&self, time: Duration, seed: u64) -> Result<Ended> {
        let mut command = self.command();
        let words = dictionary(&self.seeds)?;
        if !words.is_empty() {
            let file = self.place.join(format!("{}.dict", self.name));
            fs::write(&file, words)?;
            command.arg(format!("-dict={}", file.display()));
        }
        command.arg(format!("-seed={seed}")).arg(format!("-max_total_time={}", time.as_secs()));
        command.arg(format!("-artifact_prefix={}/", self.artifacts.display()));
        command.args(["-timeout=20", "-rss_limit_mb=2048", "-max_len=16384", "-print_final_stats=1"]);
        command.arg(&self.corpus).arg(&self.seeds).current_dir(&self.place).env("TMPDIR", &self.place);
        let output = output(&mut command)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        fs::write(self.artifacts.join("log"), &text)?;
        Ok(ended(!output.status.success(), text))
    }

    /// The last input that crashed it.
    fn newest(&self) -> Option<PathBuf> {
        let entries = fs::read_dir(&self.artifacts).ok()?.flatten();
        let inputs = entries.filter(|entry| entry.file_name() != "log");
        inputs.max_by_key(|entry| entry.metadata().and_then(|m| m.modified()).ok()).map(|entry| entry.path())
    }

    fn told(&self, ended: &Ended, seed: u64) -> String {
        let why = ended.text.lines().find(|line| line.contains("panicked at") || line.contains("ERROR: "));
        let input = self.newest().map_or_else(|| "no input".into(), |input| input.display().to_string());
        let after = ended.text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
        format!(
            "{} {}\n        repeat: {} --target={} {input}\n        found with -seed={seed}; all it said: {}",
            why.unwrap_or("it ended and did not say why").trim(),
            after.unwrap_or_default(),
            self.program.display(),
            self.name,
            self.artifacts.join("log").display()
        )
    }
}

/// Reads libFuzzer's words: `#1234 ... cov: 56 ...`, the last of them.
fn ended(crashed: bool, text: String) -> Ended {
    let number = |line: &str, word: &str| {
        let rest = line.split(word).nth(1)?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    let edges = text.lines().filter_map(|line| number(line, " cov: ")).next_back().unwrap_or(0);
    let runs = text.lines().filter(|line| line.starts_with('#')).filter_map(|line| number(line, "#"));
    let inputs = runs.max().unwrap_or(0);
    Ended { crashed, inputs, edges, text }
}

/// The words of the seeds, as libFuzzer reads them: names of fields, media types, header lines.
fn dictionary(seeds: &Path) -> Result<String> {
    let mut words = BTreeSet::new();
    for entry in fs::read_dir(seeds)? {
        let bytes = fs::read(entry?.path())?;
        let apart = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"_-./+".contains(byte));
        words.extend(bytes.split(apart).filter(|word| (3..=64).contains(&word.len())).map(<[u8]>::to_vec));
    }
    let quoted = words.into_iter().filter_map(|word| String::from_utf8(word).ok());
    Ok(quoted.map(|word| format!("\"{word}\"\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_read() {
        let text = "INFO: seed corpus: files: 2\n#3\tINITED cov: 97 ft: 98 corp: 2/5b\n\
                    #4096\tpulse  cov: 120 ft: 130\n#41244\tDONE   cov: 131 ft: 140 corp: 9/90b\n";
        let ended = ended(false, text.into());
        assert_eq!((ended.inputs, ended.edges), (41244, 131));
        assert_eq!(super::ended(true, String::new()).inputs, 0);
    }

    #[test]
    fn what_is_done_at_once_comes_back_in_order() {
        let all: Vec<u64> = (0..50).collect();
        let doubled = at_once(&all, |number| {
            std::thread::sleep(Duration::from_micros(50 - number));
            2 * number
        });
        assert_eq!(doubled, (0..100).step_by(2).collect::<Vec<_>>());
        assert!(at_once(&[] as &[u64], |number| *number).is_empty());
    }

    #[test]
    fn the_words_of_the_seeds_are_the_dictionary() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), b"{\"mediaType\":\"a/b+json\",\"x\":12}\0\xff\"quoted\\\"").unwrap();
        assert_eq!(dictionary(dir.path()).unwrap(), "\"a/b+json\"\n\"mediaType\"\n\"quoted\"\n");
    }

    #[test]
    fn every_target_has_seeds_and_is_built() {
        let listed = fs::read_to_string(root().join("fuzz/fuzz_targets/mod.rs")).unwrap();
        for name in names().unwrap() {
            assert!(fs::read_dir(root().join("fuzz/seeds").join(&name)).unwrap().count() > 0, "{name}");
            assert!(listed.lines().any(|line| line.trim() == format!("{name},")), "{name}");
        }
    }
}
