use std::process::ExitCode;

use oci_image::store::Store;
use shim::protocol::AttachRequest;

use super::images::{FetchOptions, fetch};
use crate::cli::{PullPolicy, RunArgs};
use crate::container::{self, Options};
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::stream::{self, Carry, End};

/// The exit code for a container that could not be made.
const NOT_MADE: u8 = 125;

pub(super) fn run(instance: &Instance, args: &RunArgs) -> Result<ExitCode> {
    let options = Options::parse(args).map_err(not_made)?;
    if args.tty && args.interactive && !args.detach && !crate::terminal::is_input_terminal() {
        return Err(Failure::new("cannot give it a terminal: standard input is none (leave -t out)")
            .with_code(NOT_MADE));
    }
    let store = instance.store()?;
    let image = image(instance, &store, args)?;
    let details = store.details(&image)?;
    // Signals are kept for the program from before it exists.
    let signals = stream::signals()?;
    let (record, mut owner) =
        container::create(instance, &store, args, &options, &details).map_err(not_made)?;
    let started = container::start(instance, &store, &record, &mut owner);
    let mut running = match started {
        Ok(running) => running,
        Err(failure) => {
            // A container that never ran is of no use to anybody but somebody who asks why.
            for error in owner.undo_all() {
                eprintln!("sextant: warning: {error}");
            }
            return Err(if failure.code() == 1 { failure.with_code(NOT_MADE) } else { failure });
        }
    };
    if !args.quiet {
        running.warnings.iter().for_each(|w| eprintln!("sextant: warning: {w}"));
    }
    if args.detach {
        running.client.start("").map_err(|e| undo_start(owner, &e))?;
        println!("{}", record.id);
        return Ok(ExitCode::SUCCESS);
    }
    let attach = AttachRequest { exec_id: String::new(), stdin: args.interactive, container: String::new() };
    let stream = running.client.attach(&attach)?;
    let early = match running.client.start_while_attached("") {
        Ok(early) => early,
        Err(e) => return Err(undo_start(owner, &e)),
    };
    drop(owner);
    let carry = Carry { exec_id: "", stdin: args.interactive, terminal: args.tty, forward: !args.tty };
    match stream::carry(&mut running.client, stream, carry, &signals, early)? {
        End::Detached => Ok(ExitCode::SUCCESS),
        End::Exited(exited) => {
            // It may have gone already, as it ends by itself: asked, it need not start a program to undo the run.
            let _ = running.client.shutdown();
            drop(running.client);
            // Ours to reap, and its end is what the rest waits for.
            running.shim.wait()?;
            for error in container::after_end(instance, &record) {
                eprintln!("sextant: warning: {error}");
            }
            Ok(ExitCode::from(exited.code as u8))
        }
    }
}

fn not_made(failure: Failure) -> Failure {
    if failure.code() == 1 { failure.with_code(NOT_MADE) } else { failure }
}

/// The program was not accepted: nothing of the container is kept, and the exit code says why.
fn undo_start(owner: ledger::Owner, error: &shim::client::Error) -> Failure {
    use shim::protocol::Code;
    let code = match error.code() {
        Some(code) if code == Code::NotFound as i32 => 127,
        Some(code) if code == Code::FailedPrecondition as i32 => 126,
        _ => NOT_MADE,
    };
    let left = owner.undo_all();
    let failure = left.into_iter().fold(error.to_string(), |all, one| format!("{all}; {one}"));
    Failure::new(failure).with_code(code)
}

fn image(instance: &Instance, store: &Store, args: &RunArgs) -> Result<oci_image::store::Image> {
    let here = store.find(&args.image);
    let ask = match args.pull {
        PullPolicy::Always => true,
        PullPolicy::Missing => here.is_err(),
        PullPolicy::Never => false,
    };
    if !ask {
        return here.map_err(|e| Failure::new(e.to_string()).with_code(NOT_MADE));
    }
    let options = FetchOptions {
        plain_http: args.plain_http,
        platform: args.platform.as_deref(),
        creds: None,
        progress_within: None,
        quiet: args.quiet,
    };
    fetch(instance, &args.image, options).map_err(|e| e.with_code(NOT_MADE))
}
