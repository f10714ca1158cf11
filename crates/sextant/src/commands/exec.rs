use std::process::ExitCode;

use oci_runtime::contract::{Process, Spec};
use shim::protocol::{AttachRequest, Code, ExecRequest};

use crate::cli::{AttachArgs, ExecArgs};
use crate::container::{self, Record, State};
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;
use crate::stream::{self, Carry, End};

pub(super) fn run(instance: &Instance, args: &ExecArgs) -> Result<ExitCode> {
    let record = container::find(instance, &args.container)?;
    let mut client = container::connect(instance, &record)?;
    let process = process(instance, &record, args)?;
    let signals = stream::signals()?;
    let exec_id = container::exec_id()?;
    let bytes = serde_json::to_vec(&process).context(|| "write the process".into())?;
    let request =
        ExecRequest { exec_id: exec_id.clone(), process: bytes, stdin: args.interactive && !args.detach };
    let (stream, started) = client.exec(&request).map_err(|e| {
        let code = match e.code() {
            Some(code) if code == Code::NotFound as i32 => 127,
            _ => 126,
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
fn process(instance: &Instance, record: &Record, args: &ExecArgs) -> Result<Process> {
    let config = instance.bundle_dir(&record.id).join("config.json");
    let bytes = std::fs::read(&config).context(|| format!("read {}", config.display()))?;
    let spec: Spec = oci_runtime::contract::parse(&bytes)?;
    let mut process = spec.process.unwrap_or_default();
    process.args.clone_from(&args.command);
    process.terminal = args.tty;
    process.console_size = None;
    if let Some(dir) = &args.workdir {
        process.cwd.clone_from(dir);
    }
    let mut variables = container::variables(&args.env, &[])?;
    if args.tty {
        variables.insert(0, "TERM=xterm".into());
    }
    for word in variables {
        let name = word.split_once('=').map_or(&*word, |(n, _)| n).to_owned() + "=";
        process.env.retain(|e| !e.starts_with(&name));
        process.env.push(word);
    }
    if let Some(user) = &args.user {
        let State::Running { pid, .. } = container::state_of(instance, record) else {
            return Err(Failure::new(format!("container {} is not running", record.name)));
        };
        let root = format!("/proc/{pid}/root");
        let root = std::fs::File::open(&root).context(|| format!("open {root}"))?;
        (process.user, _) = container::resolve_user(user, &[root.into()])?;
    }
    Ok(process)
}

pub(super) fn attach(instance: &Instance, args: &AttachArgs) -> Result<ExitCode> {
    let record = container::find(instance, &args.container)?;
    let mut client = container::connect(instance, &record)?;
    let signals = stream::signals()?;
    let stdin = record.stdin && !args.no_stdin;
    let stream = client.attach(&AttachRequest { exec_id: String::new(), stdin })?;
    let carry =
        Carry { exec_id: "", stdin, terminal: record.terminal, forward: !record.terminal && !args.no_stdin };
    match stream::carry(&mut client, stream, carry, &signals, Vec::new())? {
        End::Exited(exited) => Ok(ExitCode::from(exited.code as u8)),
        End::Detached => Ok(ExitCode::SUCCESS),
    }
}
