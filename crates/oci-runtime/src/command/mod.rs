//! `sextant-oci`: runc's command line over this crate, for callers that start an OCI runtime as a program.
//!
//! **What it never does**: it starts no thread and no helper program, sleeps for nothing it can wait for, and leaves
//! nothing that `delete --force` does not find, whenever it is killed: what is made is in the container's directory
//! first ([`record`]).
//!
//! Entry point: [`main`].

mod console;
mod container;
mod create;
mod delete;
mod events;
mod exec;
mod failure;
mod features;
mod foreground;
mod freeze;
mod handover;
mod help;
mod kill;
mod list;
mod log;
mod name;
mod options;
mod processes;
mod protect;
mod record;
mod rootless;
mod spec;
mod start;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use failure::Failure;
use log::Log;
pub use name::{NAME, is_name};
use options::{Given, Opt, Words, switch, value};

/// What all commands share.
#[derive(Debug)]
struct Context {
    /// Where containers are recorded.
    root: PathBuf,
    /// By `--root`, and not the usual one.
    root_is_given: bool,
    log: Log,
    /// Whether a cgroup that cannot be made is tolerated; `None` finds out.
    rootless: Option<bool>,
    /// Cgroups are made through systemd.
    systemd: bool,
}

/// One command.
struct Command {
    name: &'static str,
    /// Its words, for the help.
    usage: &'static str,
    summary: &'static str,
    options: &'static [Opt],
    words: Words,
    /// It clones into a container, which must not reach this program's file.
    clones: bool,
    run: fn(&Context, &Given) -> Result<u8, Failure>,
}

/// The options before the command.
static GLOBAL: [Opt; 9] = [
    value(
        "root",
        None,
        "DIR",
        "where containers are recorded [/run/sextant-oci; $XDG_RUNTIME_DIR/sextant-oci]",
    ),
    value("log", None, "FILE", "append messages to this file"),
    value("log-format", None, "FORMAT", "of that file: text or json [text]"),
    switch("debug", None, "more messages"),
    switch("systemd-cgroup", None, "cgroups through systemd; cgroupsPath is slice:prefix:name"),
    value("rootless", None, "MODE", "auto, true or false: tolerate cgroups that cannot be made [auto]"),
    value("criu", None, "FILE", "accepted, and without effect"),
    switch("help", Some('h'), "show this"),
    switch("version", Some('v'), "show the version"),
];

static COMMANDS: [&Command; 18] = [
    &create::CREATE,
    &start::START,
    &create::RUN,
    &exec::EXEC,
    &kill::KILL,
    &delete::DELETE,
    &list::STATE,
    &list::LIST,
    &processes::PS,
    &freeze::PAUSE,
    &freeze::RESUME,
    &update::UPDATE,
    &events::EVENTS,
    &spec::SPEC,
    &features::FEATURES,
    &help::CHECKPOINT,
    &help::RESTORE,
    &help::HELP,
];

/// The command's main function, whatever its binary is called. `args` begins with the program's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(run(args))
}

/// The same, with the exit code as a number.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    let mut args = args.into_iter();
    name::take(&args.next().unwrap_or_default());
    let args: Result<Vec<String>, OsString> = args.map(OsString::into_string).collect();
    let outcome = args
        .map_err(|bad| Failure::usage(format!("cannot use argument {bad:?}: it is not UTF-8")))
        .and_then(|args| dispatch(&args));
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            // No log was named, or none could be opened.
            eprintln!("{}: error: {failure}", name::name());
            failure.code
        }
    }
}

/// Reads a command line (without the program's name) as [`main`] does, and does nothing of it: which command it is, if
/// it is one.
///
/// # Errors
/// What [`main`] would say of it.
pub fn read(args: &[String]) -> Result<Option<&'static str>, String> {
    let read = || {
        let (_, mut rest) = options::global(&GLOBAL, args)?;
        if rest.is_empty() {
            return Ok(None);
        }
        let command = find(&rest.remove(0))?;
        options::command(command.options, command.words, rest).map(|_| Some(command.name))
    };
    read().map_err(|failure: Failure| failure.to_string())
}

fn dispatch(args: &[String]) -> Result<u8, Failure> {
    let (global, mut rest) = options::global(&GLOBAL, args)?;
    if global.has("version") {
        return help::version();
    }
    if rest.is_empty() || global.has("help") {
        return help::overview();
    }
    let log = Log::open(global.get("log"), global.get("log-format"), global.has("debug"))?;
    let rootless = global.get("rootless").and_then(|text| text.parse().ok());
    let systemd = global.has("systemd-cgroup");
    let root_is_given = global.get("root").is_some();
    let context = Context { root: root(&global)?, root_is_given, log, rootless, systemd };
    let name = rest.remove(0);
    let outcome = perform(&context, &global, &name, rest);
    Ok(outcome.unwrap_or_else(|failure| {
        context.log.error(&name, &failure);
        failure.code
    }))
}

fn perform(context: &Context, global: &Given, name: &str, args: Vec<String>) -> Result<u8, Failure> {
    let command = find(name)?;
    let line = args.join(" ");
    if matches!(args.first().map(String::as_str), Some("-h" | "--help")) {
        return help::command(command);
    }
    let given = options::command(command.options, command.words, args)?;
    if given.has("help") {
        return help::command(command);
    }
    check(global)?;
    if command.clones {
        protect::once()?;
    }
    context.log.debug(|| format!("{name} {line}"));
    (command.run)(context, &given)
}

fn find(name: &str) -> Result<&'static Command, Failure> {
    COMMANDS.into_iter().find(|command| command.name == name).ok_or_else(|| {
        let near = options::nearest(name, COMMANDS.iter().map(|command| command.name));
        let hint = near.map_or_else(|| "see --help".to_owned(), |near| format!("did you mean {near}?"));
        // The words after the colon are runc's.
        Failure::usage(format!("cannot run {name:?}: No help topic for '{name}': no such command ({hint})"))
    })
}

fn check(global: &Given) -> Result<(), Failure> {
    match global.get("rootless") {
        None | Some("auto" | "true" | "false") => Ok(()),
        Some(other) => {
            Err(Failure::usage(format!("cannot use --rootless {other:?}: give auto, true or false")))
        }
    }
}

fn root(global: &Given) -> Result<PathBuf, Failure> {
    let root = global.get("root").map_or_else(default_root, PathBuf::from);
    std::path::absolute(&root)
        .map_err(|e| Failure::usage(format!("cannot use --root {:?}: {e}", root.display().to_string())))
}

fn default_root() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| !is_root());
    runtime.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join(NAME)
}

/// Whether this process is root where it is.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
