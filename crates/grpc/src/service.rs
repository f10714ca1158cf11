//! What generated code makes of a service: methods by name, from bytes to bytes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use prost::Message;

use crate::{Code, Messages, Status, frame};

/// A service of the server. Generated code implements it.
pub trait Service: Send + Sync + 'static {
    /// Its full name: `package.Service`.
    fn name(&self) -> &'static str;

    /// Begins the call of a method; `None` for a method that the service does not have.
    fn call(&self, method: &str, request: Bytes) -> Option<Answer>;
}

/// A call that is running. Dropping it ends it.
pub type Answer = Pin<Box<dyn Future<Output = Result<Reply, Status>> + Send>>;

/// What a call answers.
pub enum Reply {
    /// One message, framed.
    One(Bytes),
    /// A stream of them.
    Many(Box<dyn Frames>),
}

/// Framed messages, one after the other.
pub trait Frames: Send {
    /// As in a stream: `None` is the end, an error is the end too.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>>;
}

impl<T: Message> Frames for Messages<T> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        self.poll_next(context).map(|next| next.map(|message| frame::encode(&message?)))
    }
}

/// Runs a handler that gives one answer.
pub fn unary<Q, A, F>(request: Bytes, handler: impl FnOnce(Q) -> F + Send + 'static) -> Answer
where
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>> + Send + 'static,
{
    match decode(request) {
        Ok(request) => {
            let answer = handler(request);
            Box::pin(async move { frame::encode(&answer.await?).map(Reply::One) })
        }
        Err(status) => Box::pin(std::future::ready(Err(status))),
    }
}

/// Runs a handler that gives a stream of answers.
pub fn streaming<Q, A, F>(request: Bytes, handler: impl FnOnce(Q) -> F + Send + 'static) -> Answer
where
    Q: Message + Default,
    A: Message + 'static,
    F: Future<Output = Result<Messages<A>, Status>> + Send + 'static,
{
    match decode(request) {
        Ok(request) => {
            let answer = handler(request);
            Box::pin(async move { Ok(Reply::Many(Box::new(answer.await?))) })
        }
        Err(status) => Box::pin(std::future::ready(Err(status))),
    }
}

fn decode<Q: Message + Default>(request: Bytes) -> Result<Q, Status> {
    let refused = |e| Status::new(Code::InvalidArgument, format!("cannot decode the request: {e}"));
    Q::decode(request).map_err(refused)
}
