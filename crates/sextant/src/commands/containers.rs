//! Commands on containers that exist: start, stop, kill, rm, wait, pause, reap.

use std::process::ExitCode;
use std::time::Duration;

use ledger::OwnerId;
use shim::protocol::KillRequest;

use crate::cli::{KillArgs, RmArgs, StartArgs, StopArgs};
use crate::container::{self, Record, State};
use crate::failure::{Failure, Result};
use crate::instance::Instance;

/// Does it to each, goes on past errors, each of which is told, and fails if there was one. What was done is printed.
fn each(instance: &Instance, names: &[String], act: impl Fn(&Record) -> Result<()>) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        match container::find(instance, name).and_then(|record| act(&record)) {
            Ok(()) => println!("{name}"),
            Err(failure) => {
                eprintln!("sextant: {failure}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

pub(super) fn start(instance: &Instance, args: &StartArgs) -> Result<ExitCode> {
    let store = instance.store()?;
    each(instance, &args.containers, |record| {
        if container::state_of(instance, record).is_active() {
            return Ok(());
        }
        let mut owner = instance.ledger.owner(&OwnerId::new(record.id.clone())?)?;
        // Another command may have started or removed it while this one waited for its lock.
        if container::state_of(instance, record).is_active() {
            return Ok(());
        }
        container::find(instance, &record.id)?;
        let mut running = container::start(instance, &store, record, &mut owner)?;
        running.warnings.iter().for_each(|w| eprintln!("sextant: warning: {w}"));
        if let Err(error) = running.client.start("") {
            drop(running);
            let left = container::undo_run(instance, record, &mut owner);
            return Err(left
                .into_iter()
                .fold(error.into(), |all: Failure, one| Failure::new(format!("{all}; {one}"))));
        }
        Ok(())
    })
}

pub(super) fn stop(instance: &Instance, args: &StopArgs) -> Result<ExitCode> {
    let given = args.signal.as_deref().map(signal).transpose()?;
    each(instance, &args.containers, |record| {
        let timeout = Duration::from_secs(args.time.unwrap_or(record.stop_timeout));
        container::stop(instance, record, given.unwrap_or(record.stop_signal), timeout)
    })
}

pub(super) fn kill(instance: &Instance, args: &KillArgs) -> Result<ExitCode> {
    let signal = signal(&args.signal)?;
    each(instance, &args.containers, |record| {
        let mut client = container::connect(instance, record)?;
        Ok(client.kill(&KillRequest {
            exec_id: String::new(),
            signal,
            all: args.all,
            container: String::new(),
        })?)
    })
}

fn signal(text: &str) -> Result<i32> {
    kernel::signal::parse(text).ok_or_else(|| {
        Failure::new(format!("no signal {text:?}: give a name such as TERM or HUP, or a number from 1 to 64"))
    })
}

pub(super) fn rm(instance: &Instance, args: &RmArgs) -> Result<ExitCode> {
    each(instance, &args.containers, |record| container::remove(instance, record, args.force))
}

pub(super) fn wait(instance: &Instance, names: &[String]) -> Result<()> {
    for name in names {
        let record = container::find(instance, name)?;
        let code = match container::connect(instance, &record) {
            Ok(mut client) => client.wait("", "").ok().map(|e| e.code),
            Err(_) => None,
        };
        // A shim that ended while we asked has written down how its container did.
        let code = code.or_else(|| match container::state_of(instance, &record) {
            State::Exited(exit) => Some(exit.code),
            _ => None,
        });
        match code {
            Some(code) => println!("{code}"),
            None => return Err(Failure::new(format!("container {name} has not run yet"))),
        }
    }
    Ok(())
}

pub(super) fn pause(instance: &Instance, names: &[String], frozen: bool) -> Result<ExitCode> {
    each(instance, names, |record| {
        let mut client = container::connect(instance, record)?;
        if frozen { Ok(client.pause("")?) } else { Ok(client.resume("")?) }
    })
}

/// For the shim: what its container held is let go.
pub(super) fn reap(instance: &Instance, id: &str) -> Result<()> {
    let Some(record) = Record::read(&instance.state_dir(id).join(container::RECORD))? else { return Ok(()) };
    match container::after_end(instance, &record).into_iter().next() {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}
