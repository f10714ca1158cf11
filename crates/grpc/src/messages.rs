//! The answers of a streaming call, as a handler gives them.

use std::task::{Context, Poll};

use tokio::sync::mpsc;

use crate::{Code, Status};

/// A stream of answers: a list that is there already, or the receiving end of a channel.
#[derive(Debug)]
pub struct Messages<T>(Source<T>);

#[derive(Debug)]
enum Source<T> {
    List(std::vec::IntoIter<T>),
    Channel(mpsc::Receiver<Result<T, Status>>),
}

impl<T> Messages<T> {
    /// A bounded channel: its sender waits while `capacity` messages are not sent yet. The stream ends, without error,
    /// when the last sender is dropped.
    #[must_use]
    pub fn channel(capacity: usize) -> (Sender<T>, Self) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        (Sender(sender), Self(Source::Channel(receiver)))
    }

    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<T, Status>>> {
        match &mut self.0 {
            Source::List(list) => Poll::Ready(list.next().map(Ok)),
            Source::Channel(receiver) => receiver.poll_recv(context),
        }
    }
}

impl<T> From<Vec<T>> for Messages<T> {
    fn from(list: Vec<T>) -> Self {
        Self(Source::List(list.into_iter()))
    }
}

/// Where a handler puts the answers of a stream.
#[derive(Debug)]
pub struct Sender<T>(mpsc::Sender<Result<T, Status>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Sends one answer, after those before it.
    ///
    /// # Errors
    /// [`Code::Cancelled`] once the caller is gone: time to stop.
    pub async fn send(&self, message: T) -> Result<(), Status> {
        self.0.send(Ok(message)).await.map_err(|_| gone())
    }

    /// The same from a thread that may wait.
    ///
    /// # Errors
    /// See [`Sender::send`].
    ///
    /// # Panics
    /// Within an asynchronous task.
    pub fn send_blocking(&self, message: T) -> Result<(), Status> {
        self.0.blocking_send(Ok(message)).map_err(|_| gone())
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// [`Code::ResourceExhausted`] where the caller reads too slowly, [`Code::Cancelled`] where it is gone.
    pub fn try_send(&self, message: T) -> Result<(), Status> {
        self.0.try_send(Ok(message)).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => {
                Status::new(Code::ResourceExhausted, "the caller reads too slowly")
            }
            mpsc::error::TrySendError::Closed(_) => gone(),
        })
    }

    /// Ends the stream with an error.
    pub async fn fail(self, status: Status) {
        // A caller that is gone needs no error.
        let _gone = self.0.send(Err(status)).await;
    }

    /// Resolves when the caller is gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

fn gone() -> Status {
    Status::new(Code::Cancelled, "the caller is gone")
}
