//! The commands for people: what they show of a node's pods, how they end, and what they say to mistakes.

mod attach;
mod demo;
mod exec;
mod explain;
mod forward;
mod logs;
mod screen;
mod usage;

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, Output, Stdio};

use cri::contract::v1::ContainerConfig;

use crate::Test;
use crate::bench::Bench;

pub(crate) const TESTS: &[Test] = &[
    ("cli_logs_show_what_was_written", logs::shown),
    ("cli_logs_of_the_previous_container", logs::previous),
    ("cli_logs_follow_through_rotation", logs::rotated),
    ("cli_logs_and_mistakes", logs::mistakes),
    ("cli_own_containers_come_first", logs::own_first),
    ("cli_exec_carries_streams_and_the_code", exec::streams),
    ("cli_exec_on_a_terminal", exec::terminal),
    ("cli_exec_that_is_ended_ends_the_program", exec::ended_by_signal),
    ("cli_exec_and_mistakes", exec::mistakes),
    ("cli_attach_leaves_and_comes_back", attach::terminal),
    ("cli_attach_ends_with_the_programs_code", attach::code),
    ("cli_ports_are_forwarded", forward::ports),
    ("cli_ports_and_mistakes", forward::mistakes),
    ("cli_explain_tells_the_story_of_a_pod", explain::story),
    ("cli_explain_tells_of_a_pod_that_could_not_be_made", explain::not_made),
    ("cli_ps_lists_containers_of_pods_too", usage::ps),
    ("cli_stats_and_top_show_pods", usage::stats),
    ("demo_shows_pods_and_leaves_nothing", demo::shown),
    ("demo_that_was_killed_is_cleared_by_the_next", demo::killed),
];

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Bench {
    fn cli(&self, args: &[&str]) -> Ended {
        ended(self.command(args).output().unwrap())
    }

    /// What must succeed: its standard output.
    #[track_caller]
    fn says(&self, args: &[&str]) -> String {
        let ended = self.cli(args);
        assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
        ended.out
    }

    /// What must fail with this code and say all of these words, in one line.
    #[track_caller]
    fn refuses(&self, code: i32, args: &[&str], words: &[&str]) {
        let ended = self.cli(args);
        assert_eq!(ended.code, code, "{args:?}: {ended:?}");
        assert!(ended.err.starts_with("sextant: ") && ended.err.lines().count() == 1, "{args:?}: {ended:?}");
        words.iter().for_each(|word| assert!(ended.err.contains(word), "{args:?}, {word}: {}", ended.err));
    }
}

fn ended(output: Output) -> Ended {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// A command that goes on, with its streams in pipes.
fn spawn(mut command: Command) -> Running {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running(Some(command.spawn().unwrap()))
}

/// A command that does not outlive the test that it is of.
struct Running(Option<Child>);

impl Running {
    fn wait_with_output(mut self) -> std::io::Result<Output> {
        self.0.take().unwrap().wait_with_output()
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A container that waits at its input.
fn interactive(name: &str, words: &[&str], tty: bool) -> ContainerConfig {
    let mut config = crate::wishes::container(name, words);
    (config.stdin, config.tty) = (true, tty);
    config
}
