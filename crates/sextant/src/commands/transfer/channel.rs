//! A pipe within this process. A real one would bring its signal along: SIGPIPE ends a command line.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// How many writes may be under way.
const DEPTH: usize = 8;

/// The end that is written to. [`Output::end`] says that all is written; without it the reader gets an error.
pub(super) struct Output(Option<SyncSender<Vec<u8>>>);

/// The end that is read from.
pub(super) struct Input {
    receiver: Receiver<Vec<u8>>,
    current: Vec<u8>,
    taken: usize,
    ended: bool,
}

pub(super) fn channel() -> (Output, Input) {
    let (sender, receiver) = sync_channel(DEPTH);
    (Output(Some(sender)), Input { receiver, current: Vec::new(), taken: 0, ended: false })
}

impl Output {
    /// An empty message is the end.
    pub(super) fn end(&mut self) {
        if let Some(sender) = self.0.take() {
            // A reader that is gone needs no end.
            _ = sender.send(Vec::new());
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sender = self.0.as_ref().filter(|_| !bytes.is_empty());
        match sender.map(|sender| sender.send(bytes.to_vec())) {
            Some(Ok(())) => Ok(bytes.len()),
            Some(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.current.len() && !self.ended {
            self.current = self.receiver.recv().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            self.taken = 0;
            self.ended = self.current.is_empty();
        }
        let mut rest = self.current.get(self.taken..).unwrap_or_default();
        let n = rest.read(buffer)?;
        self.taken += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let (mut output, mut input) = channel();
        output.write_all(b"one, ").unwrap();
        output.write_all(b"two").unwrap();
        output.end();
        let mut text = String::new();
        input.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one, two");
    }

    #[test]
    fn a_writer_that_gives_up_is_no_end() {
        let (mut output, mut input) = channel();
        output.write_all(b"half").unwrap();
        drop(output);
        assert_eq!(input.read_to_end(&mut Vec::new()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_reader_that_gives_up_is_an_error() {
        let (mut output, input) = channel();
        drop(input);
        assert_eq!(output.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
