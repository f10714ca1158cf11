//! Messages to a socket that several share.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

type Message = (Vec<u8>, oneshot::Sender<io::Result<()>>);

/// Writes messages one after the other, on a task of its own: whoever gives up waiting for his leaves it whole on the
/// wire, not half with the next one after it. The socket's end closes with this.
#[derive(Debug)]
pub(crate) struct Writer {
    messages: mpsc::Sender<Message>,
    task: AbortHandle,
}

impl Writer {
    /// Writes to `socket`.
    pub(crate) fn new(mut socket: OwnedWriteHalf) -> Self {
        // One is being written, one waits here, and who has more waits himself.
        let (messages, mut waiting) = mpsc::channel::<Message>(1);
        let write = async move {
            while let Some((bytes, done)) = waiting.recv().await {
                let written = socket.write_all(&bytes).await;
                let broken = written.is_err();
                let _ = done.send(written);
                if broken {
                    return;
                }
            }
        };
        Self { messages, task: tokio::spawn(write).abort_handle() }
    }

    /// Sends a message, and waits until the socket has it. One that nobody waits for any more may be sent nevertheless.
    ///
    /// # Errors
    /// The socket takes no more.
    pub(crate) async fn send(&self, message: Vec<u8>) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "the connection is closed");
        self.messages.send((message, done)).await.map_err(|_| closed())?;
        written.await.map_err(|_| closed())?
    }

    /// Sends nothing more, not even the rest of what is being written.
    pub(crate) fn close(&self) {
        self.task.abort();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_message_whose_sender_gave_up_is_whole() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, 64 << 10).unwrap();
        let (_read, half) = ours.into_split();
        let writer = Writer::new(half);
        // More than the socket holds, so that it stops in the middle.
        let long = vec![1; 8 << 20];
        let cut = tokio::time::timeout(Duration::from_millis(50), writer.send(long.clone())).await;
        cut.unwrap_err();
        let reading = tokio::spawn(async move {
            let mut bytes = vec![0; (8 << 20) + 3];
            theirs.read_exact(&mut bytes).await.unwrap();
            bytes
        });
        writer.send(vec![2; 3]).await.unwrap();
        assert!(reading.await.unwrap() == [long, vec![2; 3]].concat());
    }

    #[tokio::test]
    async fn it_says_that_nobody_reads_any_more() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_read, half) = ours.into_split();
        let writer = Writer::new(half);
        drop(theirs);
        let error = writer.send(vec![1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(writer.send(vec![1]).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn the_socket_closes_with_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (read, half) = ours.into_split();
        let writer = Writer::new(half);
        writer.send(vec![7]).await.unwrap();
        drop((read, writer));
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, [7]);
    }
}
