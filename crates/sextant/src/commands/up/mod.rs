//! `sextant up`, `down`, `reset`, `status`: one machine with a Kubernetes API, made of the programs that also run alone.
//!
//! The supervisor holds nothing that its programs need: it may be killed and started anew, and so may each of them.

mod apply;
mod child;
mod down;
mod idle;
pub(crate) mod member;
mod metrics;
mod node;
mod programs;
mod reset;
mod status;
mod storage;
mod supervisor;

pub(crate) use down::run as down;
pub(crate) use programs::beside;
pub(crate) use reset::{remove, run as reset};
pub(crate) use status::run as status;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use grpc::process::tell_ready;
use kernel::signal::Signals;
use rustix::process::Signal;

use programs::Places;
use supervisor::Supervisor;

use crate::cli::UpArgs;
use crate::commands::mesh;
use crate::container;
use crate::failure::{Context, Failure, Result};
use crate::instance::Instance;

/// The supervisor's own file among those of the programs.
const SUPERVISOR: &str = "up";

/// Starts everything, and keeps it running until somebody wants the end.
pub(crate) fn run(instance: &Instance, args: &UpArgs) -> Result<ExitCode> {
    let places = places(instance)?;
    if let Some(other) = member::living(&places.member(SUPERVISOR)) {
        return Err(Failure::new(format!(
            "cannot start: `sextant up` of this instance runs already, as process {} (see `sextant status`, `sextant down`)",
            other.pid
        )));
    }
    // What is wrong with files is told before anything runs.
    // The one that detached has read them, and applies them.
    let documents = if args.detached { Vec::new() } else { apply::read(&args.apply)? };
    if args.mesh && args.without.iter().any(|name| name == "control") {
        return Err(Failure::new(
            "cannot start a mesh without control, which is its control plane (leave --mesh out, and run `sextant mesh` for what works \
             without one)",
        ));
    }
    if let Some(file) = &args.cloud_config {
        metal::Config::read(file).map_err(|e| Failure::new(e.to_string()))?;
    }
    if args.detach {
        let code = detach(&places)?;
        return if code == ExitCode::SUCCESS {
            apply::apply(&places, documents).map(|()| code)
        } else {
            Ok(code)
        };
    }
    member::enter(&places.member(SUPERVISOR))?;
    fs::write(places.without(), args.without.join("\n")).context(|| "write down what is left out".into())?;
    if args.mesh {
        fs::write(places.meshed(), "").context(|| "write down that there is a mesh".into())?;
    }
    // Before any thread starts: a signal must find nobody else who takes it.
    let signals = Signals::receive(&[Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw))?;
    let begun = Instant::now();
    let registry = places.data.join("agent").join(::agent::REGISTRY);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&registry);
    made.context(|| format!("create the directory {}", registry.display()))?;
    let gateway = container::gateway(instance)?;
    let mut supervisor =
        Supervisor::find(programs::all(&places, args, gateway), places.clone(), signals, args.detached)?;
    if !args.mesh {
        unmesh(instance, &places);
    }
    match supervisor.start() {
        Ok(None) => {}
        Ok(Some(signal)) => return Ok(end(&mut supervisor, signal)),
        Err(failure) => {
            // What ran before goes on; what was started now would go on failing.
            supervisor.end(false);
            return Err(failure);
        }
    }
    // Where control is somebody else's, a mesh may be, too.
    if !args.mesh && !args.without.iter().any(|name| name == "control") {
        metrics::unregister(&places);
    }
    match storage::ensure(&places) {
        Ok(storage) => supervisor::say(&storage.words()),
        Err(failure) => {
            supervisor::say(&format!("warning: claims that name no class get no volume: {failure}"))
        }
    }
    tell_up(&places, &supervisor, begun.elapsed(), args.detached);
    tell_ready(SUPERVISOR);
    // Beside the supervisor: what objects wait for may be a program that has to be started again.
    let applied = places.clone();
    std::thread::spawn(move || {
        if let Err(failure) = apply::apply(&applied, documents) {
            supervisor::say(&failure.to_string());
        }
    });
    // From here on it waits. Where that fails more is held, and nothing else.
    let _ = kernel::memory::map_single_pages();
    let _ = kernel::memory::give_back();
    let signal = supervisor.keep()?;
    Ok(end(&mut supervisor, signal))
}

fn end(supervisor: &mut Supervisor, signal: i32) -> ExitCode {
    supervisor::say(
        "ends its programs; pods run on (`sextant down` takes them down, `sextant up` takes them over)",
    );
    supervisor.end(true);
    // As systemd and shells understand it: asked for, and done.
    if signal == Signal::TERM.as_raw() { ExitCode::SUCCESS } else { ExitCode::from(128 + signal as u8) }
}

/// Has nothing be left of a mesh that the `sextant up` before this one had.
fn unmesh(instance: &Instance, places: &Places) {
    if !places.meshed().exists() {
        return;
    }
    for why in mesh::take_away(instance) {
        supervisor::say(&format!("warning: {why}"));
    }
    let _ = fs::remove_file(places.meshed());
}

/// The directories, made where they are missing.
fn places(instance: &Instance) -> Result<Places> {
    let places = Places { data: instance.data.clone(), run: instance.run.clone() };
    let folder = places.run.join("up");
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.context(|| format!("create the directory {}", folder.display()))?;
    Ok(places)
}

/// What runs where, and what to do next.
fn tell_up(places: &Places, supervisor: &Supervisor, took: Duration, is_detached: bool) {
    let say = supervisor::say;
    say(&format!("everything is up after {:.2} s", took.as_secs_f64()));
    for child in supervisor.children.iter().filter(|child| !child.program.serves.is_empty()) {
        say(&format!("{:8} {}", child.program.name, child.program.serves));
    }
    say("");
    say(&format!("export KUBECONFIG={}", places.kubeconfig().display()));
    say("kubectl get nodes,pods -A");
    // Under systemd nobody has a terminal to interrupt it from.
    if !is_detached && std::env::var_os("NOTIFY_SOCKET").is_none() {
        say("");
        say("^C ends the programs, and pods run on; `sextant status` shows what runs");
    }
}

/// Starts the supervisor beside this process, shows what it says, and returns once everything is up.
fn detach(places: &Places) -> Result<ExitCode> {
    // Of this process alone: another may be at the same.
    let socket = places.notify(&format!("{SUPERVISOR}-{}", std::process::id()));
    let _ = fs::remove_file(&socket);
    let notify = UnixDatagram::bind(&socket).context(|| format!("listen on {}", socket.display()))?;
    notify.set_read_timeout(Some(Duration::from_millis(50)))?;
    let path = places.log(SUPERVISOR);
    let log = child::log(&path).context(|| format!("open {}", path.display()))?;
    let mut shown = File::open(&path)?;
    shown.seek(SeekFrom::End(0))?;
    let binary = std::env::current_exe().context(|| "find this program".into())?;
    let mut command = programs::detached(&binary);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.env("NOTIFY_SOCKET", &socket).process_group(0);
    let mut supervisor = command.spawn().context(|| format!("start {}", binary.display()))?;
    let mut message = [0; 64];
    loop {
        let told = notify.recv(&mut message);
        let ended = supervisor.try_wait()?;
        let mut text = String::new();
        let _ = shown.read_to_string(&mut text);
        let _ = std::io::stderr().write_all(text.as_bytes());
        if let Some(status) = ended {
            let _ = fs::remove_file(&socket);
            return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)));
        }
        if told.is_ok() {
            let _ = fs::remove_file(&socket);
            return Ok(ExitCode::SUCCESS);
        }
    }
}
