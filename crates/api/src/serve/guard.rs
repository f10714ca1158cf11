//! A panic while a request is answered is the end of that request, not of the server.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::contract::Status;

thread_local! {
    static ANSWERING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread answers a request just now: a panic is caught then. A hook of a program that would rather end than
/// go on without one of its other tasks asks this.
#[must_use]
pub fn is_answering() -> bool {
    ANSWERING.get()
}

/// A future whose panics are its outcome.
pub(crate) struct Guarded<F>(Pin<Box<F>>);

/// Guards what answers a request.
pub(crate) fn guarded<F: Future>(inner: F) -> Guarded<F> {
    Guarded(Box::pin(inner))
}

/// Runs what is done for a request in a thread of its own; a panic of it is for whoever joins that thread.
pub(crate) fn for_a_request<T>(work: impl FnOnce() -> T) -> T {
    let before = ANSWERING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    ANSWERING.set(before);
    outcome.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// What a panic said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Panicked(pub(crate) String);

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = &mut self.get_mut().0;
        let before = ANSWERING.replace(true);
        // What a request shares with others is behind locks that hold whole values, and in the store, which is a thread of
        // its own.
        let outcome = catch_unwind(AssertUnwindSafe(|| inner.as_mut().poll(context)));
        ANSWERING.set(before);
        match outcome {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(Panicked(said(payload.as_ref())))),
        }
    }
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

impl Panicked {
    /// Tells it to who reads the server's log, and gives what the client is told.
    pub(crate) fn told(&self, request: &str) -> Status {
        eprintln!("sextant api: error: {request} made the server panic: {}", self.0);
        Status::internal("this request made the server panic; its log says where")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_outcome_and_the_thread_goes_on() {
        let panics = async {
            tokio::task::yield_now().await;
            assert!(is_answering());
            if is_answering() {
                panic!("{} is wrong", "this");
            }
        };
        assert_eq!(guarded(panics).await, Err(Panicked("this is wrong".to_owned())));
        assert!(!is_answering());
        assert_eq!(guarded(async { 7 }).await, Ok(7));
    }
}
