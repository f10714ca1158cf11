//! This command's standard streams on one side, a process of a container on the other.

use std::io::{self, Write};
use std::os::fd::AsFd;

use kernel::signal::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use shim::client::{Client, Event};
use shim::protocol::{Exited, Input, KillRequest, Output};

use crate::failure::{Context, Result};
use crate::terminal::{self, Raw};

/// Signals that go on to the program, as if it ran here.
const FORWARDED: [Signal; 5] = [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1];
const WINDOW: i32 = Signal::WINCH.as_raw();

/// How a stream is carried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Carry<'a> {
    /// The process.
    pub(crate) exec_id: &'a str,
    pub(crate) stdin: bool,
    pub(crate) terminal: bool,
    /// Signals that come here go to the process.
    pub(crate) forward: bool,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The process has.
    Exited(Exited),
    /// The person left by Ctrl-P Ctrl-Q; the process goes on.
    Detached,
}

/// Blocks the signals that [`carry`] takes: before the process may begin to send output, so that none is missed.
pub(crate) fn signals() -> Result<Signals> {
    let all: Vec<i32> = FORWARDED.into_iter().map(Signal::as_raw).chain([WINDOW]).collect();
    Ok(Signals::receive(&all)?)
}

/// Carries input and output until the process has ended, or the person has left.
pub(crate) fn carry(
    client: &mut Client,
    stream: u32,
    carry: Carry<'_>,
    signals: &Signals,
    early: Vec<(u32, Event)>,
) -> Result<End> {
    let mut raw = if carry.terminal && carry.stdin { Raw::enter() } else { None };
    if carry.terminal {
        send_size(client, stream)?;
    }
    let mut keys = DetachKeys::default();
    let mut reading = carry.stdin;
    // The shim takes no input while nobody reads its output: this loop must not wait for one of them alone.
    let mut behind = false;
    let mut here = early;
    here.extend(client.here_already()?);
    if let Some(end) = deliver(here, stream)? {
        return Ok(end);
    }
    loop {
        let stdin = io::stdin();
        let (from_shim, from_stdin, from_signals) = {
            let shim = if behind { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
            let mut fds =
                vec![PollFd::from_borrowed_fd(client.socket(), shim), PollFd::new(signals, PollFlags::IN)];
            if reading && !behind {
                fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other.context(|| "wait for input and output".into())?,
            };
            let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
            let to_shim = fds[0].revents().contains(PollFlags::OUT);
            behind &= !to_shim;
            (fds[0].revents() != PollFlags::OUT && ready(0), ready(2), ready(1))
        };
        if from_signals {
            forward(client, stream, carry, signals, &mut raw)?;
        }
        if from_stdin && !takes_input(client)? {
            behind = true;
        } else if from_stdin {
            let mut piece = [0; 16 << 10];
            match rustix::io::read(stdin.as_fd(), &mut piece) {
                Ok(n) if n > 0 => {
                    let (data, leave) = keys.filter(&piece[..n], carry.terminal);
                    client.send_input(stream, &Input { data, ..Input::default() })?;
                    if leave {
                        return Ok(End::Detached);
                    }
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                _ => {
                    reading = false;
                    client.send_input(stream, &Input { close: true, ..Input::default() })?;
                }
            }
        }
        if from_shim {
            let events = client.events()?;
            if let Some(end) = deliver(events, stream)? {
                return Ok(end);
            }
        }
    }
}

/// Whether the socket has room for a piece of input, so that sending it does not block.
fn takes_input(client: &Client) -> Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(client.socket(), PollFlags::OUT)];
    let ready = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&rustix::time::Timespec::default())));
    Ok(ready.context(|| "wait for the shim".into())? > 0)
}

fn deliver(events: Vec<(u32, Event)>, stream: u32) -> Result<Option<End>> {
    for (_, event) in events.into_iter().filter(|(s, _)| *s == stream) {
        match event {
            Event::Output(output) => write(&output)?,
            Event::Exited(exited) => return Ok(Some(End::Exited(exited))),
        }
    }
    Ok(None)
}

/// A reader that went away (`| head`) ends the writing, not the container.
fn write(output: &Output) -> Result<()> {
    let to = |mut out: Box<dyn Write>, data: &[u8]| {
        if data.is_empty() { Ok(()) } else { out.write_all(data).and_then(|()| out.flush()) }
    };
    match to(Box::new(io::stdout().lock()), &output.stdout)
        .and_then(|()| to(Box::new(io::stderr().lock()), &output.stderr))
    {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context(|| "write output".into()),
    }
}

fn forward(
    client: &mut Client,
    stream: u32,
    carry: Carry<'_>,
    signals: &Signals,
    raw: &mut Option<Raw>,
) -> Result<()> {
    while let Some(signal) = signals.next() {
        if signal == WINDOW {
            send_size(client, stream)?;
        } else if carry.forward {
            // A process that has just ended gets no signal; its end is on the way.
            let _ = client.kill_nowait(&KillRequest {
                exec_id: carry.exec_id.to_owned(),
                signal,
                all: false,
                container: String::new(),
            });
        } else {
            // Nothing is dropped on the way out: the terminal is given back by hand.
            drop(raw.take());
            std::process::exit(128 + signal);
        }
    }
    Ok(())
}

fn send_size(client: &mut Client, stream: u32) -> Result<()> {
    match terminal::size() {
        Some(size) => Ok(client.send_input(stream, &Input { size: Some(size), ..Input::default() })?),
        None => Ok(()),
    }
}

/// Finds Ctrl-P Ctrl-Q in what is typed.
#[derive(Debug, Default)]
pub(crate) struct DetachKeys {
    half: bool,
}

impl DetachKeys {
    /// What goes on to the process, and whether the person leaves. A Ctrl-P waits for the next key.
    pub(crate) fn filter(&mut self, typed: &[u8], terminal: bool) -> (Vec<u8>, bool) {
        const CTRL_P: u8 = 0x10;
        const CTRL_Q: u8 = 0x11;
        if !terminal {
            return (typed.to_vec(), false);
        }
        let mut out = Vec::with_capacity(typed.len());
        for &key in typed {
            match (self.half, key) {
                (true, CTRL_Q) => return (out, true),
                (true, CTRL_P) => out.push(CTRL_P),
                (true, key) => {
                    out.extend([CTRL_P, key]);
                    self.half = false;
                }
                (false, CTRL_P) => self.half = true,
                (false, key) => out.push(key),
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_found_across_reads() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"ab\x10", true), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"c", true), (b"\x10c".to_vec(), false));
        assert_eq!(keys.filter(b"\x10\x10", true), (b"\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11x", true), (vec![], true));
        assert_eq!(DetachKeys::default().filter(b"\x10\x11", false), (b"\x10\x11".to_vec(), false));
    }
}
