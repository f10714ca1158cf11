//! This command's standard streams for the side that does not block: a thread for each, and a socket between.
//!
//! A thread may wait in a read or a write that never ends (a terminal nobody types at, a pager that is not scrolled), and
//! no file that can be standard input refuses it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream as Blocking;
use std::thread::JoinHandle;

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::stream::DetachKeys;

const PIECE: usize = 16 << 10;

/// What comes from standard input. With `keys` the second resolves once the person has typed what leaves.
pub(super) fn stdin(keys: bool) -> io::Result<(UnixStream, oneshot::Receiver<()>)> {
    let (mut thread, here) = pair()?;
    let (left, leaves) = oneshot::channel();
    // Nobody waits for it: it may be in a read when the command ends.
    std::thread::spawn(move || {
        let (mut input, mut filter) = (io::stdin(), DetachKeys::default());
        let mut piece = [0; PIECE];
        loop {
            match input.read(&mut piece) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(n @ 1..) => {
                    let (data, leave) = filter.filter(&piece[..n], keys);
                    if leave {
                        let _ = left.send(());
                        return;
                    }
                    if thread.write_all(&data).is_err() {
                        return;
                    }
                }
                // What was typed is told to have ended by the socket's end.
                _ => return,
            }
        }
    });
    Ok((here, leaves))
}

/// One that nothing comes from, and that does not end either.
pub(super) fn silence() -> io::Result<(UnixStream, Blocking)> {
    let (other, here) = pair()?;
    Ok((here, other))
}

/// Where output goes, and the thread that writes it; it ends with the stream, and says what could not be written.
pub(super) fn output(
    mut to: impl Write + Send + 'static,
) -> io::Result<(UnixStream, JoinHandle<io::Result<()>>)> {
    let (mut thread, here) = pair()?;
    let writer = std::thread::spawn(move || {
        let mut piece = [0; PIECE];
        let mut written = Ok(());
        loop {
            match thread.read(&mut piece) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Whoever read it may have gone (`| head`): the program inside goes on.
                Ok(n @ 1..) if written.is_ok() => {
                    written = to.write_all(&piece[..n]).and_then(|()| to.flush());
                }
                Ok(1..) => {}
                Ok(0) | Err(_) => return written,
            }
        }
    });
    Ok((here, writer))
}

/// A blocking end and one that does not block.
fn pair() -> io::Result<(Blocking, UnixStream)> {
    let (blocking, other) = Blocking::pair()?;
    other.set_nonblocking(true)?;
    Ok((blocking, UnixStream::from_std(other)?))
}
