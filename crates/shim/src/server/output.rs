//! What processes write: to the log, and to whoever is attached.

use std::io;

use rustix::event::epoll::EventFlags;

use super::log::Log;
use super::waiting::Source;
use super::{FIRST, Key, Server};
use crate::protocol::Output;

/// Bytes read from a process at once. The buffer is on the stack, whose pages stay: a pipe holds four times as much.
const PIECE: usize = 16 << 10;

/// Bytes read at most of what a process that has ended left behind: the longest pipe there is. What it started and left
/// running may go on to write for ever.
const LEFT_BEHIND: usize = 1 << 20;

impl Server {
    /// Registers the streams of a process that was just made.
    pub(super) fn watch_streams(&mut self, key: Key) -> io::Result<()> {
        self.listen_for(Source::Output(key, 0), EventFlags::IN)?;
        self.listen_for(Source::Output(key, 1), EventFlags::IN)?;
        // A terminal is one descriptor for both ways.
        match self.processes.get(&key) {
            Some(process) if !process.has_console() => {
                self.listen_for(Source::Input(key), EventFlags::empty())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn watch_end(&mut self, key: Key) -> io::Result<()> {
        if let (Some(process), Some(foreign)) = (self.processes.get(&key), self.runtime.foreign()) {
            foreign.watch(&process.container, &process.exec_id, key);
            return Ok(());
        }
        self.listen_for(Source::End(key), EventFlags::IN)
    }

    /// Reads once; the rest is announced again.
    pub(super) fn read_output(&mut self, key: Key, index: usize) {
        self.read_piece(key, index);
    }

    /// Reads once: how much came. 0 is nothing for now, or the end.
    #[inline(never)]
    fn read_piece(&mut self, key: Key, index: usize) -> usize {
        let mut buffer = [0; PIECE];
        let Some(process) = self.processes.get_mut(&key) else { return 0 };
        if let Some(n) = process.read(index, &mut buffer) {
            self.deliver(key, index, &buffer[..n]);
            return n;
        }
        self.forget(&Source::Output(key, index));
        if let Some(log) = self.log_of(key) {
            log.finish(index);
        }
        0
    }

    /// Reads what a process that has ended left in its pipes.
    pub(super) fn read_last(&mut self, key: Key) {
        for index in [0, 1] {
            let mut left = LEFT_BEHIND;
            while left > 0 && self.read_piece(key, index) > 0 {
                left = left.saturating_sub(PIECE);
            }
            if let Some(process) = self.processes.get_mut(&key) {
                process.close_output(index);
            }
            // Its end.
            self.read_piece(key, index);
        }
    }

    /// The log that a process's output goes to.
    pub(super) fn log_of(&mut self, key: Key) -> Option<&mut Log> {
        let process = self.processes.get(&key).filter(|p| p.exec_id == FIRST)?;
        self.containers.get_mut(&process.container)?.log.as_mut()
    }

    fn deliver(&mut self, key: Key, index: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        if let Some(log) = self.log_of(key) {
            log.write(index, data);
        }
        let Some(process) = self.processes.get_mut(&key) else { return };
        if let Some(streams) = &mut process.streams {
            streams.take(data);
        }
        if process.attached.is_empty() {
            return;
        }
        let output = match index {
            0 => Output { stdout: data.to_vec(), ..Output::default() },
            _ => Output { stderr: data.to_vec(), ..Output::default() },
        };
        for attached in &process.attached {
            if let Some(connection) = self.connections.get_mut(&attached.connection) {
                connection.data(attached.stream, &output);
            }
        }
    }
}
