//! What each command does.

mod agent;
mod announce;
mod api;
mod check;
mod cloud;
mod cloud_status;
pub(crate) mod cni;
mod containers;
mod control;
mod csi;
mod csi_driver;
pub(crate) mod demo;
mod exec;
mod explain;
mod images;
mod inspect;
mod logs;
pub(crate) mod mesh;
mod node;
mod objects;
mod pods;
mod port_forward;
mod prune;
mod ps;
mod run;
mod services;
mod stats;
mod transfer;
mod up;
mod usage;
mod version;
mod volumes;
mod which;

use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::{Cli, CloudCommand, Command, MeshArgs};
use crate::failure::{Context, Result};
use crate::instance::Instance;

/// Runs the command; the exit code is the command's own, or its container's.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    if let Some(file) = &cli.member {
        up::member::enter(file)?;
    }
    // These need neither root nor an instance, or find out themselves whether they do.
    match &cli.command {
        Command::Completions(args) => {
            clap_complete::generate(args.shell, &mut Cli::command(), "sextant", &mut std::io::stdout());
            return Ok(ExitCode::SUCCESS);
        }
        Command::Man(args) => {
            clap_mangen::generate_to(Cli::command(), &args.dir)
                .context(|| format!("write to {}", args.dir.display()))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Node(args) if args.print_config => {
            return node::print_config().map(|()| ExitCode::SUCCESS);
        }
        Command::Api(args) => return api::run(&cli.data_dir, args).map(|()| ExitCode::SUCCESS),
        Command::Agent(args) => {
            return agent::run(&cli.data_dir, &cli.run_dir, args).map(|()| ExitCode::SUCCESS);
        }
        Command::Control(args) => {
            return control::run(&cli.data_dir, &cli.run_dir, args).map(|()| ExitCode::SUCCESS);
        }
        Command::Announce(args) => return announce::run(&cli.data_dir, args).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => return check::run(args),
        Command::Cloud(args) => {
            let CloudCommand::Status(args) = &args.command;
            return cloud_status::run(&cli.data_dir, args).map(|()| ExitCode::SUCCESS);
        }
        Command::Mesh(MeshArgs { command: Some(command), .. }) => {
            return mesh::ask(&cli.run_dir, command).map(|()| ExitCode::SUCCESS);
        }
        Command::CsiDriver(args) => {
            return csi_driver::run(&cli.data_dir, &cli.run_dir, args).map(|()| ExitCode::SUCCESS);
        }
        Command::Csi(args) => return csi::run(&cli.run_dir, args),
        Command::Version(args) => return version::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Login(args) => return images::login(args).map(|()| ExitCode::SUCCESS),
        Command::Logout(args) => return images::logout(args).map(|()| ExitCode::SUCCESS),
        Command::Registry(args) => return images::registry(args).map(|()| ExitCode::SUCCESS),
        Command::Pods(args) => return pods::list(&cli.run_dir, args).map(|()| ExitCode::SUCCESS),
        Command::Events(args) => return pods::follow(&cli.run_dir, args).map(|()| ExitCode::SUCCESS),
        Command::PortForward(args) => {
            return port_forward::run(&cli.run_dir, args).map(|()| ExitCode::SUCCESS);
        }
        Command::Explain(args) => return explain::run(&cli, args).map(|()| ExitCode::SUCCESS),
        Command::Stats(args) => return stats::run(&cli, args).map(|()| ExitCode::SUCCESS),
        Command::Top(args) => return stats::top(&cli, args).map(|()| ExitCode::SUCCESS),
        Command::Ps(args) => return ps::run(&cli, args).map(|()| ExitCode::SUCCESS),
        Command::Logs(args) => return logs::run(&cli, args).map(|()| ExitCode::SUCCESS),
        Command::Exec(args) => return exec::run(&cli, args),
        Command::Attach(args) => return exec::attach(&cli, args),
        Command::Get(args) => return objects::get(&cli.data_dir, args).map(|()| ExitCode::SUCCESS),
        Command::Describe(args) => return objects::describe(&cli.data_dir, args).map(|()| ExitCode::SUCCESS),
        Command::Apply(args) => return objects::apply(&cli.data_dir, args).map(|()| ExitCode::SUCCESS),
        Command::Delete(args) => return objects::delete(&cli.data_dir, args).map(|()| ExitCode::SUCCESS),
        Command::Rollout(args) => return objects::rollout(&cli.data_dir, args).map(|()| ExitCode::SUCCESS),
        Command::Scale(args) => return objects::scale(&cli.data_dir, args).map(|()| ExitCode::SUCCESS),
        Command::Wait(args) if args.event.is_some() => {
            return objects::wait(&cli.data_dir, args).map(|()| ExitCode::SUCCESS);
        }
        Command::Demo(args) => return demo::run(args, &cli),
        _ => {}
    }
    let instance = Instance::open(&cli.data_dir, &cli.run_dir)?;
    let done = match cli.command {
        Command::Run(args) => return run::run(&instance, &args),
        Command::Node(args) => return node::run(instance, &args).map(|()| ExitCode::SUCCESS),
        Command::Up(args) => return up::run(&instance, &args),
        Command::Down(args) => return up::down(&instance, &args),
        Command::Reset(args) => return up::reset(&instance, &args),
        Command::Status(args) => return up::status(&instance, &args),
        Command::Services(args) => return services::run(&instance, &args).map(|()| ExitCode::SUCCESS),
        Command::Mesh(args) => return mesh::run(&instance, &args).map(|()| ExitCode::SUCCESS),
        Command::Cni(args) => return cni::run(&instance, &args),
        Command::Wait(args) => containers::wait(&instance, &args.names),
        Command::Start(args) => return containers::start(&instance, &args),
        Command::Stop(args) => return containers::stop(&instance, &args),
        Command::Kill(args) => return containers::kill(&instance, &args),
        Command::Rm(args) => return containers::rm(&instance, &args),
        Command::Pause(args) => return containers::pause(&instance, &args.containers, true),
        Command::Unpause(args) => return containers::pause(&instance, &args.containers, false),
        Command::Reap(args) => containers::reap(&instance, &args.id),
        Command::Cp(args) => transfer::run(&instance, &args),
        Command::Inspect(args) => inspect::run(&instance, &args),
        Command::Prune(args) => prune::run(&instance, &args),
        Command::Pull(args) => images::pull(&instance, &args),
        Command::Push(args) => images::push(&instance, &args),
        Command::Images(args) => images::list(&instance, &args),
        Command::Verify(args) => images::verify(&instance, &args),
        Command::Rmi(args) => images::remove(&instance, &args),
        Command::Tag(args) => images::tag(&instance, &args),
        Command::Save(args) => images::save(&instance, &args),
        Command::Load(args) => images::load(&instance, &args),
        Command::Completions(_)
        | Command::Man(_)
        | Command::Api(_)
        | Command::Agent(_)
        | Command::Control(_)
        | Command::Announce(_)
        | Command::Check(_)
        | Command::Cloud(_)
        | Command::CsiDriver(_)
        | Command::Csi(_)
        | Command::Version(_)
        | Command::Login(_)
        | Command::Logout(_)
        | Command::Registry(_)
        | Command::Pods(_)
        | Command::Events(_)
        | Command::PortForward(_)
        | Command::Explain(_)
        | Command::Stats(_)
        | Command::Top(_)
        | Command::Ps(_)
        | Command::Logs(_)
        | Command::Exec(_)
        | Command::Attach(_)
        | Command::Get(_)
        | Command::Describe(_)
        | Command::Apply(_)
        | Command::Delete(_)
        | Command::Rollout(_)
        | Command::Scale(_)
        | Command::Demo(_) => Ok(()),
    };
    done.map(|()| ExitCode::SUCCESS)
}
