//! Programs run in the foreground, and where their files are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::Result;

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Where `cargo build --profile PROFILE` puts its programs: everything has an explicit target (`.cargo/config.toml`).
pub(crate) fn built(profile: &str) -> Result<PathBuf> {
    let version = read("rustc", ["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc names no host")?;
    Ok(target().join(host).join(profile))
}

/// cargo itself, in the checkout.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Result<()> {
    call(cargo_command().args(args))
}

/// The same, for who has more to say than arguments.
pub(crate) fn cargo_command() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// The same command, run when nobody else wants a processor.
pub(crate) fn patient(command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => nice.env(name, value),
            None => nice.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        nice.current_dir(dir);
    }
    nice
}

/// `sextant` as it is released, built where it is not.
pub(crate) fn released() -> Result<PathBuf> {
    cargo(["build", "--release", "--locked", "--package", "sextant"])?;
    Ok(built("release")?.join("sextant"))
}

/// The product as rings run it.
#[derive(Debug, Clone)]
pub(crate) struct Product {
    pub(crate) sextant: PathBuf,
    /// The program that is all CNI plugins.
    pub(crate) plugins: PathBuf,
}

impl Product {
    /// As `cargo test --workspace` has it, built where it is not.
    pub(crate) fn tested() -> Result<Self> {
        cargo(["build", "--locked", "--workspace", "--bin", "sextant", "--bin", "sextant-cni"])?;
        let dir = built("debug")?;
        Ok(Self { sextant: dir.join("sextant"), plugins: dir.join("sextant-cni") })
    }

    /// As it is installed.
    pub(crate) fn released() -> Result<Self> {
        Ok(Self { sextant: released()?, plugins: small_plugins()? })
    }
}

/// The program of all CNI plugins as it is installed, built where it is not.
pub(crate) fn small_plugins() -> Result<PathBuf> {
    cargo(["build", "--profile", "shim", "--locked", "--package", "cni", "--bin", "sextant-cni"])?;
    Ok(built("shim")?.join("sextant-cni"))
}

/// Builds the programs, and lays them out in `bin` as they are installed; where `sextant` is then.
pub(crate) fn laid_out(bin: &Path) -> Result<PathBuf> {
    released()?;
    cargo(["build", "--profile", "shim", "--locked", "--package", "shim"])?;
    crate::dist::lay_out_programs(bin)
}

/// What cargo prints as JSON.
pub(crate) fn cargo_json<const N: usize>(args: [&str; N]) -> Result<serde_json::Value> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    Ok(serde_json::from_str(&quiet(cargo.args(args).current_dir(root()))?)?)
}

/// What cargo prints as one JSON value a line; its words for people go to the terminal.
pub(crate) fn cargo_json_lines(args: &[&str]) -> Result<Vec<serde_json::Value>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = output(cargo.args(args).current_dir(root()).stderr(Stdio::inherit()))?;
    if !output.status.success() {
        return Err(format!("{} failed: {}", shown(&cargo), output.status).into());
    }
    let lines = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    Ok(lines.map(serde_json::from_slice).collect::<Result<_, _>>()?)
}

/// Runs a command with our own terminal; one that fails is an error that shows it.
pub(crate) fn call(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|e| format!("cannot run {}: {e}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", shown(command)).into()) }
}

/// Runs a command and returns what it printed; one that fails is an error that shows its words.
pub(crate) fn quiet(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = words.trim_end().lines().rev().take(15).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("{} failed: {}\n{}", shown(command), output.status, last.join("\n")).into())
}

/// Runs a command and returns all that came of it, whether it failed or not.
pub(crate) fn output(command: &mut Command) -> Result<Output> {
    let run = command.stdin(Stdio::null()).output();
    run.map_err(|e| format!("cannot run {}: {e}", shown(command)).into())
}

/// What a program prints.
pub(crate) fn read<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Result<String> {
    quiet(Command::new(program).args(args))
}

/// The command as it would be typed.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
