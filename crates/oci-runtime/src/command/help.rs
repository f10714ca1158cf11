//! Help, made of the tables that the command line is read with, and the version.

use super::failure::Failure;
use super::list::print;
use super::name::name;
use super::options::{Given, Opt, Rest, Words, switch};
use super::{COMMANDS, Command, Context, GLOBAL, find};
use crate::contract;

/// What it was built from, where whoever built it said so (`cargo xtask dist` does).
const COMMIT: &str = match option_env!("SEXTANT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

static OPTIONS: [Opt; 1] = [switch("help", Some('h'), "show this")];

pub(super) static HELP: Command = Command {
    name: "help",
    usage: "[COMMAND]",
    summary: "show this, or the help of a command",
    options: &OPTIONS,
    words: Words { least: 0, own: 1, rest: Rest::None },
    clones: false,
    run: help,
};

pub(super) static CHECKPOINT: Command = Command {
    name: "checkpoint",
    usage: "ID",
    summary: "not there yet",
    options: &OPTIONS,
    words: Words { least: 0, own: 0, rest: Rest::Everything },
    clones: false,
    run: |context, given| refuse(context, given, "checkpoint"),
};

pub(super) static RESTORE: Command = Command {
    name: "restore",
    usage: "ID",
    summary: "not there yet",
    options: &OPTIONS,
    words: Words { least: 0, own: 0, rest: Rest::Everything },
    clones: false,
    run: |context, given| refuse(context, given, "restore"),
};

fn refuse(_: &Context, given: &Given, verb: &str) -> Result<u8, Failure> {
    // The words are not read, but what was asked for is named.
    let option = given.words.iter().find(|word| word.starts_with("--"));
    let asked = option.map_or_else(String::new, |option| format!(" with {option}"));
    Err(Failure::new(format!(
        "cannot {verb} a container{asked}: this runtime has no checkpoint and restore (use runc or crun with criu)"
    )))
}

fn help(_: &Context, given: &Given) -> Result<u8, Failure> {
    match given.words.first() {
        Some(name) => command(find(name)?),
        None => overview(),
    }
}

/// What there is, laid out as runc's.
pub(super) fn overview() -> Result<u8, Failure> {
    let program = name();
    let mut text = format!(
        "NAME:\n   {program} - with the command line of runc - Open Container Initiative runtime\n\n\
         USAGE:\n   {program} [OPTIONS] COMMAND [OPTIONS] ...\n\nCOMMANDS:\n"
    );
    for command in COMMANDS {
        text += &format!("   {:<11} {}\n", command.name, command.summary);
    }
    print(&(text + "\nOPTIONS:\n" + &describe(&GLOBAL)))
}

/// One command.
pub(super) fn command(command: &Command) -> Result<u8, Failure> {
    print(&format!(
        "NAME:\n   {program} {name} - {summary}\n\nUSAGE:\n   {program} {name} [OPTIONS] {usage}\n\nOPTIONS:\n{options}",
        program = name(),
        name = command.name,
        summary = command.summary,
        usage = command.usage,
        options = describe(command.options),
    ))
}

fn describe(options: &[Opt]) -> String {
    let left: Vec<String> = options
        .iter()
        .map(|opt| {
            let short = opt.short.map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
            let value = opt.value.map_or_else(String::new, |value| format!(" {value}"));
            format!("   {short}--{}{value}", opt.long)
        })
        .collect();
    let width = left.iter().map(String::len).max().unwrap_or(0);
    let lines = left.iter().zip(options).map(|(left, opt)| format!("{left:width$}  {}", opt.help));
    lines.collect::<Vec<_>>().join("\n")
}

/// The version, in runc's form: callers read its lines.
pub(super) fn version() -> Result<u8, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    print(&format!("{} version {version}\ncommit: {COMMIT}\nspec: {}", name(), contract::VERSION))
}
