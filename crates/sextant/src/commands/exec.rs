use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args as _, FromArgMatches as _};
use oci_runtime::contract::{Process, Spec};
use rustix::fs::{Mode, OFlags};
use shim::protocol::{AttachRequest, Code, ExecRequest};

use super::which::{self, Any, Which};
use crate::cli::{AttachArgs, Cli, ExecArgs};
use crate::container::{self, Record, State};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::pods::{self, Asked};
use crate::stream::{self, Carry, End};

/// The exit code for a program that could not be executed.
const NOT_EXECUTED: u8 = 126;

/// The exit code for a command line that says too little, as the parser gives it.
const MISUSED: u8 = 2;

pub(super) fn run(cli: &Cli, args: &ExecArgs) -> Result<ExitCode> {
    let args = &as_typed(args)?;
    if args.tty && args.interactive && !args.detach && !crate::terminal::is_input_terminal() {
        return Err(Failure::new("cannot give it a terminal: standard input is none (leave -t out)"));
    }
    let (name, command) = match (&args.of.pod, &args.words[..]) {
        (Some(_), command) => (None, command),
        (None, [name, command @ ..]) => (Some(name.as_str()), command),
        (None, []) => (None, &[][..]),
    };
    // As kubectl has it: what stands behind is the program's.
    let command = command.strip_prefix(&["--".to_owned()]).unwrap_or(command);
    if command.is_empty() {
        let name = name.unwrap_or_default();
        let text =
            format!("cannot run nothing in {name:?}: <COMMAND> is missing (sextant exec {name} COMMAND...)");
        return Err(Failure::new(text).with_code(MISUSED));
    }
    match which::find_any(cli, name, &args.within, &args.of, false)? {
        Any::Here(Which::Own(instance, record)) => in_own(&instance, &record, args, command),
        Any::Here(Which::OfPod(runtime, container)) => {
            pods::exec(&runtime, &container, command, in_pod(args, "CRI has no word for it")?)
        }
        Any::OfApi(pod) => {
            let asked = in_pod(args, "the API has no word for it")?;
            pod.exec(args.of.name.as_deref(), command, asked)
        }
    }
}

/// What was typed as for kubectl, whose options may stand behind the pod: `exec web -c app -it -- sh`.
fn as_typed(args: &ExecArgs) -> Result<ExecArgs> {
    let mut typed = args.clone();
    let [name, more @ ..] = &args.words[..] else { return Ok(typed) };
    let end = more.iter().position(|word| word == "--");
    let Some(end) = end.filter(|end| *end > 0 && more[0].starts_with('-')) else { return Ok(typed) };
    let words =
        ["exec"].into_iter().chain(more[..end].iter().map(String::as_str)).chain([name.as_str(), "--"]);
    let command = ExecArgs::augment_args(clap::Command::default().name("sextant exec"));
    let found = command.try_get_matches_from(words.chain(more[end + 1..].iter().map(String::as_str)));
    let later = found.and_then(|found| ExecArgs::from_arg_matches(&found));
    let later = later.map_err(|error| Failure::new(error.to_string()).with_code(MISUSED))?;
    typed.interactive |= later.interactive;
    typed.tty |= later.tty;
    typed.detach |= later.detach;
    typed.env.extend(later.env);
    typed.user = later.user.or(typed.user);
    typed.workdir = later.workdir.or(typed.workdir);
    typed.of.cri.cri = later.of.cri.cri.or(typed.of.cri.cri);
    typed.of.name = later.of.name.or(typed.of.name);
    typed.within.namespace = later.within.namespace.or(typed.within.namespace);
    typed.within.server.kubeconfig = later.within.server.kubeconfig.or(typed.within.server.kubeconfig);
    typed.words = later.words;
    Ok(typed)
}

/// Streams of a program in a pod's container: whoever runs it there is told less about a process than we could say.
fn in_pod(args: &ExecArgs, why: &str) -> Result<Asked> {
    let given = [
        ("--detach", args.detach, "append `&` in a shell there"),
        ("--env", !args.env.is_empty(), "run `env NAME=VALUE ...` there"),
        ("--user", args.user.is_some(), "it is the container's"),
        ("--workdir", args.workdir.is_some(), "it is the container's"),
    ];
    if let Some((option, _, instead)) = given.iter().find(|(_, given, _)| *given) {
        return Err(Failure::new(format!("cannot use {option} with a pod's container: {why} ({instead})")));
    }
    Ok(Asked { stdin: args.interactive, tty: args.tty, detach_keys: false })
}

fn in_own(instance: &Instance, record: &Record, args: &ExecArgs, command: &[String]) -> Result<ExitCode> {
    let mut client = container::connect(instance, record)?;
    let process = process(instance, record, args, command).map_err(|e| e.with_code(NOT_EXECUTED))?;
    let signals = stream::signals()?;
    let exec_id = container::exec_id()?;
    let bytes = serde_json::to_vec(&process).context(|| "write the process".into())?;
    let request = ExecRequest {
        exec_id: exec_id.clone(),
        process: bytes,
        stdin: args.interactive && !args.detach,
        container: String::new(),
    };
    let (stream, started) = client.exec(&request).map_err(|e| {
        let code = match e.code() {
            Some(code) if code == Code::NotFound as i32 => 127,
            _ => NOT_EXECUTED,
        };
        Failure::new(e.to_string()).with_code(code)
    })?;
    started.warnings.iter().for_each(|w| eprintln!("sextant: warning: {w}"));
    if args.detach {
        return Ok(ExitCode::SUCCESS);
    }
    let carry = Carry { exec_id: &exec_id, stdin: args.interactive, terminal: args.tty, forward: !args.tty };
    match stream::carry(&mut client, stream, carry, &signals, Vec::new())? {
        End::Exited(exited) => Ok(ExitCode::from(exited.code as u8)),
        End::Detached => Ok(ExitCode::SUCCESS),
    }
}

/// The container's own process with the wishes of this command.
fn process(instance: &Instance, record: &Record, args: &ExecArgs, command: &[String]) -> Result<Process> {
    let config = instance.bundle_dir(&record.id).join("config.json");
    let bytes = std::fs::read(&config).context(|| format!("read {}", config.display()))?;
    let spec: Spec = oci_runtime::contract::parse(&bytes)?;
    let mut process = spec.process.unwrap_or_default();
    process.args = command.to_vec();
    process.terminal = args.tty;
    process.console_size = None;
    let mut variables = container::variables(&args.env, &[])?;
    if args.tty {
        variables.insert(0, "TERM=xterm".into());
    }
    for word in variables {
        let name = word.split_once('=').map_or(&*word, |(n, _)| n).to_owned() + "=";
        process.env.retain(|e| !e.starts_with(&name));
        process.env.push(word);
    }
    if let Some(dir) = &args.workdir {
        check_directory(&root(instance, record)?, dir)?;
        process.cwd.clone_from(dir);
    }
    if let Some(user) = &args.user {
        let home;
        (process.user, home) = container::resolve_user(user, &[root(instance, record)?])?;
        if !args.env.iter().any(|e| e == "HOME" || e.starts_with("HOME=")) {
            process.env.retain(|e| !e.starts_with("HOME="));
            process.env.push(format!("HOME={}", home.as_deref().unwrap_or("/")));
        }
    }
    Ok(process)
}

/// The root that the container's first process has.
fn root(instance: &Instance, record: &Record) -> Result<OwnedFd> {
    let State::Running { pid, .. } = container::state_of(instance, record) else {
        return Err(Failure::new(format!("container {} is not running", record.name)));
    };
    let root = format!("/proc/{pid}/root");
    std::fs::File::open(&root).map(OwnedFd::from).context(|| format!("open {root}"))
}

/// A directory that is not there is a typing mistake here; only `run` makes it.
fn check_directory(root: &OwnedFd, dir: &str) -> Result<()> {
    if !dir.starts_with('/') {
        return Err(Failure::new(format!("cannot use --workdir {dir:?}: give a path from /")));
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    kernel::path::open_in(root, Path::new(dir), flags, Mode::empty()).map(drop).map_err(|_| {
        Failure::new(format!("cannot use --workdir {dir:?}: no such directory is in the container"))
    })
}

pub(super) fn attach(cli: &Cli, args: &AttachArgs) -> Result<ExitCode> {
    let found = which::find_any(cli, args.container.as_deref(), &args.within, &args.of, false)?;
    let (instance, record) = match found {
        Any::OfApi(pod) => return pod.attach(args.of.name.as_deref(), !args.no_stdin),
        Any::Here(Which::OfPod(runtime, container)) => {
            return pods::attach(&runtime, &container, !args.no_stdin);
        }
        Any::Here(Which::Own(instance, record)) => (instance, record),
    };
    let mut client = container::connect(&instance, &record)?;
    let signals = stream::signals()?;
    // A terminal can always be typed at, also that of a container that was started without -i.
    let stdin = (record.stdin || record.terminal) && !args.no_stdin;
    let stream = client.attach(&AttachRequest { exec_id: String::new(), stdin, container: String::new() })?;
    let carry =
        Carry { exec_id: "", stdin, terminal: record.terminal, forward: !record.terminal && !args.no_stdin };
    match stream::carry(&mut client, stream, carry, &signals, Vec::new())? {
        End::Exited(exited) => Ok(ExitCode::from(exited.code as u8)),
        End::Detached => Ok(ExitCode::SUCCESS),
    }
}
