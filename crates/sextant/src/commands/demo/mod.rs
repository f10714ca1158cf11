//! The main job, shown on this machine: a registry and an image, `sextant up` in a folder and a network of its own, the shop of
//! `examples/` on it, a load balancer by which another host reaches it, a volume with a snapshot, a mesh in which traffic is shifted from one version of a
//! Service to the next, nothing left.

pub(crate) mod app;
mod examples;
mod host;
mod image;
mod load;
mod mesh;
mod place;
mod shop;
mod show;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kernel::signal::Signals;
use rustix::process::Signal;
use serde_json::json;

use crate::cli::{Cli, DemoArgs};
use crate::failure::{Failure, Result};
use crate::instance::Instance;
use crate::output::{self, Table};
use place::Place;

/// One line of the table at the end.
#[derive(Debug)]
struct Step {
    interface: &'static str,
    what: String,
    took: Duration,
}

/// The steps so far, and the signals that end the demo early.
#[derive(Debug)]
struct Story {
    steps: Vec<Step>,
    signals: Signals,
    quiet: bool,
}

impl Story {
    /// Does one step, says so, and remembers how long it took.
    fn step<T>(
        &mut self,
        interface: &'static str,
        what: impl Into<String>,
        act: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let what = what.into();
        self.check()?;
        let begun = Instant::now();
        let result = act()?;
        let took = begun.elapsed();
        self.say(interface, &what, took);
        self.steps.push(Step { interface, what, took });
        Ok(result)
    }

    /// A step that was timed elsewhere.
    fn note(&mut self, interface: &'static str, what: impl Into<String>, took: Duration) {
        let what = what.into();
        self.say(interface, &what, took);
        self.steps.push(Step { interface, what, took });
    }

    /// Whoever read this may be gone: what was made is undone all the same.
    fn say(&self, interface: &str, what: &str, took: Duration) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "  {interface:4} {what} ({})", duration(took));
        }
    }

    /// Ends the demo if somebody asked for it.
    fn check(&self) -> Result<()> {
        match self.signals.next() {
            Some(signal) => Err(Failure::new("interrupted").with_code((128 + signal) as u8)),
            None => Ok(()),
        }
    }

    /// Waits until somebody asks for the end.
    fn wait(&self) -> Result<()> {
        let mut fds = [rustix::event::PollFd::new(&self.signals, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None)?;
        Ok(())
    }
}

pub(super) fn run(args: &DemoArgs, cli: &Cli) -> Result<ExitCode> {
    if args.image {
        let instance = Instance::open(&cli.data_dir, &cli.run_dir)?;
        return image::make_here(&instance).map(|()| ExitCode::SUCCESS);
    }
    // Before any thread starts: a signal must find nobody else who takes it.
    let signals = Signals::receive(&[Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw))?;
    let mut story = Story { steps: Vec::new(), signals, quiet: args.output.json() };
    let place = Place::make()?;
    let told = show::tell(&mut story, &place).and_then(|()| {
        if args.keep {
            place.explain();
            story.wait()?;
        }
        Ok(())
    });
    let begun = Instant::now();
    let left = place.clean();
    if left.is_empty() {
        story.note(
            "all",
            "everything undone: pods, programs, objects, volumes, networks, rules, cgroups, files",
            begun.elapsed(),
        );
    }
    let code = told.as_ref().err().map_or(1, Failure::code);
    let failures: Vec<String> = told.err().into_iter().chain(left).map(|f| f.to_string()).collect();
    if !failures.is_empty() {
        return Err(Failure::new(failures.join("; ")).with_code(code));
    }
    print(&story, args)?;
    Ok(ExitCode::SUCCESS)
}

fn print(story: &Story, args: &DemoArgs) -> Result<()> {
    if args.output.json() {
        let steps: Vec<_> = story
            .steps
            .iter()
            .map(|s| json!({"interface": s.interface, "what": s.what, "seconds": s.took.as_secs_f64()}))
            .collect();
        return Ok(output::json(&json!({ "steps": steps }))?);
    }
    let mut table = Table::new(["INTERFACE", "WHAT RAN", "TIME"]);
    for step in &story.steps {
        table.row([step.interface.into(), step.what.clone(), duration(step.took)]);
    }
    // Between what ran and what it came to.
    writeln!(std::io::stdout())?;
    Ok(table.print()?)
}

fn duration(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 1.0 => format!("{s:.2} s"),
        s => format!("{:.1} ms", s * 1000.0),
    }
}
