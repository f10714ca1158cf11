//! The developer's commands: `cargo xtask test`, `vm`, `soak`, `bench`, `conformance`, `codegen`, `dist`, `tidy`.
//!
//! It builds, installs Debian packages (only those that are missing), runs every ring of tests and says what came of
//! them. It forks the programs of others freely: they are what Sextant is compared with.
//!
//! **What it never does**: it is no part of the product and nothing of the product depends on it; it never touches an
//! installed Sextant (each command works in directories of its own); it never changes a file under version control (but `codegen`
//! and `conformance --update`, whose purpose that is).
//!
//! Entry point: [`main`], one module a command.

mod bench;
mod codegen;
mod conformance;
mod dist;
mod echo;
mod interop;
mod layout;
mod packages;
mod program;
mod relay;
mod rings;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Whatever went wrong, said in one line.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// The developer's commands of Sextant.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All rings of tests at sample size; installs what they need
    Test(rings::Sample),
    /// The rings at full size: thousands of kills, hours
    Soak(rings::Soak),
    /// The kernel tests inside QEMU, on Debian's cloud kernel
    Vm(vm::Vm),
    /// Ours and a peer, interleaved in one run, judged by CPU time
    Bench(bench::Bench),
    /// An upstream suite that you built, compared with docs/conformance
    Conformance(conformance::Conformance),
    /// Rust of the .proto files, which is committed
    Codegen(codegen::Codegen),
    /// Lays everything out as installed: bin/ cni/ systemd/ completions/ man/
    Dist(dist::Dist),
    /// What a machine can check of the house rules
    Tidy,
    /// The floor of `bench mesh`: passes bytes on, encrypted
    #[command(hide = true)]
    Relay(relay::Relay),
}

fn main() -> ExitCode {
    // In a pod of an upstream suite it goes by another name.
    if let Some(code) = echo::called() {
        return code;
    }
    let outcome = match Cli::parse().command {
        Command::Test(sample) => rings::test(&sample),
        Command::Soak(soak) => rings::soak(&soak),
        Command::Vm(vm) => vm::run(&vm),
        Command::Bench(bench) => bench::run(&bench),
        Command::Conformance(conformance) => conformance::run(&conformance),
        Command::Codegen(codegen) => codegen::run(&codegen),
        Command::Dist(dist) => dist::run(&dist),
        Command::Tidy => tidy::run(),
        Command::Relay(relay) => relay::run(&relay),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
