//! The command line of Sextant, and the one place that wires its wings together.
//!
//! The binary is many: called `sextant-shim` it is the shim, called `bridge` that CNI plugin; called by its own name it parses the command line in
//! [`cli`] and runs one of [`commands`]. No daemon is needed: a command reads the ledger and the containers' records
//! and talks to their shims.
//!
//! **What it never does**: it holds no logic of a wing (images, runtime, network are crates of their own), forks no
//! helper program (`up` starts this very program, by its other commands), and never touches another instance's containers, bridge or table.

mod cli;
mod commands;
mod container;
mod failure;
mod instance;
mod objects;
mod output;
mod pods;
mod stream;
mod terminal;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    end_on_panic();
    let called = std::env::args_os().next().unwrap_or_default();
    match Path::new(&called).file_name().and_then(|n| n.to_str()) {
        Some("sextant-shim") => return shim::main(),
        Some(shim::PAUSE) => return ExitCode::from(shim::pause()),
        Some(shim::containerd::NAME) => return ExitCode::from(shim::containerd::run(std::env::args_os())),
        Some(name) if oci_runtime::command::is_name(name) => {
            return oci_runtime::command::main(std::env::args_os());
        }
        Some("sextant-demo-app") => return commands::demo::app::main(),
        Some(plugin) if cni::plugin::program::is_plugin(plugin) => return cni::plugin::program::main(plugin),
        _ => {}
    }
    let cli = cli::Cli::try_parse().unwrap_or_else(|error| cli::refuse(error));
    if !cli.command.outlasts_readers() {
        // `sextant images | head` ends quietly, as every tool of its kind.
        kernel::signal::end_with_readers();
        kernel::signal::block_none();
    }
    match commands::run(cli) {
        Ok(code) => code,
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(failure.code())
        }
    }
}

/// A program that goes on without one of its threads or tasks does wrong things, so a panic ends it; but for one in a
/// request, which the API server catches.
fn end_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if !api::serve::is_answering() {
            std::process::abort();
        }
    }));
}
